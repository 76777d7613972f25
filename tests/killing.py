"""Kill trainings at random moments until there were enough kills; each run must end as if nothing had happened.

``python -m tests.killing FOLDER KILLS [SEED]``. Every training is a child process that gets SIGKILL after a random
time: while it loads, trains, writes a checkpoint or its results. The next child goes on, on another number of threads.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.errors import CheckpointError
from fastmlp.experiment import Settings, run_training
from fastmlp.resumption import RunFinishedError, resume_training
from fastmlp.runs import RunFolderError
from tests.small_data import pixels

EPOCHS = 40
TIMES = {"compile_seconds", "training_seconds", "elapsed_seconds", "phases", "threads", "samples_per_second"}


def begin_or_go_on(settings: Settings, run: Path, threads: int) -> None:
    """Go on with a run if it has come to its first checkpoint, else begin it."""
    try:
        resume_training(run, {"threads": threads})
    except RunFinishedError:
        return
    except (CheckpointError, RunFolderError) as error:
        if not str(error).startswith(f"{run}: "):  # neither "no such run folder" nor "there is no checkpoint"
            raise
        run_training(dataclasses.replace(settings, threads=threads), output=run, overwrite=True, checkpoint_every=1)


def in_child(work: Callable[[], None], seconds: float) -> bool:
    """Do something in a child process that is killed after some time; whether it came to its end before."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(1)
    deadline = time.monotonic() + seconds
    ended, status = 0, 0
    while not ended and time.monotonic() < deadline:
        time.sleep(0.002)
        ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    status = os.waitstatus_to_exitcode(status)
    if status not in (0, -signal.SIGKILL):
        sys.exit(f"a training failed with {status}")
    return status == 0


def result(run: Path) -> tuple[bytes, dict[str, Any]]:
    """Return what must be the same: the model, and the history apart from times."""
    history = json.loads((run / "history.json").read_text())
    return (run / "model.safetensors").read_bytes(), {key: history[key] for key in history.keys() - TIMES}


def main(folder: Path, kills: int, seed: int) -> None:
    """Kill until it is enough."""
    warnings.simplefilter("error")  # a checkpoint that is not whole is told as a warning
    print(f"seed {seed}", flush=True)
    chance = random.Random(seed)
    samples = pixels(2000, 30, 5)
    np.savez(folder / "data.npz", X=samples.X, y=samples.y)
    settings = Settings(
        data=str(folder / "data.npz"), layers=(24,), epochs=EPOCHS, momentum=0.5, patience=EPOCHS, schedule="cosine"
    )
    run_training(settings, output=folder / "warm", checkpoint_every=1)
    began = time.monotonic()
    run_training(settings, output=folder / "unbroken", checkpoint_every=1)
    whole = time.monotonic() - began
    expected = result(folder / "unbroken")
    killed = runs = 0
    while killed < kills or runs == 0:
        run = folder / f"run-{runs}"
        finished = False
        while not finished:
            seconds = chance.uniform(0.0, whole) if killed < kills else 100.0
            threads = chance.choice((1, 2))
            finished = in_child(partial(begin_or_go_on, settings, run, threads), seconds)
            killed += not finished
        assert result(run) == expected, f"{run} ended otherwise"
        runs += 1
    print(f"{killed} kills, {runs} runs")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(10**6))
