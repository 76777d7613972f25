"""Pictures and arrays that a user wants classified, brought into the form of a network's training data."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastmlp.datasets.checks import as_features
from fastmlp.datasets.files import RawArray, check_memory, data_error, open_regular
from fastmlp.datasets.npz import read_npy, read_npz
from fastmlp.errors import DataFormatError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_PICTURES = (".png", ".jpg", ".jpeg")
_ARRAYS = (".npy", ".npz")
_BYTES_PER_PIXEL = 16  # of four channels, decoded, converted, laid on white: a small file may hold many equal pixels
_LIGHT = 127  # a border brighter than this is a light background


class Images(NamedTuple):
    """Samples to classify.

    Attributes
    ----------
    rows : uint8 or float32 (n, d), C-contiguous
        One sample per row; uint8 unless an array file holds other numbers.
    names : list of str, length n
        Where each row came from: the file, for arrays with the row in it (``digits.npy[3]``).
    notes : list of str
        What the user should know: pictures that were resized or have a light background.
    """

    rows: npt.NDArray[Any]
    names: list[str]
    notes: list[str]


def read_images(
    paths: Sequence[str | os.PathLike[str]],
    image_shape: tuple[int, int],
    *,
    invert: bool = False,
    max_bytes: int = 4 * 2**30,
) -> Images:
    """Read pictures (PNG, JPEG) and arrays (.npy, or 'X' of an .npz) as rows for a network.

    Parameters
    ----------
    paths : sequence of paths
        At least one file.
    image_shape : (height, width)
        The network's input as an image; (1, d) if its d features are no image.
        Pictures become grey and are resized to it, with a note. A transparent picture is laid on white.
        Arrays must fit: samples (n, d) or (n, height, width), or a single one, (d,) or (height, width).
    invert : bool, default False
        Turn dark into light in pictures: for black ink on white paper, as MNIST is white on black.
        Never done unasked. Arrays are left as they are.
    max_bytes : int, default 4 GiB
        Refuse a file that needs more memory than this.

    Returns
    -------
    Images
        Rows, their names, and notes for the user.

    Raises
    ------
    DataFormatError
        A file is missing, damaged or hostile, of another kind, or its arrays do not fit `image_shape`.
    ValueError
        `paths` is empty.
    """
    if not paths:
        raise ValueError("no files to read (got 0, expected at least 1)")
    parts: list[npt.NDArray[Any]] = []
    names: list[str] = []
    notes: list[str] = []
    for path in map(Path, paths):
        if path.suffix.lower() in _PICTURES:
            pixels, picture_notes = _read_picture(path, image_shape, invert, max_bytes)
            parts.append(pixels.reshape(1, -1))
            names.append(str(path))
            notes.extend(picture_notes)
        elif path.suffix.lower() in _ARRAYS:
            parts.append(_read_rows(path, image_shape, max_bytes))
            names.extend(f"{path}[{row}]" for row in range(len(parts[-1])))
        else:
            raise data_error(path, "unknown kind of file", expected=", ".join(_PICTURES + _ARRAYS))
    return Images(np.concatenate(parts), names, notes)


def _read_rows(path: Path, image_shape: tuple[int, int], max_bytes: int) -> npt.NDArray[Any]:
    if path.suffix.lower() == ".npz":
        origin, values = read_npz(path, (("X",), ("X", "y")), max_bytes=max_bytes)["X"]
    else:
        origin, values = read_npy(path, max_bytes=max_bytes)
    n_features = math.prod(image_shape)
    if values.shape in (image_shape, (n_features,)):
        values = values[np.newaxis]
    rows = as_features(RawArray(origin, values))
    if rows.shape[1] != n_features:
        raise data_error(origin, "wrong number of features", got=rows.shape[1], expected=n_features)
    return rows


def _read_picture(
    path: Path, image_shape: tuple[int, int], invert: bool, max_bytes: int
) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Return the picture's pixels, uint8 (height, width), and notes for the user."""
    from PIL import Image

    height, width = image_shape
    notes = []
    with open_regular(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oddities of metadata, which do not touch the pixels
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            picture = Image.open(file, formats=("PNG", "JPEG"))
            check_memory(path, _BYTES_PER_PIXEL * picture.width * picture.height, max_bytes)
            image = _grey(picture)
            if image.size != (width, height):
                notes.append(f"{path}: resized from {image.width} x {image.height} to {width} x {height}")
                image = image.resize((width, height), Image.Resampling.LANCZOS)
        except DataFormatError:
            raise
        except Exception as error:  # Pillow lists nowhere what damaged files raise
            raise data_error(path, f"not a readable PNG or JPEG picture: {error}") from error
    pixels = np.asarray(image, np.uint8)
    if invert:
        pixels = 255 - pixels
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).mean()
    if border > _LIGHT:
        notes.append(f"{path}: light background (border {border:.0f} of 255), but MNIST is white on black")
    return pixels, notes


def _grey(image: Picture) -> Picture:
    """Turn a picture of any mode into mode "L", 8-bit grey."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)  # cameras turn pictures only by such a mark
    if image.mode.startswith("I"):  # 16 bits, which convert() would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L")
