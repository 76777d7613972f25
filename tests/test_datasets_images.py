"""Pictures and arrays for prediction: every kind becomes rows, and what was done to them is said."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastmlp.datasets.images import read_images
from fastmlp.errors import DataFormatError
from tests.dataset_files import npy_bytes, ramp, zip_bytes

SHAPE = (6, 8)
DARK = np.random.default_rng(0).integers(0, 120, SHAPE, np.uint8)


def save(path: Path, pixels: np.ndarray, mode: str = "L") -> Path:
    """Write pixels as a picture of the given mode."""
    picture = Image.fromarray(pixels)
    (picture if mode == picture.mode else picture.convert(mode)).save(path)
    return path


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_png(tmp_path: Path, mode: str) -> None:
    """Read the pixels of every kind of PNG unchanged if they are grey and of the right size."""
    images = read_images([save(tmp_path / "digit.png", DARK, mode)], SHAPE)
    assert images.rows.dtype == np.uint8 and images.rows.flags.c_contiguous
    np.testing.assert_array_equal(images.rows, DARK.reshape(1, -1))
    assert images.names == [str(tmp_path / "digit.png")]
    assert images.notes == []


def test_16_bits(tmp_path: Path) -> None:
    """Keep the upper 8 of 16 bits."""
    path = save(tmp_path / "digit.png", DARK.astype(np.uint16) * 257, "I;16")
    np.testing.assert_array_equal(read_images([path], SHAPE).rows, DARK.reshape(1, -1))


def test_jpeg(tmp_path: Path) -> None:
    """Read a JPEG, whose compression costs a little, and whatever the case of its name."""
    smooth = ramp(*SHAPE, dtype="u1")
    for name in ("digit.jpg", "digit.JPEG"):
        rows = read_images([save(tmp_path / name, smooth)], SHAPE).rows
        np.testing.assert_allclose(rows.astype(int), smooth.reshape(1, -1), atol=4)


def test_colour(tmp_path: Path) -> None:
    """Turn colours into grey by their brightness."""
    path = save(tmp_path / "red.png", np.full((*SHAPE, 3), (255, 0, 0), np.uint8), "RGB")
    assert set(read_images([path], SHAPE).rows[0]) == {76}  # 0.299 * 255, the luma of ITU-R 601


def test_transparency(tmp_path: Path) -> None:
    """Show a transparent background as white, as viewers do, even where its hidden colour is black."""
    pixels = np.zeros((*SHAPE, 4), np.uint8)
    pixels[2:4, 3:5, 3] = 255
    row = read_images([save(tmp_path / "ink.png", pixels, "RGBA")], SHAPE).rows.reshape(SHAPE)
    expected = np.full(SHAPE, 255)
    expected[2:4, 3:5] = 0
    np.testing.assert_array_equal(row, expected)


def test_camera_orientation(tmp_path: Path) -> None:
    """Turn a picture as its camera says."""
    exif = Image.Exif()
    exif[0x0112] = 6  # the orientation tag: turn 90 degrees clockwise to view
    Image.fromarray(DARK).save(tmp_path / "digit.png", exif=exif)
    rows = read_images([tmp_path / "digit.png"], SHAPE[::-1]).rows
    np.testing.assert_array_equal(rows.reshape(SHAPE[::-1]), np.rot90(DARK, -1))


def test_resizing_is_noted(tmp_path: Path) -> None:
    """Resize a picture of another size and say so."""
    path = save(tmp_path / "big.png", DARK.repeat(10, axis=0).repeat(20, axis=1))
    images = read_images([path], SHAPE)
    assert images.notes == [f"{path}: resized from 160 x 60 to 8 x 6"]
    assert np.corrcoef(images.rows[0], DARK.reshape(-1))[0, 1] > 0.9


def test_light_background(tmp_path: Path) -> None:
    """Leave a light background as it is but note it; invert on request."""
    path = save(tmp_path / "paper.png", 255 - DARK)
    images = read_images([path], SHAPE)
    np.testing.assert_array_equal(images.rows[0], 255 - DARK.reshape(-1))
    assert len(images.notes) == 1 and images.notes[0].startswith(f"{path}: light background")

    inverted = read_images([path], SHAPE, invert=True)
    np.testing.assert_array_equal(inverted.rows[0], DARK.reshape(-1))
    assert inverted.notes == []


@pytest.mark.parametrize("shape", [(48,), (6, 8), (1, 48), (3, 48), (3, 6, 8)])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    """Read one or several samples, flat or as images, and name each row."""
    path = tmp_path / f"digits{suffix}"
    values = np.random.default_rng(0).integers(0, 256, shape)
    np.save(path, values) if suffix == ".npy" else np.savez(path, X=values, y=[1, 2, 3])
    images = read_images([path], SHAPE, invert=True)  # which is for pictures only
    np.testing.assert_array_equal(images.rows, values.reshape(-1, 48))
    assert images.rows.dtype == np.uint8
    assert images.names == [f"{path}[{row}]" for row in range(values.size // 48)]


def test_several_files(tmp_path: Path) -> None:
    """Put the rows of all files one under the other, in float32 if one of them is not uint8."""
    floats = ramp(2, 48) / 7
    np.save(tmp_path / "rows.npy", floats)
    images = read_images([save(tmp_path / "digit.png", DARK), tmp_path / "rows.npy"], SHAPE)
    np.testing.assert_array_equal(images.rows, np.concatenate([DARK.reshape(1, -1), floats]))
    assert images.rows.dtype == np.float32
    assert [Path(name).name for name in images.names] == ["digit.png", "rows.npy[0]", "rows.npy[1]"]


def png(size: tuple[int, int], pixels: bytes) -> bytes:
    """Compose a grey PNG that declares this size and holds these bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big") + b"\x08\0\0\0\0"
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def gif() -> bytes:
    """Make a small GIF."""
    file = io.BytesIO()
    Image.fromarray(DARK).save(file, "gif")
    return file.getvalue()


GOOD_PNG = png((8, 6), bytes(9 * 6))
BAD_FILES = {
    "text.png": (b"not a picture", r"not a readable PNG or JPEG"),
    "empty.png": (b"", r"file is empty"),
    "short.png": (GOOD_PNG[:-30], r"not a readable PNG or JPEG"),
    "gif in disguise.png": (gif(), r"not a readable PNG or JPEG"),
    "bomb.png": (png((10_000, 10_000), b""), r"decompression bomb"),
    "bigger bomb.png": (png((2**31 - 1, 2**31 - 1), b""), r"decompression bomb"),
    "picture.gif": (gif(), r"unknown kind of file \(expected .png, .jpg, .jpeg, .npy, .npz\)"),
    "pickle.npy": (npy_bytes(np.array([{}], object)), r"object arrays are not allowed"),
    "nan.npy": (npy_bytes(np.full((2, 48), np.nan)), r"NaN/infinity .*\(row 0, column 0: nan\)"),
    "narrow.npy": (npy_bytes(ramp(2, 47)), r"wrong number of features \(got 47, expected 48\)"),
    "number.npy": (npy_bytes(np.float32(3)), r"wrong number of dimensions"),
    "vector.npy": (npy_bytes(ramp(47)), r"features need a row per sample \(got shape \(47,\)"),
    "no X.npz": (
        zip_bytes({"Z.npy": npy_bytes(ramp(48))}),
        r"expected arrays 'X', or 'X' and 'y', found 'Z'",
    ),
}


def test_the_good_png_is_good(tmp_path: Path) -> None:
    """Read the PNG that the bad ones are made from."""
    (tmp_path / "good.png").write_bytes(GOOD_PNG)
    assert not read_images([tmp_path / "good.png"], SHAPE).rows.any()


@pytest.mark.parametrize(("name", "data", "words"), [(name, *bad) for name, bad in BAD_FILES.items()], ids=BAD_FILES)
def test_bad_file(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    """Refuse a bad file in one clear line."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataFormatError, match=words) as caught:
        read_images([tmp_path / name], SHAPE)
    assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)


def test_a_picture_beyond_the_limit(tmp_path: Path) -> None:
    """Refuse a picture by the size in its header: a few hundred bytes may hold any number of equal pixels."""
    (tmp_path / "large.png").write_bytes(png((8000, 8000), b""))
    with pytest.raises(
        DataFormatError, match=r"large.png: data too large \(got 1024000000 bytes, expected at most 999"
    ):
        read_images([tmp_path / "large.png"], SHAPE, max_bytes=999_000_000)


def test_missing_file(tmp_path: Path) -> None:
    """Name a missing file."""
    with pytest.raises(DataFormatError, match=r"digit.png: no such file"):
        read_images([tmp_path / "digit.png"], SHAPE)


def test_no_files() -> None:
    """Refuse an empty list."""
    with pytest.raises(ValueError, match="no files to read"):
        read_images([], SHAPE)
