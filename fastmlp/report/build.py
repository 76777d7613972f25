"""From results to the report in a folder: figures, tables, page."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Callable, Mapping, Set
from typing import TYPE_CHECKING, Any

from fastmlp.errors import FastmlpError
from fastmlp.report import figures
from fastmlp.report.embedding import write_figure, write_picture
from fastmlp.report.experiments import CHAIN, NAME, Experiment
from fastmlp.report.files import COMMAND, RESULTS, write_results
from fastmlp.report.findings import Findings, best_experiment
from fastmlp.report.jobs import Job
from fastmlp.report.judgement import judge
from fastmlp.report.page import render
from fastmlp.report.pictures import confident_mistakes, mistakes_figure, weight_mosaic
from fastmlp.report.plan import Plan
from fastmlp.report.runner import Results
from fastmlp.report.speed import SpeedUp
from fastmlp.report.store import Store
from fastmlp.runs import replacing
from fastmlp.system import machine, versions

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from fastmlp.datasets import Dataset
    from fastmlp.network import Network

PAGE, FIGURES = "index.html", "figures"
_PICTURES = ("weights", "mistakes")


def build_report(
    plan: Plan,
    dataset: Dataset,
    results: Results,
    speed_up: SpeedUp | None = None,
) -> Findings:
    """Write the report; ``index.html``, which needs no other file, comes last.

    Parameters
    ----------
    plan, dataset, results
        What was asked, of what, and found.
    speed_up : SpeedUp, optional
        fastmlp and NumPy compared.

    Returns
    -------
    Findings
        What the report says.

    Raises
    ------
    FastmlpError
        If a file cannot be written or the network of a training was lost.
    """
    networks = _shown_networks(plan, dataset, results)
    findings = Findings(plan, dataset, results, judge(results.trainings), networks, speed_up)
    folder = plan.folder / FIGURES
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise FastmlpError(f"{folder}: {(error.strerror or str(error)).lower()}") from error
    drawings = _drawings(findings)
    _remove_remains(plan.folder)
    _remove_earlier(plan.folder, {*drawings, *(f"{name}-{what}" for name in networks for what in _PICTURES)})
    for name, draw in drawings.items():
        findings.drawings[name] = write_figure(draw(), folder, name)
    if dataset.image_shape is not None:
        for name, network in networks.items():
            write_picture(weight_mosaic(network.weights[0], dataset.image_shape), folder, f"{name}-weights")
            write_figure(mistakes_figure(confident_mistakes(network, dataset)), folder, f"{name}-mistakes")
    background = _background(plan, dataset, speed_up)
    sizes = {name: findings.sizes(experiment) for name, experiment in plan.experiments.items()}
    write_results(plan.folder, plan, sizes, results, findings.verdicts, background)
    with replacing(plan.folder / PAGE) as temporary:
        temporary.write_text(render(findings, background), encoding="utf-8")
    return findings


def _remove_remains(folder: Path) -> None:
    """Delete what a run left half-written that was killed while it wrote the report."""
    for pattern in (f"{FIGURES}/.*.svg", f"{FIGURES}/.*.png", f".{PAGE}", ".results.csv", ".results.json"):
        for path in folder.glob(f"{pattern}.{'[0-9a-f]' * 8}.tmp"):
            path.unlink(missing_ok=True)


def _remove_earlier(folder: Path, kept: Set[str]) -> None:
    """Delete the figures of an earlier report in the same folder that this one does not have."""
    try:
        document = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        names = {str(row["experiment"]) for row in document["trainings"]} if document["command"] == COMMAND else set()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return
    figures = {f"{name}-{what}" for name in names if NAME.fullmatch(name) for what in ("loss", "accuracy", *_PICTURES)}
    figures |= {f"{group}-validation-{quantity}" for group in _GROUPS for quantity in ("loss", "accuracy")}
    for name in figures - kept:
        for ending in ("png", "svg"):
            with contextlib.suppress(OSError):  # it is not needed, but it does no harm either
                (folder / FIGURES / f"{name}.{ending}").unlink()


def _shown_networks(plan: Plan, dataset: Dataset, results: Results) -> dict[str, Network]:
    store = Store(plan.runs, plan.protocol, dataset.fingerprint)
    names = {"default", best_experiment(results.trainings)}
    return {
        name: store.load_network(Job("training", experiment))
        for name, experiment in plan.experiments.items()
        if name in names and experiment.layers
    }


def _drawings(findings: Findings) -> dict[str, Callable[[], Figure]]:
    """All figures by name, to be drawn one at a time."""
    plan, drawings = findings.plan, dict[str, Callable[[], "Figure"]]()
    for name in plan.experiments:
        records = findings.records(name)
        drawings[f"{name}-loss"] = lambda records=records: figures.loss_figure(records)  # type: ignore[misc]
        drawings[f"{name}-accuracy"] = lambda records=records: figures.accuracy_figure(records)  # type: ignore[misc]
    order = list(plan.experiments)
    for group, experiments in _groups(findings).items():
        together = {name: findings.records(name) for name in experiments}
        for quantity in ("loss", "accuracy"):
            drawings[f"{group}-validation-{quantity}"] = lambda together=together, quantity=quantity: (  # type: ignore[misc]
                figures.comparison_figure(together, f"validation_{quantity}", order)
            )
    return drawings


def _groups(findings: Findings) -> Mapping[str, Mapping[str, Experiment]]:
    """The experiments that are drawn into one figure; with a single one there is nothing to compare."""
    chain = {name: findings.plan.experiments[name] for name in CHAIN if name in findings.plan.experiments}
    groups = {group: chain if group == "chain" else findings.of_task(group) for group in _GROUPS}
    return {name: experiments for name, experiments in groups.items() if 1 < len(experiments) <= _MOST_CURVES}


_GROUPS = ("task3", "task4", "own", "chain")
_MOST_CURVES = 12


def _background(plan: Plan, dataset: Dataset, speed_up: SpeedUp | None) -> dict[str, Any]:
    """What else a reader of the numbers may want to know."""
    background: dict[str, Any] = {
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "workers": plan.workers,
        "threads": plan.threads,
        "data": {
            "name": dataset.name,
            "source": plan.data,
            "train_samples": len(dataset.X_train),
            "test_samples": len(dataset.X_test),
            "fingerprint": dataset.fingerprint,
        },
    }
    if speed_up is not None:
        background["numpy"] = vars(speed_up) | {"factor": speed_up.factor}
    return background
