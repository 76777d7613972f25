"""The results as files for other programs: one row per training, and everything in one document."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fastmlp.report.experiments import Experiment
from fastmlp.report.judgement import Verdict
from fastmlp.report.plan import Plan
from fastmlp.report.runner import Results
from fastmlp.report.training_record import TrainingRecord
from fastmlp.runs import network_name, replacing, write_json

SCHEMA_VERSION = 1
RESULTS, COMMAND = "results.json", "reproduce"

_COLUMNS = (
    "experiment", "tasks", "network", "activation", "init", "learning_rate", "momentum", "seed", "parameters", "status",
    "epochs", "steps", "best_validation_loss", "best_validation_accuracy", "best_step", "final_training_accuracy",
    "steps_to_95_percent", "mean_validation_loss_of_5_epochs", "gap_growth", "training_seconds", "seconds",
)  # fmt: skip


def training_row(experiment: Experiment, sizes: Sequence[int], record: TrainingRecord) -> dict[str, Any]:
    """One training in plain values; accuracies are fractions."""
    values = (
        experiment.name, " ".join(experiment.tasks), network_name(sizes), experiment.activation, experiment.init,
        experiment.learning_rate, experiment.momentum, record.seed, record.n_parameters, record.status,
        record.epochs, record.steps, record.best_validation_loss, record.best_validation_accuracy,
        None if record.best is None else int(record.step[record.best]), record.final_training_accuracy,
        record.steps_to_target, record.early_loss, record.gap_growth, record.training_seconds, record.seconds,
    )  # fmt: skip
    return dict(zip(_COLUMNS, values, strict=True))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one row per training; what is not known is left empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS)
    writer.writeheader()
    for row in rows:
        writer.writerow({key: "" if value is None or value != value else value for key, value in row.items()})
    with replacing(path) as temporary:
        temporary.write_bytes(text.getvalue().encode("utf-8"))


def write_results(
    folder: Path,
    plan: Plan,
    sizes: Mapping[str, Sequence[int]],
    results: Results,
    verdicts: Sequence[Verdict],
    background: Mapping[str, Any],
) -> None:
    """Write ``results.csv`` and ``results.json``.

    Parameters
    ----------
    folder : Path
        Where to.
    plan, results, verdicts
        What was asked, found and concluded.
    sizes : mapping of str to sequence of int
        Units of all layers of each experiment.
    background : mapping of str to anything
        Machine, versions, data and the like, in terms of JSON.

    Raises
    ------
    FastmlpError
        If a file cannot be written.
    """
    rows = [
        training_row(experiment, sizes[name], record)
        for name, experiment in plan.experiments.items()
        for record in results.trainings[name]
    ]
    write_csv(folder / "results.csv", rows)
    records = [record for name in plan.experiments for record in results.trainings[name]]
    document = {
        "schema_version": SCHEMA_VERSION,
        "command": COMMAND,
        **background,
        "protocol": dataclasses.asdict(plan.protocol),
        "seeds": plan.seeds,
        "claims": [claim_document(verdict) for verdict in verdicts],
        "gradient_checks": results.gradients,
        "trainings": [row | {"curves": _curves(record)} for row, record in zip(rows, records, strict=True)],
    }
    write_json(folder / RESULTS, document)


def claim_document(verdict: Verdict) -> dict[str, Any]:
    """A verdict in plain values."""
    effect = verdict.effect
    interval = None if effect is None or effect.interval is None else effect.interval._asdict()
    return {
        "number": verdict.claim.number,
        "claim": verdict.claim.statement,
        "verdict": verdict.verdict,
        "definition": verdict.claim.measure.definition,
        "experiment": verdict.claim.subject,
        "compared_with": verdict.claim.reference,
        "effect": interval,
        "unit": verdict.claim.measure.unit,
        "effect_per_seed": None if effect is None else effect.values,
        "sentence": verdict.sentence,
    }


def _curves(record: TrainingRecord) -> dict[str, Any]:
    """What the validations measured, to the digits that mean something."""
    return {
        "step": record.step,
        "validation_loss": _rounded(record.validation_loss),
        "validation_accuracy": _rounded(record.validation_accuracy),
        "training_accuracy": _rounded(record.training_accuracy),
    }


def _rounded(values: NDArray[Any]) -> list[float]:
    return [float(f"{value:.5g}") for value in values.tolist()]
