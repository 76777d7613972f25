"""The nine claims of the original report, each with the definition by which it is tested.

No definition was changed after its result was seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from fastmlp.report.training_record import TrainingRecord


@dataclass(frozen=True)
class Measure:
    """A number that a claim is about.

    Parameters
    ----------
    definition : str
        By what the claim is tested, for people.
    quantity : str
        What the effect is, for people.
    unit : str
        Of the effect; "" if it has none.
    effect : callable
        From the training of the network that the claim is about and that of the one it is compared with (the
        same if there is none) to the effect: positive if it is as the claim says.
    more, less : str
        What a positive and a negative effect are called.
    """

    definition: str
    quantity: str
    unit: str
    effect: Callable[[TrainingRecord, TrainingRecord], float]
    more: str
    less: str


@dataclass(frozen=True)
class Claim:
    """One claim of the original.

    Parameters
    ----------
    number : int
        1 to 9.
    statement : str
        What the original says.
    subject, reference : str
        The experiment that it is about and the one that it is compared with; the same if there is none.
    measure : Measure
        By what.
    at_most : float
        The largest effect that the words of the claim allow; infinite unless it says "slightly".
    further : tuple of (str, str, str)
        Comparisons (subject, reference, description) that are told but do not decide.
    remark : str
        What else has to be known of the networks compared.
    """

    number: int
    statement: str
    subject: str
    reference: str
    measure: Measure
    at_most: float = math.inf
    further: tuple[tuple[str, str, str], ...] = ()
    remark: str = ""


FASTER = Measure(
    "A network learns faster if its validation loss, averaged over the validations of the first five epochs "
    "(the area under the curve), is lower.",
    "how much lower the mean validation loss of the first five epochs is",
    "",
    lambda subject, reference: reference.early_loss - subject.early_loss,
    "lower",
    "higher",
)
ACCURACY = Measure(
    "A best validation accuracy that is lower by less than one percentage point counts as slightly worse.",
    "how much lower the best validation accuracy is",
    "percentage points",
    lambda subject, reference: 100 * (reference.best_validation_accuracy - subject.best_validation_accuracy),
    "lower",
    "higher",
)
LOSS = Measure(
    "A best validation loss that is lower by less than a fifth counts as slightly lower.",
    "how much lower the best validation loss is",
    "%",
    lambda subject, reference: 100 * (1 - subject.best_validation_loss / reference.best_validation_loss),
    "lower",
    "higher",
)
GAP = Measure(
    "The gap is training minus validation accuracy. It grows if its mean over the last epoch of the training "
    "is larger than over the first.",
    "how much the gap grows",
    "percentage points",
    lambda subject, reference: 100 * (subject.gap_growth - (0.0 if reference is subject else reference.gap_growth)),
    "larger",
    "smaller",
)

_ONE_LAYER = "all-tricks"
_GROWTH = "compared with the growth of the gap with one hidden layer"
_OLD = "Both begin with weights from uniform(-1, 1)."
_TRICKS = "Both have all the tricks of task 3; all-tricks is the one with 64 units."

CLAIMS = (
    Claim(
        1,
        "The improved initialisation beats uniform(-1, 1) (sigmoid).",
        "improved-init",
        "default",
        FASTER,
        remark="To beat is taken to mean to learn faster; the tables have the best losses and accuracies as well.",
    ),
    Claim(
        2,
        "ReLU with He initialisation learns faster than ReLU with uniform(-1, 1).",
        "relu-he",
        "relu-uniform",
        FASTER,
    ),
    Claim(
        3,
        "ReLU learns faster than sigmoid.",
        "relu-uniform",
        "default",
        FASTER,
        further=(("relu-he", "improved-init", "each with the initialisation made for it"),),
        remark=_OLD,
    ),
    Claim(
        4,
        "Momentum learns faster than plain gradient descent.",
        "momentum",
        "default",
        FASTER,
        further=(
            ("relu-he-momentum", "relu-he", "with ReLU and He initialisation"),
            ("all-tricks", "improved-sigmoid-init", "with the improved sigmoid and initialisation"),
        ),
        remark="As in the original the learning rate is 0.02 with momentum 0.9, which is in the end like 0.2, and 0.1 "
        "without; the effect is that of both.",
    ),
    Claim(
        5,
        "The improved sigmoid learns faster than the sigmoid.",
        "improved-sigmoid",
        "default",
        FASTER,
        further=(("improved-sigmoid-init", "improved-init", "both with the improved initialisation"),),
        remark=_OLD,
    ),
    Claim(
        6,
        "With 32 hidden units the validation accuracy is slightly worse than with 64.",
        "units-32",
        _ONE_LAYER,
        ACCURACY,
        at_most=1.0,
        remark=_TRICKS,
    ),
    Claim(
        7,
        "With 128 hidden units the validation loss is slightly lower than with 64.",
        "units-128",
        _ONE_LAYER,
        LOSS,
        at_most=20.0,
        remark=_TRICKS,
    ),
    Claim(
        8,
        "With two hidden layers the gap between training and validation accuracy grows with the epochs.",
        "two-layers",
        "two-layers",
        GAP,
        further=(("two-layers", _ONE_LAYER, _GROWTH),),
    ),
    Claim(
        9,
        "With ten hidden layers, too, the gap grows with the epochs.",
        "ten-layers",
        "ten-layers",
        GAP,
        further=(("ten-layers", _ONE_LAYER, _GROWTH),),
    ),
)
