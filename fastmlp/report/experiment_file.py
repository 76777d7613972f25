"""Experiments of one's own, read from a TOML file.

One table per experiment; what is left out is as in the basic network of the assignment::

    [experiments.wide-relu]
    layers = [256]
    activation = "relu"
    init = "he"
    learning_rate = 0.05
    momentum = 0.9
    title = "a wide network"
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastmlp.experiment import ACTIVATION_ALIASES, ACTIVATIONS, INITIALIZATIONS
from fastmlp.report.experiments import EXPERIMENTS, NAME, TASKS, Experiment, ExperimentError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MAX_BYTES = 1 << 20
_MOST_LAYERS, _MOST_UNITS = 100, 100_000


def read_experiments(path: Path) -> dict[str, Experiment]:
    """Read a TOML file of experiments.

    Returns
    -------
    dict of str to Experiment
        In the order of the file.

    Raises
    ------
    ExperimentError
        If the file cannot be read, is not TOML, or says something else than experiments; one line that names the
        experiment and the key.
    """
    document = _parse(path)
    _check_keys(path, "", document, ["experiments"])
    tables = document.get("experiments")
    if not isinstance(tables, dict) or not tables:
        raise ExperimentError(f"{path}: no experiments; each is a table such as [experiments.wide]")
    experiments = {name: _experiment(path, name, table) for name, table in tables.items()}
    _check_files(path, list(tables))
    return experiments


def _parse(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():
            raise ExperimentError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ExperimentError(f"{path}: larger than 1 MiB")
        return tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise ExperimentError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise ExperimentError(f"{path}: not a TOML file: not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise ExperimentError(f"{path}: nested too deeply") from error
    except tomllib.TOMLDecodeError as error:
        raise ExperimentError(f"{path}: not a TOML file: {error}") from error


def _check_keys(path: Path, where: str, table: Mapping[str, Any], known: list[str]) -> None:
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise ExperimentError(f"{path}: {where}unknown key {key!r}; {hint}")


def _check_files(path: Path, names: list[str]) -> None:
    """Refuse names whose files would take each other's place; on some systems "A" and "a" are one file."""
    taken = {name.lower(): name for name in EXPERIMENTS} | {f"{group}-validation": "" for group in (*TASKS, "chain")}
    for name in names:
        other = taken.setdefault(name.lower(), name)
        if other != name:
            reason = f"of {other!r}" if other else "of a comparison"
            raise ExperimentError(f"{path}: experiments.{name}: its files would be those {reason}; choose another name")


def _experiment(path: Path, name: str, table: Any) -> Experiment:
    """Check one table."""
    where = f"experiments.{name}"
    if not NAME.fullmatch(name):
        expected = "expected letters, digits, '.', '_', '-', at most 60, beginning with a letter or digit"
        raise ExperimentError(f"{path}: invalid name {name!r} ({expected})")
    if name in EXPERIMENTS or name in TASKS:
        raise ExperimentError(f"{path}: {where}: the name is taken by the assignment's own")
    if not isinstance(table, dict):
        raise ExperimentError(f"{path}: {where} must be a table (got {table!r:.60})")
    _check_keys(path, f"{where}: ", table, list(_CHECKS))
    values = {}
    for key, value in table.items():
        expected, check = _CHECKS[key]
        values[key] = check(value)
        if values[key] is None:
            raise ExperimentError(f"{path}: {where}.{key} must be {expected} (got {value!r:.60})")
    return dataclasses.replace(Experiment(name), **values)


def _layers(value: Any) -> tuple[int, ...] | None:
    whole = isinstance(value, list) and all(type(size) is int and 1 <= size <= _MOST_UNITS for size in value)
    return tuple(value) if whole and len(value) <= _MOST_LAYERS else None


def _number(low: float, high: float, *, open_low: bool) -> Callable[[Any], float | None]:
    def check(value: Any) -> float | None:
        if type(value) not in (int, float) or not math.isfinite(value) or not low <= value < high:
            return None
        return None if open_low and value == low else float(value)

    return check


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) <= 200 and value.isprintable() else None


def _choice(names: tuple[str, ...], aliases: Mapping[str, str]) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        name = aliases.get(value, value) if isinstance(value, str) else None
        return name if name in names else None

    return check


_CHECKS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "layers": (f"a list of at most {_MOST_LAYERS} whole numbers from 1 to {_MOST_UNITS:,}", _layers),
    "activation": (f"one of {', '.join(ACTIVATIONS)}", _choice(ACTIVATIONS, ACTIVATION_ALIASES)),
    "init": (f"one of {', '.join(INITIALIZATIONS)}", _choice(INITIALIZATIONS, {})),
    "learning_rate": ("a finite number > 0", _number(0.0, math.inf, open_low=True)),
    "momentum": ("a number >= 0 and < 1", _number(0.0, 1.0, open_low=False)),
    "title": ("a line of text of at most 200 characters", _text),
}
