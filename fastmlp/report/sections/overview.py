"""What the report is about, what came out, and how everything was trained."""

from __future__ import annotations

import collections

from fastmlp.report import judgement
from fastmlp.report.claims import GAP
from fastmlp.report.findings import Findings
from fastmlp.report.judgement import Verdict, decide, summarise
from fastmlp.report.markup import Markup, join, paragraph, section, table, tag
from fastmlp.report.wording import plural, typographic

_BADGES = {
    judgement.HOLDS: ("✓", "yes"),
    judgement.FAILS: ("✗", "no"),
    judgement.OPEN: ("?", "open"),
    judgement.UNTESTED: ("–", "untested"),
}
_TOTALS = {
    judgement.HOLDS: ("holds", "hold"),
    judgement.FAILS: ("does not hold", "do not hold"),
    judgement.OPEN: ("is not decided", "are not decided"),
    judgement.UNTESTED: ("was not tested", "were not tested"),
}


def badge(verdict: str) -> Markup:
    """Show a verdict with its sign; the colour is not needed to read it."""
    sign, kind = _BADGES[verdict]
    return tag("span", f"{sign} {verdict}", class_=f"badge {kind}")


def summary(findings: Findings) -> Markup:
    """Write the first thing to read: what was run and the verdicts."""
    plan = findings.plan
    trainings = sum(map(len, findings.results.trainings.values()))
    took = "" if findings.results.seconds is None else f" It took {_duration(findings.results.seconds)}."
    lead = (
        f"A course assignment on back-propagation, run again: {plural(len(plan.experiments), 'network')}, each "
        f"trained with {plural(plan.seeds, 'seed')}; {plural(trainings, 'training')} of at most "
        f"{plural(plan.protocol.epochs, 'epoch')}.{took} The original made nine claims about what helps a "
        "network to learn. This is what the measurements say about them:"
    )
    counts = collections.Counter(verdict.verdict for verdict in findings.verdicts)
    totals = [
        f"{counts[kind]} {one if counts[kind] == 1 else many}" for kind, (one, many) in _TOTALS.items() if counts[kind]
    ]
    return section(
        "summary",
        "Summary",
        paragraph(lead),
        table(("No.", "Claim", "Verdict"), map(_row, findings.verdicts), label="verdicts"),
        paragraph(f"Of the nine claims {_listed(totals)}."),
    )


def _row(verdict: Verdict) -> tuple[str, Markup, Markup]:
    number = verdict.claim.number
    link = tag("a", typographic(verdict.claim.statement), href=f"#claim-{number}")
    gist = "" if verdict.effect is None else summarise(verdict.claim, verdict.effect)
    lines = [tag("div", line[:1].upper() + line[1:], class_="note") for line in (gist, *_otherwise(verdict)) if line]
    return str(number), join((link, *lines)), badge(verdict.verdict)


def _otherwise(verdict: Verdict) -> list[str]:
    """Tell the comparisons that do not decide and come out otherwise than the one that does."""
    if verdict.claim.measure is GAP:  # there they are about something else: the growth with one hidden layer
        return []
    outcomes = {what: decide(effect, verdict.claim.at_most) for what, effect in verdict.further}
    return [f"{what}: {outcome}" for what, outcome in outcomes.items() if outcome != verdict.verdict]


def _listed(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes:
        return f"{minutes} min {rest:02d} s"
    return f"{seconds:.1f} s" if seconds < 10 else f"{rest} s"


def protocol(findings: Findings) -> Markup:
    """Write how all networks were trained, and how to read figures and tables."""
    plan, dataset = findings.plan, findings.dataset
    rules = plan.protocol
    items = (
        f"Data: the first {len(dataset.X_train):,} training samples of {_data_name(findings)} to train, all "
        f"{len(dataset.X_test):,} test samples to validate; standardised with the mean and the standard deviation of "
        "the training samples.",
        f"Mini-batches of {rules.batch_size} in a new random order every epoch; an incomplete last one is "
        "dropped. Gradient descent on the mean cross-entropy of the batch, with the learning rate and momentum given "
        "for each network.",
        f"Validation {rules.validations_per_epoch} times an epoch: validation loss and accuracy, and the "
        f"accuracy on all {len(dataset.X_train):,} training samples.",
        f"At most {plural(rules.epochs, 'epoch')}; early stopping after {rules.patience} validations in a row "
        "without a lower validation loss.",
        f"Every network with {plural(plan.seeds, 'seed')}. A seed decides the initial weights and the order of "
        "the samples, so that networks with the same seed can be compared in pairs.",
    )
    networks = (
        "784-64-10 has 784 inputs, a hidden layer of 64 units and 10 classes; 64×10 stands for ten hidden layers of "
        "64. All hidden layers have the activation function that is named; biases begin at 0."
    )
    figures = (
        "A line is the mean over the seeds. Bands: for the training loss one standard deviation of the batch "
        "losses up and down, otherwise from the lowest to the highest seed. A dotted line marks where early "
        "stopping ended a seed; from there on the mean of those still training is drawn fainter. The first "
        "epoch may leave the figure, a loss at the top and an accuracy at the bottom."
    )
    tables = (
        "Mean ± standard deviation over the seeds. Seconds are those of the training steps, without "
        f"validations and compiling, with {_at_a_time(findings)}."
    )
    caution = (
        "The test samples decide here when to stop and which validation was the best, as in the original; an "
        "accuracy so chosen is a little better than one on samples never looked at."
    )
    return section(
        "protocol",
        "Protocol",
        tag("ul", *(tag("li", item) for item in items)),
        paragraph(tag("strong", "Networks. "), networks),
        paragraph(tag("strong", "Figures. "), figures),
        paragraph(tag("strong", "Tables. "), tables),
        paragraph(tag("strong", "A caution. "), caution),
    )


def _at_a_time(findings: Findings) -> str:
    plan = findings.plan
    threads = "as many threads as help" if plan.threads is None else f"{plural(plan.threads, 'thread')} each"
    return f"{plural(plan.workers, 'training')} at a time and {threads}"


def _data_name(findings: Findings) -> str:
    return "MNIST" if findings.plan.data == "mnist" else findings.dataset.name
