"""``fastmlp gradcheck``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fastmlp.cli.base import Command
from fastmlp.cli.mistakes import BAR_MISSED
from fastmlp.cli.options import (
    DATA,
    TRAINING,
    activation_option,
    data_option,
    init_option,
    json_option,
    layers_option,
    max_bytes_option,
    option,
    seed_option,
)
from fastmlp.cli.output import describe_network, print_columns, print_json
from fastmlp.cli.types import FiniteNumber, WholeNumber
from fastmlp.experiment import Settings
from fastmlp.memory import check_memory

if TYPE_CHECKING:
    from fastmlp.gradient_check import ArrayCheck

    Result = tuple[str, ArrayCheck]  # the way through the first layer, and what came of it


@click.command(
    cls=Command,
    examples=[
        ("fastmlp gradcheck", "784-128-10, ReLU"),
        ("fastmlp gradcheck --layers 64,64 --activation sigmoid", "two hidden layers of sigmoids"),
        ("fastmlp gradcheck --layers 17,3 --l2 0.01 --checks 1000", "with penalty; more parameters"),
    ],
)
@layers_option()
@activation_option()
@init_option()
@seed_option("Seed of the initial weights and of the choice of parameters.")
@option(TRAINING, "--l2", type=FiniteNumber(at_least=0.0), default=0.0, help="Weight of the L2 penalty.")
@data_option()
@max_bytes_option()
@option(DATA, "--samples", type=WholeNumber(1), default=100, help="Training samples to take the loss over.")
@option(DATA, "--checks", type=WholeNumber(1), default=100, help="Parameters to compare per array, at random.")
@json_option()
@click.pass_context
def gradcheck(
    ctx: click.Context,
    layers: tuple[int, ...],
    activation: str,
    init: str,
    seed: int,
    l2: float,
    data: str,
    max_bytes: int,
    samples: int,
    checks: int,
    as_json: bool,
) -> None:
    """Check the compiled gradients against finite differences.

    The gradients that the compiled kernels compute by back-propagation are compared with central differences
    of the loss, (L(w + e) - L(w - e)) / 2e, in float64, on both ways through the first layer: with all inputs
    (dense) and skipping those that are 0 (background-skipping).

    The exit code is 3 if any differ by more than 1e-6 (relatively; gradients below 0.01: by 1e-8).
    """
    from fastmlp.datasets import load_dataset
    from fastmlp.gradient_check import TOLERANCE, check_gradients
    from fastmlp.network import Network

    dataset = load_dataset(data, max_bytes=max_bytes)
    sizes = (dataset.X_train.shape[1], *layers, dataset.n_classes)
    check_memory(Settings(layers=layers, dtype="float64", epochs=1, threads=1), sizes, samples)
    network = Network(sizes, activation, init, "float64", seed, dataset.mean, dataset.std)
    X, y = dataset.X_train[:samples], dataset.y_train[:samples]
    results: list[Result] = []
    for skips in (False, True) if layers else (False,):  # without a hidden layer there is one path only
        network.skip_background = skips
        comparison = check_gradients(network, X, y, l2=l2, n_checked=checks, seed=seed)
        results += [("background-skipping" if skips else "dense", check) for check in comparison]
    passed = all(check.passed for _, check in results)
    if as_json:
        settings = {"layers": sizes, "activation": activation, "l2": l2, "samples": len(X)}
        outcome = {"tolerance": TOLERANCE, "passed": passed, "arrays": _documents(results)}
        print_json({"command": "gradcheck", **settings, **outcome})
    else:
        click.echo(f"{describe_network(sizes, activation)}, {len(X)} samples of {dataset.name}, float64\n")
        _print(results)
        verdict = "The gradients are right" if passed else "The gradients are WRONG"
        click.echo(f"\n{verdict} (tolerance {TOLERANCE:g}).")
    ctx.exit(0 if passed else BAR_MISSED)


def _documents(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return the comparisons in the terms of JSON."""
    return [{"input_path": path, **asdict(check), "passed": check.passed} for path, check in results]


def _print(results: Sequence[Result]) -> None:
    """Print the comparisons for people."""
    header = ("input path", "layer", "array", "parameters", "compared", "difference", "gradient there", "")
    rows = [
        (
            path,
            str(check.layer),
            check.array,
            f"{check.n_parameters:,}",
            f"{check.n_checked:,}",
            f"{check.worst:.1e}",
            f"{check.gradient:.3e}",
            "ok" if check.passed else "WRONG",
        )
        for path, check in results
    ]
    print_columns(header, rows, left=3)
