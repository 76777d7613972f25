"""No file does harm: every reader is given damaged files, and only our own errors may come out.

An ordinary run tries some hundred files per reader. A long one, of other files each time, takes as many seconds per
reader as one likes: ``FASTMLP_FUZZ_SECONDS=600 pytest -m nightly tests/test_fuzz.py``.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save

from fastmlp import DataFormatError, ModelFormatError, Network, load_dataset
from fastmlp.datasets.idx import read_idx
from fastmlp.datasets.images import read_images
from fastmlp.datasets.npz import read_npy
from tests.dataset_files import idx_bytes, npy_bytes, ramp, zip_bytes

SECONDS = float(os.environ.get("FASTMLP_FUZZ_SECONDS", "60"))
MAX_BYTES = 1 << 20

# What headers are made of: sizes, signs and names that readers may trip over.
TOKENS = [
    *(b"0", b"-1", b"1e999", b"NaN", b"null", b"true", b"True", b"[]", b"{}", b"()", b'"', b"'", b"\\", b"\x00"),
    *(b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00"),
    *(b"4294967296", b"9223372036854775808", b"18446744073709551616", b"9" * 5000, b"[" * 500, b"(" * 200),
    *(b"<f8", b">f2", b"|O", b"O", b"|V8", b"<U9", b"<m8[s]", b"F64", b"F16", b"BF16", b"I64", b"shape", b"descr"),
    *(b"__metadata__", b"fastmlp", b"weight.0", b"bias.1", b"mean", b"std"),
    *(b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"),
]


class Reader(NamedTuple):
    """A reader, the error that it may raise, and good files of its kind."""

    read: Callable[[Path], object]
    error: type[Exception]
    seeds: list[bytes]


def read_model(path: Path) -> None:
    """Load a network; if it is one, it works."""
    network = Network.load(path)
    for array in (*network.weights, *network.biases):
        assert np.isfinite(array).all()
    assert network.predict_proba(np.zeros((3, network.n_features))).shape == (3, network.n_classes)


def read_array(path: Path) -> None:
    """Read an .npy or IDX file; if it is one, it is no larger than allowed."""
    values = (
        read_idx(path, max_bytes=MAX_BYTES) if path.suffix == ".idx" else read_npy(path, max_bytes=MAX_BYTES).values
    )
    assert 0 < values.nbytes <= MAX_BYTES
    assert values.flags.c_contiguous


def read_dataset(path: Path) -> None:
    """Load a data set; if it is one, it can be trained on."""
    data = load_dataset(path, max_bytes=MAX_BYTES)
    assert data.X_train.dtype in (np.uint8, np.float32)
    assert np.isfinite(data.X_train).all()
    assert 0 <= data.y_train.min() <= data.y_train.max() < data.n_classes


def read_picture(path: Path) -> None:
    """Read a picture; if it is one, it is a row."""
    assert read_images([path], (4, 5)).rows.shape == (1, 20)


def models() -> list[bytes]:
    """Return model files of two dtypes."""
    files = []
    for dtype in (np.float32, np.float64):
        tensors = {
            "weight.0": ramp(3, 4).astype(dtype), "bias.0": ramp(4).astype(dtype), "weight.1": ramp(4, 2).astype(dtype),
            "bias.1": ramp(2).astype(dtype), "mean": np.zeros(1), "std": np.array([1.0, 2.0, 3.0]),
        }  # fmt: skip
        description = {
            "format": 1, "version": "0", "layers": [3, 4, 2], "activation": "tanh", "init": "he",
            "dtype": np.dtype(dtype).name, "seed": 0, "skip_background": True,
        }  # fmt: skip
        files.append(save(tensors, {"fastmlp": json.dumps(description)}))
    return files


def archives() -> list[bytes]:
    """Return .npz files, stored and compressed, with and without a test part."""
    y = np.arange(10) % 2
    both = {"X.npy": npy_bytes(ramp(10, 3)), "y.npy": npy_bytes(y)}
    four = {f"{name}.npy": npy_bytes(y if name[0] == "y" else ramp(10, 2, 2, dtype="u1")) for name in FOUR}
    return [zip_bytes(members, kind) for members in (both, four) for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]


FOUR = ("X_train", "y_train", "X_test", "y_test")


def pictures(file_format: str) -> list[bytes]:
    """Return small pictures of several modes."""
    files = []
    for mode in ("L", "RGB", "1" if file_format == "PNG" else "CMYK"):
        file = io.BytesIO()
        Image.fromarray(ramp(6, 7, dtype="u1")).convert(mode).save(file, file_format)
        files.append(file.getvalue())
    return files


IDX = [idx_bytes(ramp(4, 3, 2, dtype=dtype)) for dtype in ("u1", "i2", "f8")]
READERS = {
    "model.safetensors": Reader(read_model, ModelFormatError, models()),
    "values.idx": Reader(read_array, DataFormatError, [*IDX, *map(gzip.compress, IDX)]),
    "values.npy": Reader(
        read_array, DataFormatError, [npy_bytes(ramp(4, 3)), npy_bytes(np.asfortranarray(ramp(2, 3)))]
    ),
    "data.npz": Reader(read_dataset, DataFormatError, archives()),
    "picture.png": Reader(read_picture, DataFormatError, pictures("PNG")),
    "picture.jpg": Reader(read_picture, DataFormatError, pictures("JPEG")),
}


def damaged(content: bytes, choose: Callable[[int], int], times: int) -> bytes:
    """Change, cut out, double, put in or end something, some times; ``choose(n)`` gives a number below n."""
    changed = bytearray(content)
    for _ in range(times):
        early = choose(2) == 0  # headers are at the beginning, and the lists of archives at the end
        at = choose(min(len(changed), 100) + 1) if early else choose(len(changed) + 1)
        kind = choose(7)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << choose(8)
        elif kind == 1 and at < len(changed):
            changed[at] = choose(256)
        elif kind == 2:
            del changed[at : at + 1 + choose(16)]
        elif kind == 3:
            changed[at:at] = TOKENS[choose(len(TOKENS))]
        elif kind == 4:
            token = TOKENS[choose(len(TOKENS))]
            changed[at : at + len(token)] = token
        elif kind == 5:
            changed[at:at] = changed[at : at + 1 + choose(64)]
        elif kind == 6 and choose(4) == 0:
            del changed[at:]
    return bytes(changed)


def assert_harmless(name: str, content: bytes, folder: Path) -> None:
    """Let a reader read a file: it succeeds, or says in one line what is wrong."""
    reader, path = READERS[name], folder / name
    path.write_bytes(content)
    try:
        reader.read(path)
    except reader.error as error:
        text = str(error)
        assert "\n" not in text and str(path) in text
        assert len(text) < 2000


@pytest.mark.parametrize("name", READERS)
def test_good_files_are_good(name: str, tmp_path: Path) -> None:
    """Else the tests below would try nothing."""
    for content in READERS[name].seeds:
        (tmp_path / name).write_bytes(content)
        READERS[name].read(tmp_path / name)


@pytest.mark.parametrize("name", READERS)
def test_no_damage_does_harm(name: str, tmp_path: Path) -> None:
    """Damage good files here and there."""

    @hypothesis.settings(max_examples=150, phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink])
    @hypothesis.given(st.data(), st.sampled_from(READERS[name].seeds), st.integers(1, 4))
    def fuzz(data: st.DataObject, content: bytes, times: int) -> None:
        def choose(n: int) -> int:
            return data.draw(st.integers(0, n - 1))

        assert_harmless(name, damaged(content, choose, times), tmp_path)

    fuzz()


@pytest.mark.nightly
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("name", READERS)
def test_no_damage_does_harm_for_long(name: str, tmp_path: Path) -> None:
    """Damage good files and files damaged before; a failure names the file."""
    seed = random.SystemRandom().getrandbits(32)
    generator = random.Random(seed)
    files = list(READERS[name].seeds)
    end, count = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        content = damaged(generator.choice(files), generator.randrange, generator.randint(1, 6))
        try:
            assert_harmless(name, content, tmp_path)
        except BaseException:
            print(f"seed {seed}, file {count}, kept as {tmp_path / name}")
            raise
        count += 1
        if generator.randrange(50) == 0:  # go on from a damaged one, which may reach deeper
            files[generator.randrange(len(files))] = content if len(content) < 20_000 else READERS[name].seeds[0]
    print(f"{count} files")
