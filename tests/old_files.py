"""Files of every format that a release has written: each must be readable for ever.

``python -m tests.old_files`` writes those of the formats of today beside the older ones; run it when a format changes.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fastmlp import Checkpoints, Network, checkpoint, model_file, train
from tests.small_data import Array

FOLDER = Path(__file__).parent / "data"
LAYERS = (4, 3, 2)
OPTIONS: dict[str, Any] = {
    "batch_size": 6, "learning_rate": 0.25, "momentum": 0.5, "shuffle": False, "patience": 5, "threads": 1,
}  # fmt: skip
EPOCHS = 2


def network() -> Network:
    """Make the network of the files: its numbers are exact in every format, and follow from no random numbers."""
    arrays = [np.arange(count).reshape(shape) / 16 - 0.25 for count, shape in ((12, (4, 3)), (6, (3, 2)))]
    biases = [np.arange(3) / 8, np.arange(2) / 4]
    return Network.from_parameters(
        [array.astype(np.float32) for array in arrays],
        biases,
        activation="tanh",
        init="glorot",
        seed=7,
        mean=[0, 1, 2, 3],
        std=[1, 2, 4, 8],
    )


def samples() -> tuple[Array, Array]:
    """Make the samples of the checkpoint."""
    return np.arange(80, dtype=np.uint8).reshape(20, 4) % 7, np.arange(20) % 2


def main() -> None:
    """Write the files."""
    network().save(FOLDER / f"model-format-{model_file.FORMAT}.safetensors")
    X, y = samples()
    with TemporaryDirectory() as folder:
        train(network(), X, y, epochs=EPOCHS, validation=(X, y), checkpoints=Checkpoints(folder), **OPTIONS)
        newest = Checkpoints(folder).files()[-1]
        (FOLDER / f"checkpoint-format-{checkpoint.FORMAT}.safetensors").write_bytes(newest.read_bytes())


if __name__ == "__main__":
    main()
