"""Running the experiments: the same bits however many at a time, resumed, interrupted, killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fastmlp import Progress
from fastmlp.errors import FastmlpError
from fastmlp.report import runner
from fastmlp.report.experiments import Protocol, choose
from fastmlp.report.jobs import Job, needed_jobs
from fastmlp.report.plan import Nobody, Plan
from fastmlp.report.runner import IncompleteError, Results, claim_folder, run
from fastmlp.report.store import Store
from fastmlp.report.training_record import TrainingRecord
from fastmlp.runs import RunFolderError
from tests.report_data import small_mnist

NAMES = ("default", "momentum")  # they share a gradient check


class Witness(Nobody):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.done_before = -1
        self.finished_jobs: list[str] = []
        self.failures: dict[str, str] = {}
        self.epochs: set[int] = set()

    def planned(self, jobs: Sequence[Job], done: int) -> None:
        self.jobs, self.done_before = [job.name for job in jobs], done

    def progressed(self, job: Job, progress: Progress) -> None:
        assert job.name in self.jobs
        self.epochs.add(progress.epoch)

    def finished(self, job: Job) -> None:
        self.finished_jobs.append(job.name)

    def failed(self, job: Job, reason: str) -> None:
        self.failures[job.name] = reason


def plan_in(folder: Path, workers: int = 1, seeds: int = 2) -> Plan:
    claim_folder(folder, force=False, resume=True).release()
    threads = 1 if workers > 1 else None
    return Plan(choose(NAMES), seeds, Protocol(n_train=200, epochs=2), "mnist", folder, workers, threads)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Results]:
    """Everything run in this process."""
    plan = plan_in(tmp_path_factory.mktemp("alone") / "report")
    witness = Witness()
    results = run(plan, small_mnist(), witness, resume=False)
    assert sorted(witness.finished_jobs) == sorted(witness.jobs)
    assert witness.done_before == 0
    assert witness.epochs == {1, 2}
    assert results.seconds is not None
    return plan, results


def what_was_learnt(record: TrainingRecord) -> dict[str, Any]:
    document = record.to_dict()
    for key in ("training_seconds", "seconds", "threads"):
        del document[key]
    return {key: value.tolist() if hasattr(value, "tolist") else value for key, value in document.items()}


def same(one: Results, other: Results) -> bool:
    """Whether all is equal but for the seconds."""
    assert one.gradients == other.gradients
    assert one.trainings.keys() == other.trainings.keys()
    return all(
        what_was_learnt(ours) == what_was_learnt(theirs)
        for name in one.trainings
        for ours, theirs in zip(one.trainings[name], other.trainings[name], strict=True)
    )


def test_every_experiment_and_seed_is_run_by_the_protocol(alone: tuple[Plan, Results]) -> None:
    _, results = alone
    assert list(results.trainings) == ["default", "momentum"], "the order of the table"
    for name, records in results.trainings.items():
        assert [(record.experiment, record.seed) for record in records] == [(name, 0), (name, 1)]
        for record in records:
            assert (record.epochs, record.steps, record.steps_per_epoch) == (2, 12, 6), "an incomplete batch is dropped"
            assert len(record.step) == 10, "five validations an epoch"
            for fractions, samples in ((record.training_accuracy, 200), (record.validation_accuracy, 10_000)):
                assert samples * fractions == pytest.approx((samples * fractions).round()), "of all samples"
    assert {name: check["passed"] for name, check in results.gradients.items()} == {"default": True}


def test_processes_give_the_same_bits(alone: tuple[Plan, Results], tmp_path: Path) -> None:
    witness = Witness()
    together = run(plan_in(tmp_path / "report", workers=2), small_mnist(), witness, resume=False)
    assert same(alone[1], together)
    assert sorted(witness.finished_jobs) == sorted(witness.jobs)
    assert witness.epochs == {1, 2}
    assert not multiprocessing.active_children()
    networks = [
        (folder / "runs" / "default-seed0.safetensors").read_bytes()
        for folder in (alone[0].folder, tmp_path / "report")
    ]
    assert networks[0] == networks[1]


def test_resuming_skips_what_is_done(alone: tuple[Plan, Results], monkeypatch: pytest.MonkeyPatch) -> None:
    plan, before = alone
    (plan.runs / "default-seed1.json").unlink()
    (plan.runs / "momentum-seed0.json").write_text("{")
    witness = Witness()
    again = run(plan, small_mnist(), witness, resume=True)
    assert sorted(witness.jobs) == ["default-seed1", "momentum-seed0"]
    assert witness.done_before == 3
    assert same(before, again)
    assert again.seconds is None, "not all of it was measured"

    monkeypatch.setattr(runner, "run_job", lambda *_: pytest.fail("nothing is left to do"))
    assert same(before, run(plan, small_mnist(), witness, resume=True))


def test_other_epochs_are_other_results(alone: tuple[Plan, Results], tmp_path: Path) -> None:
    plan, _ = alone
    longer = Plan(plan.experiments, 1, Protocol(n_train=200, epochs=3), plan.data, plan.folder, 1)
    store = Store(longer.runs, longer.protocol, small_mnist().fingerprint)
    assert all(store.load(job) is None for job in needed_jobs(longer.experiments, 1))


def test_a_killed_worker_costs_its_own_job_only(tmp_path: Path) -> None:
    class Killer(Witness):
        victim = ""

        def progressed(self, job: Job, progress: Progress) -> None:
            if not self.victim and progress.step:
                self.victim = job.name
                for child in multiprocessing.active_children():
                    assert child.pid is not None
                    os.kill(child.pid, signal.SIGKILL)

    witness = Killer()
    plan = plan_in(tmp_path / "report", workers=2, seeds=1)
    with pytest.raises(IncompleteError, match=r"of 3 pieces of work failed.*SIGKILL, maybe out of memory.*--resume"):
        run(plan, small_mnist(), witness, resume=False)
    assert witness.victim in witness.failures
    assert 1 <= len(witness.failures) <= 2
    assert sorted([*witness.finished_jobs, *witness.failures]) == sorted(witness.jobs)
    rest = Witness()
    run(plan, small_mnist(), rest, resume=True)
    assert sorted(rest.jobs) == sorted(witness.failures)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_fails_is_told_and_the_others_go_on(tmp_path: Path, workers: int) -> None:
    plan = plan_in(tmp_path / "report", workers, seeds=1)
    (plan.runs / "momentum-seed0.json").mkdir()  # cannot be replaced by a file
    witness = Witness()
    with pytest.raises(IncompleteError, match="1 of 3 pieces of work failed; the first: momentum-seed0: "):
        run(plan, small_mnist(), witness, resume=False)
    assert list(witness.failures) == ["momentum-seed0"]
    assert len(witness.finished_jobs) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_ends_it_and_keeps_what_is_done(tmp_path: Path, workers: int) -> None:
    class Interrupter(Witness):
        def finished(self, job: Job) -> None:
            super().finished(job)
            if job.kind == "training":
                raise KeyboardInterrupt

    witness = Interrupter()
    plan = plan_in(tmp_path / "report", workers, seeds=1)
    with pytest.raises(KeyboardInterrupt):
        run(plan, small_mnist(), witness, resume=False)
    assert not multiprocessing.active_children()
    rest = Witness()
    run(plan, small_mnist(), rest, resume=True)
    assert not set(rest.jobs) & set(witness.finished_jobs)


@pytest.mark.parametrize("moments", [(2,), pytest.param((0, 1, 2, 3, 4, 5), marks=pytest.mark.nightly)], ids=str)
def test_a_run_killed_at_any_moment_can_be_resumed(
    alone: tuple[Plan, Results], tmp_path: Path, moments: tuple[int, ...]
) -> None:
    """The whole command, its workers included, killed when so many results are there."""
    folder = tmp_path / "report"
    command = [sys.executable, "-m", "fastmlp", "reproduce", "--only", ",".join(NAMES), "--seeds", "2", "--epochs", "2"]
    command += ["--n-train", "200", "--output", str(folder), "--resume", "--json"]
    for results in moments:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while len(list(folder.glob("runs/*seed?.json"))) + len(list(folder.glob("runs/*gradients.json"))) < results:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait()
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["claims"][0]["verdict"] == "not tested"
    assert not list(folder.glob("**/.*.tmp"))
    plan, before = alone
    assert same(
        before, run(Plan(plan.experiments, 2, plan.protocol, "mnist", folder), small_mnist(), Nobody(), resume=True)
    )


# The folder


def test_a_folder_is_claimed(tmp_path: Path) -> None:
    claim_folder(tmp_path / "a" / "b", force=False, resume=False).release()
    assert (tmp_path / "a" / "b" / "runs").is_dir()
    claim_folder(tmp_path / "a" / "b", force=False, resume=True).release()
    claim_folder(tmp_path / "a" / "b", force=True, resume=False).release()
    with pytest.raises(RunFolderError, match="exists and is not empty"):
        claim_folder(tmp_path / "a" / "b", force=False, resume=False)


def test_one_process_at_a_time_works_on_a_report(tmp_path: Path) -> None:
    lock = claim_folder(tmp_path / "report", force=False, resume=False)
    for force in (True, False):
        with pytest.raises(RunFolderError, match=f"in use by process {os.getpid()} since"):
            claim_folder(tmp_path / "report", force=force, resume=not force)
    lock.release()
    claim_folder(tmp_path / "report", force=False, resume=True).release()


def test_a_run_killed_before_it_left_its_mark_can_be_resumed(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    for path in (tmp_path / ".0123abcd.tmp", runs / ".lock", runs / ".about.json.0123abcd.tmp"):
        path.touch()
    claim_folder(tmp_path, force=False, resume=True).release()
    (runs / "about.json").unlink()
    (runs / "letter.txt").touch()
    with pytest.raises(RunFolderError, match="no run of this command to resume"):
        claim_folder(tmp_path, force=False, resume=True)


def test_a_folder_of_something_else_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    with pytest.raises(RunFolderError, match="no run of this command to resume"):
        claim_folder(tmp_path, force=False, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunFolderError, match="is not a folder"):
            claim_folder(path, force=True, resume=False)


def test_a_full_disk_is_told_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(FastmlpError, match="disk full: needs"):
        run(plan_in(tmp_path / "report"), small_mnist(), Witness(), resume=False)
