"""How fast it was, on what, and how to do it again."""

from __future__ import annotations

import shlex
import statistics
from typing import Any

from fastmlp.report.experiments import EXPERIMENTS, Protocol
from fastmlp.report.findings import Findings
from fastmlp.report.markup import Markup, listing, paragraph, section, table, tag
from fastmlp.report.plan import Plan
from fastmlp.report.speed import SpeedUp
from fastmlp.report.wording import plural, scientific


def speed_and_machine(findings: Findings, background: dict[str, Any]) -> Markup:
    """The section."""
    records = [record for some in findings.results.trainings.values() for record in some]
    samples = sum(record.steps for record in records) * findings.plan.protocol.batch_size
    seconds = sum(record.training_seconds for record in records)
    steps = f"{plural(len(records), 'training')}: {samples / 1e6:.1f} million samples in {seconds:.1f} s of steps"
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
        ("Made", background["finished"].replace("T", " ").replace("+00:00", " UTC")),
    ]
    return section(
        "machine",
        "Speed and machine",
        *parts,
        table((), rows, label="machine and versions"),
        tag("h3", "Doing it again"),
        listing(command_line(findings.plan, baseline=findings.speed_up is not None)),
        paragraph(
            "The same version on the same type of processor gives the same numbers, whatever the number of threads and "
            "of trainings at a time; only the seconds differ."
        ),
    )


def command_line(plan: Plan, *, baseline: bool = False) -> str:
    """The command that asks for the same, but for the name of a file of experiments, which is not known."""
    words = ["fastmlp", "reproduce", "--seeds", str(plan.seeds), "--epochs", str(plan.protocol.epochs)]
    if plan.experiments.keys() - EXPERIMENTS.keys():
        words += ["--experiments", "FILE"]
    if EXPERIMENTS.keys() - plan.experiments.keys():
        words += ["--only", ",".join(plan.experiments)]
    if baseline:
        words.append("--baseline")
    if plan.data != "mnist":
        words += ["--data", plan.data]
    if plan.protocol.n_train != Protocol.n_train:
        words += ["--n-train", str(plan.protocol.n_train)]
    return shlex.join(words)


def _speed_up(found: SpeedUp) -> Markup:
    return paragraph(
        "The default network in plain NumPy (its twin in fastmlp/baseline.py, float32, without validations): "
        f"{found.samples:,} samples in {found.numpy_seconds:.2f} s; fastmlp with {plural(found.threads, 'thread')}, "
        f"the same steps in the same order: {found.seconds:.2f} s. That is ",
        tag("strong", f"{found.factor:.1f} times as fast"),
        f". NumPy's network then classifies {100 * found.numpy_accuracy:.2f} % of the validation samples correctly, "
        f"fastmlp's {100 * found.accuracy:.2f} %; in the first epoch the losses of no batch differ by more than "
        f"{scientific(found.difference)}.",
        f" Other programs kept the processor busy meanwhile (NumPy had it for {100 * found.share:.0f} % of the time), "
        "so these times say little."
        if found.disturbed
        else None,
    )
