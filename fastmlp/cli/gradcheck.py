"""``fastmlp gradcheck``."""

from __future__ import annotations

from dataclasses import asdict

import click

from fastmlp.cli.base import BAR_MISSED, Command
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
from fastmlp.experiment import Settings, check_memory


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
@option(
    DATA, "--checks", type=WholeNumber(1), default=100, help="Parameters to compare per array, at random."
)
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
    network = Network(
        sizes,
        activation=activation,
        init=init,
        dtype="float64",
        seed=seed,
        mean=dataset.mean,
        std=dataset.std,
    )
    X, y = dataset.X_train[:samples], dataset.y_train[:samples]
    results = []
    for skips in (False, True) if layers else (False,):  # without a hidden layer there is one path only
        network.skip_background = skips
        path = "background-skipping" if skips else "dense"
        results += [
            (path, check) for check in check_gradients(network, X, y, l2=l2, n_checked=checks, seed=seed)
        ]
    passed = all(result.passed for _, result in results)
    if as_json:
        arrays = [
            {"input_path": path} | asdict(result) | {"passed": result.passed} for path, result in results
        ]
        description = {"layers": sizes, "activation": activation, "l2": l2, "samples": len(X)}
        print_json(
            {
                "command": "gradcheck",
                **description,
                "tolerance": TOLERANCE,
                "passed": passed,
                "arrays": arrays,
            }
        )
    else:
        click.echo(f"{describe_network(sizes, activation)}, {len(X)} samples of {dataset.name}, float64\n")
        print_columns(
            (
                "input path",
                "layer",
                "array",
                "parameters",
                "compared",
                "difference",
                "gradient there",
                "",
            ),
            [
                (
                    path,
                    str(result.layer),
                    result.array,
                    f"{result.n_parameters:,}",
                    f"{result.n_checked:,}",
                    f"{result.worst:.1e}",
                    f"{result.gradient:.3e}",
                    "ok" if result.passed else "WRONG",
                )
                for path, result in results
            ],
            left=3,
        )
        verdict = "The gradients are right" if passed else "The gradients are WRONG"
        click.echo(f"\n{verdict} (tolerance {TOLERANCE:g}).")
    ctx.exit(0 if passed else BAR_MISSED)
