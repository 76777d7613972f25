"""The experiments of the assignment, as data: one table, and how to choose from it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fastmlp.errors import FastmlpError

TASKS = {
    "task2": "the basic network",
    "task3": "tricks of the trade",
    "task4": "topology",
    "own": "experiments of your own",
}

# Names become names of files and cells of spreadsheets: nothing that either could misread.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", re.ASCII)


class ExperimentError(FastmlpError, ValueError):
    """An experiment is unknown or described wrongly."""


@dataclass(frozen=True)
class Experiment:
    """One network and how it is trained; the rest of the protocol is the same for all.

    Parameters
    ----------
    name : str
        What it is called on the command line and in file names.
    layers : tuple of int
        Units of the hidden layers.
    activation, init : str
        As for `fastmlp.Network`.
    learning_rate, momentum : float
        As for `fastmlp.train`.
    tasks : tuple of str
        The tasks of the assignment that it is part of, keys of `TASKS`.
    title : str
        What it is, in a few words.
    """

    name: str
    layers: tuple[int, ...] = (64,)
    activation: str = "sigmoid"
    init: str = "uniform"
    learning_rate: float = 0.1
    momentum: float = 0.0
    tasks: tuple[str, ...] = ("own",)
    title: str = ""

    def sizes(self, n_features: int, n_classes: int) -> tuple[int, ...]:
        """Units of all layers for some data."""
        return (n_features, *self.layers, n_classes)


@dataclass(frozen=True)
class Protocol:
    """What all trainings have in common; the defaults are the assignment's.

    Parameters
    ----------
    n_train : int
        The first so many training samples are trained on.
    epochs : int
        At most so many.
    batch_size : int
        Samples of a mini-batch; an incomplete last one is dropped.
    validations_per_epoch : int
        Each measures validation loss and accuracy, and the accuracy on all training samples.
    patience : int
        Stop after so many validations in a row without a lower validation loss.
    """

    n_train: int = 20_000
    epochs: int = 50
    batch_size: int = 32
    validations_per_epoch: int = 5
    patience: int = 50


def _table(
    rows: Iterable[tuple[str, tuple[int, ...], str, str, float, float, str, str]],
) -> dict[str, Experiment]:
    return {
        name: Experiment(name, layers, activation, init, rate, momentum, tuple(tasks.split()), title)
        for name, layers, activation, init, rate, momentum, tasks, title in rows
    }


# fmt: off
EXPERIMENTS = _table([
    # name                   hidden     activation     init       rate  momentum  tasks          what it is
    ("default",              (64,),     "sigmoid",     "uniform", 0.1,  0.0, "task2 task3", "the basic network"),
    # each trick alone, against the basic network
    ("improved-init",        (64,),     "sigmoid",     "lecun",   0.1,  0.0, "task3", "improved initialisation"),
    ("relu-uniform",         (64,),     "relu",        "uniform", 0.1,  0.0, "task3", "ReLU, old initialisation"),
    ("relu-he",              (64,),     "relu",        "he",      0.1,  0.0, "task3", "ReLU with He initialisation"),
    ("improved-sigmoid",     (64,),     "scaled_tanh", "uniform", 0.1,  0.0, "task3", "improved sigmoid"),
    ("momentum",             (64,),     "sigmoid",     "uniform", 0.02, 0.9, "task3", "momentum"),
    # the chain: default, improved-init, relu-he, relu-he-momentum, all-tricks
    ("relu-he-momentum",     (64,),     "relu",        "he",      0.02, 0.9, "task3", "ReLU, He, momentum"),
    ("all-tricks",           (64,),     "scaled_tanh", "lecun",   0.02, 0.9, "task3 task4",
     "improved sigmoid, improved initialisation, momentum"),
    # beyond the original: the improved sigmoid with the initialisation that it was made for
    ("improved-sigmoid-init", (64,),    "scaled_tanh", "lecun",   0.1,  0.0, "task3",
     "improved sigmoid, improved initialisation"),
    # topology; all-tricks is the one with 64 units
    ("units-32",             (32,),     "scaled_tanh", "lecun",   0.02, 0.9, "task4", "32 hidden units"),
    ("units-128",            (128,),    "scaled_tanh", "lecun",   0.02, 0.9, "task4", "128 hidden units"),
    ("two-layers",           (64,) * 2, "scaled_tanh", "lecun",   0.02, 0.9, "task4", "two hidden layers of 64"),
    ("ten-layers",           (64,) * 10, "scaled_tanh", "lecun",  0.02, 0.9, "task4", "ten hidden layers of 64"),
    # beyond the original: (55,050 - 10) / (784 + 1 + 10) = 69.2 units
    ("one-layer-69",         (69,),     "scaled_tanh", "lecun",   0.02, 0.9, "task4",
     "one hidden layer with about as many parameters as two of 64"),
])
# fmt: on

CHAIN = ("default", "improved-init", "relu-he", "relu-he-momentum", "all-tricks")


def choose(wanted: Sequence[str], experiments: Mapping[str, Experiment] = EXPERIMENTS) -> dict[str, Experiment]:
    """Choose experiments by their names and tasks.

    Parameters
    ----------
    wanted : sequence of str
        Names and tasks in any order; none: all experiments.
    experiments : mapping of str to Experiment
        What there is to choose from.

    Returns
    -------
    dict of str to Experiment
        In the order of the table.

    Raises
    ------
    ExperimentError
        If there is no experiment or task of a name; the message names close ones.
    """
    present = {task for experiment in experiments.values() for task in experiment.tasks}
    known = [*experiments, *(task for task in TASKS if task in present)]
    chosen = set()
    for word in wanted:
        matching = [name for name, experiment in experiments.items() if word == name or word in experiment.tasks]
        if not matching:
            raise ExperimentError(_unknown(word, known))
        chosen.update(matching)
    return {name: experiment for name, experiment in experiments.items() if not wanted or name in chosen}


def _unknown(word: str, known: Sequence[str]) -> str:
    """Say that there is no experiment or task of a name, and which may have been meant."""
    if word in TASKS:
        return f"no experiments of {word!r} ({TASKS[word]})"
    beginning = [name for name in known if word and name.startswith(word)]
    close = list(dict.fromkeys([*beginning, *difflib.get_close_matches(word, known, n=3)]))[:3]
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"there are {', '.join(known)}"
    return f"no experiment or task {word!r}; {hint}"
