"""Parts of the sections on tasks 2 to 4: figures and tables of experiments."""

from __future__ import annotations

from collections.abc import Mapping

from fastmlp.report.experiments import Experiment
from fastmlp.report.findings import Findings
from fastmlp.report.markup import Markup, code, paragraph, table, tag
from fastmlp.report.sections.overview import badge
from fastmlp.report.training_record import TARGET_ACCURACY
from fastmlp.report.wording import count_parameters, describe_experiment, spread, steps_in_words, stops, typographic

# the parts of task 4 in the original; c) asked for no experiment
_LETTERS = {"units-32": "a) ", "units-128": "b) ", "two-layers": "d) ", "ten-layers": "e) "}


def comparison(findings: Findings, group: str, experiments: Mapping[str, Experiment]) -> list[Markup]:
    """Two figures with all experiments of a group, if there is something to compare."""
    if f"{group}-validation-loss" not in findings.drawings:
        return []
    names = ", ".join(experiments)
    figures = [
        findings.drawing(f"{group}-validation-{quantity}", f"Validation {quantity} against training steps of {names}")
        for quantity in ("loss", "accuracy")
    ]
    return [tag("div", *figures, class_="pair")]


def experiment_block(
    findings: Findings, experiment: Experiment, *remarks: Markup | None, with_title: bool = True
) -> Markup:
    """The two figures of the original for one experiment, with what it is, where early stopping hit, and remarks."""
    records = findings.records(experiment.name)
    name = experiment.name
    title = experiment.title or name
    heading = tag("h3", _LETTERS.get(name, ""), title[:1].upper() + title[1:], " ", code(name), id=f"experiment-{name}")
    figures = [
        findings.drawing(f"{name}-{kind}", f"{title}: training and validation {kind} against training steps")
        for kind in ("loss", "accuracy")
    ]
    return tag(
        "div",
        *([heading] if with_title else []),
        paragraph(describe_experiment(experiment, findings.sizes(experiment)) + ".", class_="note"),
        tag("div", *figures, class_="pair"),
        paragraph(stops(records)),
        *_claims(findings, name),
        *remarks,
        class_="experiment",
    )


def _claims(findings: Findings, name: str) -> list[Markup]:
    """Say what came of the claims about an experiment."""
    return [
        paragraph(
            tag("a", f"Claim {verdict.claim.number}", href=f"#claim-{verdict.claim.number}"),
            f": {typographic(verdict.claim.statement)} ",
            badge(verdict.verdict),
        )
        for verdict in findings.verdicts
        if verdict.claim.subject == name and verdict.effect is not None
    ]


def results_table(findings: Findings, experiments: Mapping[str, Experiment]) -> Markup:
    """What each experiment reached."""
    rows = []
    for name, experiment in experiments.items():
        records = findings.records(name)
        rows.append(
            (
                code(name),
                f"{count_parameters(findings.sizes(experiment)):,}",
                spread([record.best_validation_loss for record in records], 4),
                spread([100 * record.best_validation_accuracy for record in records], 2),
                spread([100 * record.final_training_accuracy for record in records], 2),
                steps_in_words(records),
                spread([record.steps / record.steps_per_epoch for record in records], 1),
                spread([record.training_seconds for record in records], 2),
            )
        )
    header = (
        "Network",
        "Parameters",
        "Best validation loss",
        "Best validation accuracy (%)",
        "Final training accuracy (%)",
        f"Steps to {100 * TARGET_ACCURACY:.0f}\N{NO-BREAK SPACE}% validation accuracy",
        "Epochs",
        "Seconds",
    )
    return table(header, rows, class_="numbers", label=f"results of {', '.join(experiments)}")
