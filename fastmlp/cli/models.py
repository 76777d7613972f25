"""Opening a trained network that the user names by its file or by its run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastmlp.cli.options import Decorator
from fastmlp.errors import DataFormatError, ModelFormatError
from fastmlp.runs import MODEL, read_record

if TYPE_CHECKING:
    from fastmlp.datasets import Dataset
    from fastmlp.network import Network


def model_argument() -> Decorator:
    """Declare MODEL."""
    return click.argument("model", type=click.Path(path_type=Path), metavar="MODEL")


def load_model(path: Path) -> Network:
    """Load a model file, or the one in a run folder.

    Raises
    ------
    ModelFormatError
        If there is none or it is refused.
    """
    from fastmlp.network import Network

    if path.is_dir() and not (path / MODEL).exists():
        runs = sorted(model.parent for model in path.glob(f"*/{MODEL}"))
        hint = f"; did you mean {runs[-1]}?" if runs else ""  # names begin with the time
        raise ModelFormatError(f"{path}: no {MODEL} in this folder{hint}")
    return Network.load(path / MODEL if path.is_dir() else path)


def run_record(path: Path) -> dict[str, Any]:
    """Return the config.json beside a model, or nothing if there is none that can be read."""
    return read_record(path if path.is_dir() else path.parent)


def check_fit(network: Network, dataset: Dataset) -> None:
    """Refuse data that a network was not made for.

    Raises
    ------
    DataFormatError
        If features or classes differ.
    """
    n_features = dataset.X_test.shape[1]
    if n_features != network.n_features:
        raise DataFormatError(
            f"{dataset.name}: samples have {n_features} features, but the model expects {network.n_features}"
        )
    if dataset.n_classes > network.n_classes:
        raise DataFormatError(
            f"{dataset.name}: labels go up to {dataset.n_classes - 1}, "
            f"but the model knows classes 0..{network.n_classes - 1}"
        )
