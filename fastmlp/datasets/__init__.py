"""Data sets: MNIST inside the package, IDX folders and .npz files by path, all checked before use."""

from __future__ import annotations

from fastmlp.datasets.dataset import Dataset, load_dataset

__all__ = ["Dataset", "load_dataset"]
