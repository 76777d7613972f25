"""The nine claims in detail: definition, effect, interval, sentence."""

from __future__ import annotations

import math

from fastmlp.report.claims import GAP
from fastmlp.report.findings import Findings
from fastmlp.report.judgement import FAILS, HOLDS, OPEN, Effect, Verdict, decide
from fastmlp.report.markup import Markup, code, paragraph, section, tag
from fastmlp.report.sections.overview import badge
from fastmlp.report.wording import interval_in_words, plural, typographic

_WIDTH, _HEIGHT, _MARGIN = 300, 40, 14

_OUTCOMES = {HOLDS: "there it holds", FAILS: "there it does not hold", OPEN: "there it is not decided"}
_GROWTHS = {
    HOLDS: "it grows more",
    FAILS: "it grows less",
    OPEN: "no difference that could not be chance",
}


def verdicts(findings: Findings) -> Markup:
    """Write the section."""
    introduction = (
        "A claim holds if the 95 % confidence interval of the effect lies within what the claim says, does not "
        "hold if it lies outside, and is not decided if it is partly in it. Effects are differences between two "
        "networks with the same seed, or between the last and the first epoch of one, averaged over "
        f"{plural(findings.plan.seeds, 'seed')}; the intervals are Student's for the mean of these differences. "
        "Positive means: as the claim says. One such interval in twenty misses the truth, so it would be no wonder "
        "if one of the nine did; that makes a verdict doubtful only where the interval ends close to an end of what "
        "the claim says. No definition was changed after its result was seen."
    )
    drawings = (
        "In the drawings the dot is the mean, the bar its interval and each circle a seed; dashed lines are the ends "
        "of what the claim says."
    )
    return section(
        "claims", "The nine claims", paragraph(introduction), paragraph(drawings), *map(_block, findings.verdicts)
    )


def _block(verdict: Verdict) -> Markup:
    claim, effect = verdict.claim, verdict.effect
    title = f"{claim.number}. {typographic(claim.statement)} "
    alone = claim.reference == claim.subject
    networks = (code(claim.subject),) if alone else (code(claim.subject), " against ", code(claim.reference))
    remark = f" {typographic(claim.remark)}" if claim.remark else None
    drawing = None
    if effect is not None and effect.interval is not None:
        words = interval_in_words(effect.interval, claim.measure.unit)
        drawing = tag(
            "figure",
            interval_drawing(effect, claim.at_most),
            tag("figcaption", f"Effect ({claim.measure.quantity}): {words}"),
            class_="interval",
        )
    return tag(
        "div",
        tag("h3", title, badge(verdict.verdict), id=f"claim-{claim.number}"),
        paragraph(verdict.sentence),
        drawing,
        *(_further(verdict, what, other) for what, other in verdict.further),
        paragraph(
            "Network: " if alone else "Compared: ", *networks, ". ", claim.measure.definition, remark, class_="note"
        ),
        class_="claim",
    )


def _further(verdict: Verdict, what: str, effect: Effect) -> Markup | None:
    """Tell a comparison that does not decide."""
    if effect.interval is None:
        return None
    measure = verdict.claim.measure
    outcome = (_GROWTHS if measure is GAP else _OUTCOMES)[decide(effect)]
    return paragraph(f"Further, {what}: {interval_in_words(effect.interval, measure.unit)}; {outcome}.")


def interval_drawing(effect: Effect, at_most: float = math.inf) -> Markup:
    """Draw the interval as a bar, the mean and the seeds as dots, and the ends of what the claim says as lines."""
    assert effect.interval is not None
    mean, low, high = effect.interval
    ends = [0.0, at_most] if math.isfinite(at_most) else [0.0]
    limits = [*ends, low, high, *effect.values]
    start = min(limits)
    scale = (_WIDTH - 2 * _MARGIN) / ((max(limits) - start) or 1.0)

    def x(value: float) -> str:
        return f"{_MARGIN + (value - start) * scale:.1f}"

    middle = f"{_HEIGHT / 2 - 4:g}"
    lines = []
    for end in ends:
        lines.append(tag("line", x1=x(end), x2=x(end), y1=4, y2=_HEIGHT - 12, class_="zero"))
        lines.append(tag("text", f"{end:g}", x=x(end), y=_HEIGHT - 1, text_anchor="middle"))
    return tag(
        "svg",
        *lines,
        tag("line", x1=x(low), x2=x(high), y1=middle, y2=middle, class_="bar"),
        *(tag("circle", cx=x(value), cy=middle, r="2.5", class_="seed") for value in effect.values),
        tag("circle", cx=x(mean), cy=middle, r="4.5", class_="mean"),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label="the interval, its mean and the seeds against 0",
    )
