"""How to train: the options of ``train``, checked, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import checks

SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class Recipe:
    """The checked options of ``fastmlp.train``; see there."""

    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str
    momentum: float
    nesterov: bool
    l2: float
    shuffle: bool
    drop_last: bool
    seed: int
    validations_per_epoch: int
    patience: int | None
    restore_best: bool

    def steps_per_epoch(self, n: int) -> int:
        """Mini-batches of an epoch of ``n`` samples."""
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    @property
    def keeps_best(self) -> bool:
        """Whether the parameters of the best validation are kept."""
        return self.patience is not None and self.restore_best

    def rates(self, steps: int) -> NDArray[np.float64]:
        """Learning rate of every step; "linear" and "cosine" fall from ``learning_rate`` towards 0."""
        done = np.arange(steps) / max(steps, 1)
        if self.schedule == "linear":
            return self.learning_rate * (1.0 - done)
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1.0 + np.cos(np.pi * done))
        return np.full(steps, self.learning_rate)


def checked_recipe(n: int, **options: Any) -> Recipe:
    """Check the options of ``fastmlp.train`` for ``n`` samples; raises TypeError or ValueError."""
    whole, number = checks.check_whole_number, checks.check_number
    patience = options["patience"]
    recipe = Recipe(
        epochs=whole("epochs", options["epochs"], 1, 10**9),
        batch_size=min(whole("batch_size", options["batch_size"], 1), n),
        learning_rate=number("learning_rate", options["learning_rate"], open_low=True),
        schedule=checks.check_choice("schedule", options["schedule"], SCHEDULES),
        momentum=number("momentum", options["momentum"], high=1.0),
        nesterov=checks.check_flag("nesterov", options["nesterov"]),
        l2=number("l2", options["l2"]),
        shuffle=checks.check_flag("shuffle", options["shuffle"]),
        drop_last=checks.check_flag("drop_last", options["drop_last"]),
        seed=whole("seed", options["seed"], 0, (1 << 32) - 1),
        validations_per_epoch=whole("validations_per_epoch", options["validations_per_epoch"], 1),
        patience=None if patience is None else whole("patience", patience, 1),
        restore_best=checks.check_flag("restore_best", options["restore_best"]),
    )
    if recipe.nesterov and recipe.momentum == 0:
        raise ValueError("nesterov needs momentum > 0")
    if recipe.validations_per_epoch > recipe.steps_per_epoch(n):
        raise ValueError(
            f"validations_per_epoch must be at most the {recipe.steps_per_epoch(n)} batches of an epoch "
            f"(got {recipe.validations_per_epoch})"
        )
    return recipe
