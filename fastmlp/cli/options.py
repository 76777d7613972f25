"""Options that several commands share, so that they have one name and one meaning everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import click

from fastmlp.cli.base import SectionOption
from fastmlp.cli.types import (
    ByteSize,
    DataSource,
    FiniteNumber,
    HiddenLayers,
    OneOf,
    Seed,
    Threads,
    WholeNumber,
)
from fastmlp.experiment import ACTIVATION_ALIASES, ACTIVATIONS, DEFAULTS, DTYPES, INITIALIZATIONS, SCHEDULES

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Decorator(Protocol):
    """Something that adds to a function and returns it."""

    def __call__(self, function: Decorated, /) -> Decorated:
        """Decorate."""
        ...


NETWORK, TRAINING, DATA, OUTPUT = "Network", "Training", "Data", "Output"


def option(section: str, *names: str, **settings: Any) -> Decorator:
    """Declare an option under a heading of the help."""
    settings.setdefault("show_default", "default" in settings and not settings.get("is_flag"))
    if isinstance(settings.get("default"), float):
        settings["default"] = f"{settings['default']:g}"  # shown as 0, not as 0.0
    return click.option(*names, cls=SectionOption, section=section, **settings)


def combine(*decorators: Decorator) -> Decorator:
    """Apply several option decorators so that the help lists them in the order given here."""

    def decorate(function: Decorated, /) -> Decorated:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def data_option(help_text: str = 'Data set: "mnist", a folder of IDX files, or an .npz file.') -> Decorator:
    """Declare --data."""
    return option(DATA, "--data", type=DataSource(), default=DEFAULTS.data, help=help_text)


def max_bytes_option() -> Decorator:
    """Declare --max-bytes."""
    return option(
        DATA,
        "--max-bytes",
        type=ByteSize(),
        default="4GB",
        help="Refuse data that need more memory than this.",
    )


def layers_option() -> Decorator:
    """Declare --layers."""
    return option(
        NETWORK,
        "--layers",
        "-l",
        type=HiddenLayers(),
        default=",".join(map(str, DEFAULTS.layers)),
        help='Widths of the hidden layers, such as 64,64; "" or none: softmax regression.',
    )


def activation_option() -> Decorator:
    """Declare --activation."""
    return option(
        NETWORK,
        "--activation",
        "-a",
        type=OneOf(ACTIVATIONS, ACTIVATION_ALIASES),
        default=DEFAULTS.activation,
        help='Activation of the hidden layers; scaled_tanh is 1.7159 tanh(2z/3), the "improved sigmoid".',
    )


def init_option() -> Decorator:
    """Declare --init."""
    return option(
        NETWORK,
        "--init",
        type=OneOf(INITIALIZATIONS),
        default=DEFAULTS.init,
        help="Random initial weights: normal (he, lecun) or uniform (glorot; uniform: -1 to 1).",
    )


def seed_option(help_text: str = "Seed of the initial weights and the shuffling.") -> Decorator:
    """Declare --seed."""
    return option(
        NETWORK,
        "--seed",
        type=Seed(),
        default=DEFAULTS.seed,
        help=help_text,
    )


def threads_option(section: str = "Speed") -> Decorator:
    """Declare --threads."""
    return option(
        section,
        "--threads",
        "-t",
        type=Threads(),
        metavar="N|auto",
        default="auto",
        help="Threads; auto: as many CPUs as this process may use. Any number gives the same result.",
    )


def json_option() -> Decorator:
    """Declare --json."""
    return option(OUTPUT, "--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")


def force_option() -> Decorator:
    """Declare --force."""
    return option(OUTPUT, "--force", is_flag=True, help="Replace existing files.")


def network_options() -> Decorator:
    """Declare the options that describe a network."""
    return combine(
        layers_option(),
        activation_option(),
        init_option(),
        option(
            NETWORK,
            "--dtype",
            type=OneOf(DTYPES),
            default=DEFAULTS.dtype,
            help="Numbers to calculate with; float64 takes about twice as long.",
        ),
        seed_option(),
    )


def training_options() -> Decorator:
    """Declare the options that describe how to train."""
    return combine(*_descent_options(), *_validation_options())


def _descent_options() -> Sequence[Decorator]:
    """Declare what decides each step."""
    return (
        option(
            TRAINING,
            "--epochs",
            "-e",
            type=WholeNumber(1, 1_000_000),
            default=DEFAULTS.epochs,
            help="Passes over the training data.",
        ),
        option(
            TRAINING,
            "--batch-size",
            "-b",
            type=WholeNumber(1),
            default=DEFAULTS.batch_size,
            help="Samples per step.",
        ),
        option(
            TRAINING,
            "--lr",
            "--learning-rate",
            "learning_rate",
            type=FiniteNumber(above=0.0),
            default=DEFAULTS.learning_rate,
            help="Learning rate of the first step.",
        ),
        option(
            TRAINING,
            "--schedule",
            type=OneOf(SCHEDULES),
            default=DEFAULTS.schedule,
            help="Course of the learning rate; linear and cosine end at 0.",
        ),
        option(
            TRAINING,
            "--momentum",
            type=FiniteNumber(at_least=0.0, below=1.0),
            default=DEFAULTS.momentum,
            help="Share of the last step that is added to the next.",
        ),
        option(TRAINING, "--nesterov", is_flag=True, help="Nesterov's momentum."),
        option(
            TRAINING,
            "--l2",
            type=FiniteNumber(at_least=0.0),
            default=DEFAULTS.l2,
            help="Weight of the penalty l2/2 times the sum of the squared weights.",
        ),
        option(TRAINING, "--drop-last", is_flag=True, help="Skip the last batch of an epoch if it is incomplete."),
        option(TRAINING, "--no-shuffle", is_flag=True, help="Take the samples in their own order every epoch."),
        threads_option(TRAINING),
    )


def _validation_options() -> Sequence[Decorator]:
    """Declare when to measure and when to stop."""
    return (
        option(
            TRAINING,
            "--validations-per-epoch",
            type=WholeNumber(1, 10_000),
            default=DEFAULTS.validations_per_epoch,
            help="How often the test part is evaluated.",
        ),
        option(
            TRAINING,
            "--patience",
            type=WholeNumber(1),
            help="Stop after so many validations in a row without a smaller loss.",
        ),
        option(
            TRAINING,
            "--keep-last",
            is_flag=True,
            help="With --patience: keep the last weights, not those of the smallest validation loss.",
        ),
    )
