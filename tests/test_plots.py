"""Figures show the numbers they are given, whatever these are, and touch no state outside themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp.history import History
from fastmlp.plots import averaged, confusion_figure, save_figure, training_curves


def history(n_steps: int = 100, validations: int = 5, **changes: Any) -> History:
    """Return a course of training that gets better and better."""
    step = np.linspace(n_steps / max(validations, 1), n_steps, validations).astype(np.int64)
    values: dict[str, Any] = {
        "batch_loss": 2.0 * np.exp(-np.arange(n_steps) / n_steps),
        "step": step,
        "validation_loss": 2.0 * np.exp(-step / n_steps),
        "validation_accuracy": 1.0 - 0.5 * np.exp(-step / n_steps),
        "training_accuracy": 1.0 - 0.4 * np.exp(-step / n_steps),
        "steps_per_epoch": 20,
        "epochs": n_steps // 20,
    }
    return History(**values | changes)


def lines(axes: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axes.lines}


def test_both_panels_show_the_history() -> None:
    past = history()
    figure = training_curves(past, "title")
    loss, accuracy = figure.axes
    np.testing.assert_array_equal(lines(loss)["Validation"].get_ydata(), past.validation_loss)
    np.testing.assert_allclose(
        lines(loss)["Training, mean of 10 steps"].get_ydata(), past.batch_loss.reshape(-1, 10).mean(axis=1)
    )
    np.testing.assert_allclose(lines(accuracy)["Validation"].get_ydata(), 100 * past.validation_accuracy)
    np.testing.assert_allclose(lines(accuracy)["Training"].get_ydata(), 100 * past.training_accuracy)
    np.testing.assert_array_equal(lines(accuracy)["Training"].get_xdata(), past.step)
    assert figure.get_suptitle() == "title"
    for axes in figure.axes:
        assert axes.get_xlabel() == "Training steps (20 per epoch)"
        assert axes.get_ylabel()
        assert axes.get_xlim() == (0.0, 100.0)


def test_curves_differ_in_line_style_as_well_as_colour() -> None:
    _, accuracy = training_curves(history(), "title").axes
    training, validation = lines(accuracy)["Training"], lines(accuracy)["Validation"]
    assert training.get_color() != validation.get_color()
    assert training.get_linestyle() != validation.get_linestyle()


def test_a_long_ragged_curve_gets_a_line_through_it() -> None:
    loss, _ = training_curves(history(n_steps=10_000), "title").axes
    assert len(lines(loss)["Training, mean of 100 steps"].get_ydata()) == 100
    loss, _ = training_curves(history(n_steps=500), "title").axes
    assert "Training, mean of 10 steps" in lines(loss)
    assert len([label for label in lines(loss) if label.startswith("Training")]) == 1


def test_a_loss_over_several_orders_of_magnitude_gets_a_logarithmic_axis() -> None:
    flat, _ = training_curves(history(), "title").axes
    assert flat.get_yscale() == "linear"
    steep, _ = training_curves(history(batch_loss=np.logspace(0, -3, 100)), "title").axes
    assert steep.get_yscale() == "log"


def test_the_best_validation_is_marked_if_training_went_on() -> None:
    marked, _ = training_curves(history(best_step=60), "title").axes
    assert "Best validation loss, step 60" in lines(marked)
    plain, _ = training_curves(history(best_step=100), "title").axes
    assert not any(label.startswith("Best") for label in lines(plain))


@pytest.mark.parametrize(
    "odd",
    [
        history(n_steps=0, validations=0),
        history(n_steps=1, validations=0),
        history(n_steps=3, validations=1),
        history(batch_loss=np.array([1.0, 1.0, np.nan])),
        history(batch_loss=np.zeros(30), validation_loss=np.zeros(5)),
        history(validation_loss=np.full(5, np.inf), validation_accuracy=np.zeros(5)),
        history(validation_accuracy=np.ones(5), training_accuracy=np.ones(5)),
    ],
    ids=["nothing", "one step", "three steps", "diverged", "loss 0", "infinite", "perfect"],
)
def test_unusual_histories_can_be_drawn(odd: History, tmp_path: Path) -> None:
    save_figure(training_curves(odd, "title"), tmp_path / "x.png", dpi=50)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_average_of_runs() -> None:
    middle, mean = averaged(np.array([1.0, 3.0, 5.0, 7.0, 9.0]), steps=2)
    assert middle.tolist() == [1.5, 3.5, 5.0]
    assert mean.tolist() == [2.0, 6.0, 9.0]
    middle, mean = averaged(np.array([1.0, 2.0, 3.0, np.inf]), steps=2)
    assert mean.tolist() == [1.5]


def test_confusion_figure_prints_every_count_and_colours_errors_only() -> None:
    confusion = np.array([[90, 3, 0], [0, 80, 1], [2, 0, 70]])
    figure = confusion_figure(confusion, "title", labels=["cat", "dog", "owl"])
    axes: Any = figure.axes[0]
    assert sorted(int(text.get_text()) for text in axes.texts) == [1, 2, 3, 70, 80, 90]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog", "owl"]
    image = axes.images[0]
    assert image.get_array().mask.diagonal().all()
    assert image.get_clim() == (0, 3)


@pytest.mark.parametrize("n_classes", [2, 47, 200])
def test_confusion_figure_of_any_size(n_classes: int, tmp_path: Path) -> None:
    confusion = np.random.default_rng(0).integers(0, 9, (n_classes, n_classes))
    save_figure(confusion_figure(confusion, "title"), tmp_path / "x.png", dpi=50)


@pytest.mark.parametrize(("name", "start"), [("x.png", b"\x89PNG"), ("x.pdf", b"%PDF"), ("x.svg", b"<?xml")])
def test_the_same_figure_gives_the_same_file(tmp_path: Path, name: str, start: bytes) -> None:
    contents = []
    for _ in range(2):
        save_figure(training_curves(history(), "title"), tmp_path / name)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    assert contents[0].startswith(start)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"figures are written as \.png, \.pdf, \.svg"):
        save_figure(training_curves(history(), "title"), tmp_path / "x.bmp")


def test_drawing_does_not_load_pyplot() -> None:
    code = "import sys, fastmlp.plots; print('matplotlib.pyplot' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
