"""Networks on disk: safetensors, with a description in JSON. No code is in such a file, and none is run.

Tensors ``weight.0``, ``bias.0``, ``weight.1``, ... in the dtype of the network, ``mean`` and ``std`` in float64. The
metadata entry ``fastmlp`` holds the description: format version, layers, activation, init, dtype, seed, and whether
zeros in the inputs are skipped.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import __version__, checks
from fastmlp.errors import ModelFormatError
from fastmlp.initialization import INITIALIZATIONS
from fastmlp.memory import human_bytes
from fastmlp.system import available_memory

if TYPE_CHECKING:
    from fastmlp.network import Network

FORMAT = 1
_MAX_MESSAGE = 300

# The names, shapes and places of the tensors of a thousand layers take 200 kB. Parsed, a header that is made for it
# takes forty times its length.
MAX_HEADER = 1 << 19

# Loading holds the file and its tensors, then the tensors and the network.
_COPIES = 3

_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_FOREIGN = {
    b"PK\x03\x04": "a zip archive, as PyTorch and NumPy write",
    b"\x89HDF": "an HDF5 file, as Keras writes",
}
_DESCRIPTION = {"format", "version", "layers", "activation", "init", "dtype", "seed", "skip_background"}


def write_model(network: Network, path: str | os.PathLike[str]) -> None:
    """Write a network to a file, replacing it at once or not at all."""
    from safetensors.numpy import save

    description = {
        "format": FORMAT,
        "version": __version__,
        "layers": list(network.layers),
        "activation": network.activation,
        "init": network.init,
        "dtype": network.dtype.name,
        "seed": network.seed,
        "skip_background": network.skip_background,
    }
    tensors: dict[str, NDArray[Any]] = {"mean": network.mean.reshape(-1), "std": network.std.reshape(-1)}
    for i, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        tensors[f"weight.{i}"], tensors[f"bias.{i}"] = weight, bias
    write_atomically(Path(path), save(tensors, {"fastmlp": json.dumps(description)}))


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that after a crash at any moment either the old or the new content is there.

    A file that is replaced keeps its permissions.
    """
    temporary = path.parent / f".{path.name}.{os.urandom(4).hex()}"
    # not by tempfile: its 0600 is not what one expects of a result, and the umask that would say what to make of it
    # can only be asked for by changing it, for all threads
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        mode = path.stat().st_mode & 0o777 if path.exists() else None
        descriptor = os.open(temporary, flags, 0o666 if mode is None else mode)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_model(path: str | os.PathLike[str]) -> Network:
    """Read a network; every way in which the file can be wrong is a ``ModelFormatError``."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = Path(path)
    content = read_content(path)
    try:
        header_length = int.from_bytes(content[:8], "little")
        if MAX_HEADER < header_length <= len(content) - 8:
            raise ValueError(f"header of {header_length} bytes, at most {MAX_HEADER} are read")
        header = json.loads(content[8 : 8 + header_length]) if header_length <= len(content) - 8 else {}
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ModelFormatError(f"{path}: not a valid model file: {one_line(error)}") from error
    del content  # the tensors are copies; the network makes another
    try:
        return _network(header.get("__metadata__") or {}, tensors)
    except (ModelFormatError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelFormatError(f"{path}: {one_line(error)}") from error


def read_content(path: Path, expected: str = "a model file (model.safetensors)") -> bytes:
    """Read a whole file that may be anything, after a look at its kind and its size.

    Raises
    ------
    ModelFormatError
        For what cannot be a file of ours.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ModelFormatError(f"{path}: is a directory, expected {expected}")
        if not stat.S_ISREG(status.st_mode):
            raise ModelFormatError(f"{path}: not a regular file")
        with path.open("rb") as file:
            _check_kind(path, file.read(9))
            _check_size(path, status.st_size)
            file.seek(0)
            return file.read()
    except ModelFormatError:
        raise
    except FileNotFoundError as error:
        raise ModelFormatError(f"{path}: no such file") from error
    except ValueError as error:  # a path with a null byte
        raise ModelFormatError(f"{str(path)!a}: cannot be opened: {error}") from error
    except OSError as error:
        raise ModelFormatError(f"{path}: {(error.strerror or str(error)).lower()}") from error


def _check_kind(path: Path, start: bytes) -> None:
    if not start:
        raise ModelFormatError(f"{path}: file is empty")
    # a header of 640 bytes begins like a pickle; but then the header follows
    if start.startswith(_PICKLES) and start[8:] != b"{":
        raise ModelFormatError(
            f"{path}: this is a pickle file; fastmlp does not load pickles because they can run code"
        )
    for mark, name in _FOREIGN.items():
        if start.startswith(mark):
            raise ModelFormatError(f"{path}: this is {name}; fastmlp loads the safetensors files that it writes")


def _check_size(path: Path, size: int) -> None:
    available = available_memory()
    if available is not None and _COPIES * size > available:
        raise ModelFormatError(
            f"{path}: a file of {human_bytes(size)} needs {human_bytes(_COPIES * size)} to load, "
            f"{human_bytes(available)} available"
        )


def one_line(error: Exception) -> str:
    """Return the text of an error in one line of bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}..."  # files can be quoted at any length


def _network(metadata: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> Network:
    """A network from a description and tensors that nobody has checked yet."""
    from fastmlp.network import Network

    text = metadata.get("fastmlp")
    if not isinstance(text, str):
        raise ModelFormatError("not a fastmlp model: the metadata entry 'fastmlp' is missing")
    description = json.loads(text)
    if not isinstance(description, dict):
        raise ModelFormatError("the description is not a JSON object")
    version = description.get("format")
    if version != FORMAT or isinstance(version, bool):
        raise ModelFormatError(f"model was written in format {version!r}, this version reads {FORMAT}; upgrade fastmlp")
    if missing := _DESCRIPTION - description.keys():
        raise ModelFormatError(f"the description lacks {', '.join(sorted(missing))}")
    layers = checks.check_layers(description["layers"])
    dtype = np.dtype(checks.check_choice("dtype", description["dtype"], ("float32", "float64")))
    _check_tensors(layers, dtype, tensors)
    if not isinstance(description["skip_background"], bool):
        raise ModelFormatError("skip_background must be true or false")
    mean, std = (tensors[name] if tensors[name].size != 1 else tensors[name][0] for name in ("mean", "std"))
    network = Network.from_parameters(
        [tensors[f"weight.{i}"] for i in range(len(layers) - 1)],
        [tensors[f"bias.{i}"] for i in range(len(layers) - 1)],
        activation=checks.check_choice("activation", description["activation"], _activations()),
        init=checks.check_choice("init", description["init"], INITIALIZATIONS),
        seed=description["seed"],
        mean=mean,
        std=std,
    )
    network.skip_background = description["skip_background"]
    return network


def _activations() -> tuple[str, ...]:
    from fastmlp.network import ACTIVATIONS

    return ACTIVATIONS


def _check_tensors(layers: tuple[int, ...], dtype: np.dtype[Any], tensors: dict[str, NDArray[Any]]) -> None:
    """Check names, shapes, dtypes and values against the sizes of the layers, before anything is allocated."""
    expected: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(layers)):
        expected[f"weight.{i}"] = (fan_in, fan_out), dtype
        expected[f"bias.{i}"] = (fan_out,), dtype
    for name in ("mean", "std"):
        size = tensors[name].size if name in tensors else 1
        expected[name] = (size if size in (1, layers[0]) else layers[0],), np.dtype(np.float64)
    for name in sorted(expected.keys() - tensors.keys()):
        raise ModelFormatError(f"tensor {name!r} is missing")
    for name in sorted(tensors.keys() - expected.keys()):
        raise ModelFormatError(f"unexpected tensor {name!r}")
    for name, (shape, kind) in expected.items():
        tensor = tensors[name]
        if tensor.shape != shape:
            raise ModelFormatError(f"tensor {name!r} has shape {tensor.shape}, expected {shape}")
        if tensor.dtype != kind:
            raise ModelFormatError(f"tensor {name!r} has dtype {tensor.dtype}, expected {kind}")
        if not np.isfinite(tensor).all():
            raise ModelFormatError(f"tensor {name!r} contains NaN or infinity")
