"""How fast it was, on what, and how to do it again."""

from __future__ import annotations

import statistics
from typing import Any

from fastmlp.report.findings import Findings
from fastmlp.report.markup import Markup, listing, paragraph, section, table, tag
from fastmlp.report.speed import SpeedUp
from fastmlp.report.wording import plural


def speed_and_machine(findings: Findings, background: dict[str, Any]) -> Markup:
    """The section."""
    records = [record for some in findings.results.trainings.values() for record in some]
    samples = sum(record.steps for record in records) * findings.plan.protocol.batch_size
    seconds = sum(record.training_seconds for record in records)
    steps = f"{plural(len(records), 'training')}, {samples / 1e6:.1f} million samples, {seconds:.1f} s of training steps"
    together = f" ({samples / seconds / 1000:,.0f} thousand samples a second)" if seconds > 0 else ""
    validating = statistics.fmean(record.seconds - record.training_seconds for record in records)
    parts = [
        paragraph(f"{steps}{together}; validating took another {validating:.2f} s per training."),
        *([_speed_up(findings.speed_up)] if findings.speed_up is not None else []),
    ]
    machine, versions = background["machine"], background["versions"]
    rows = [
        ("Processor", f"{machine['cpu']}, {plural(machine['usable_cpus'], 'core')} used"),
        ("Vector instructions", ", ".join(machine["cpu_features"]) or "unknown"),
        ("System", f"{machine['system']}, {machine['architecture']}"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("Data", f"{background['data']['name']}, SHA-256 {background['data']['fingerprint'][:16]}…"),
        ("Made", background["finished"]),
    ]
    plan = findings.plan
    command = f"fastmlp reproduce --seeds {plan.seeds} --epochs {plan.protocol.epochs}"
    return section(
        "machine",
        "Speed and machine",
        *parts,
        table(("", ""), rows),
        tag("h3", "Doing it again"),
        listing(command),
        paragraph(
            "The same version on the same type of processor gives the same numbers, whatever the number of threads and "
            "of trainings at a time; only the seconds differ."
        ),
    )


def _speed_up(found: SpeedUp) -> Markup:
    return paragraph(
        f"The default network in plain NumPy (its twin in fastmlp/baseline.py, float32, without validations): "
        f"{found.samples:,} samples in {found.numpy_seconds:.2f} s; fastmlp, {plural(found.threads, 'thread')}, the same "
        f"steps in the same order: {found.seconds:.2f} s. That is {found.factor:.1f} times as fast. Both were then right "
        f"about {100 * found.numpy_accuracy:.2f} % (NumPy) and {100 * found.accuracy:.2f} % (fastmlp) of the validation "
        f"images; in the first epoch no batch's losses differed by more than {found.difference:.1e}."
    )
