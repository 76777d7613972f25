"""Precision, recall and the confusion matrix against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp.metrics import classification_report, confusion_matrix


def test_confusion_matrix_has_true_classes_in_rows() -> None:
    matrix = confusion_matrix([0, 0, 1, 2], [0, 1, 1, 0], 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_report_of_a_worked_example() -> None:
    # class 0: 2 of the 3 taken for it are right, 2 of its 4 samples are found
    report = classification_report([0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 0, 1], 2)
    assert report.precision.tolist() == [2 / 3, 1 / 3]
    assert report.recall.tolist() == [1 / 2, 1 / 2]
    assert report.f1 == pytest.approx([2 / (3 / 2 + 2), 2 / (3 + 2)])
    assert report.support.tolist() == [4, 2]
    assert report.accuracy == 0.5


def test_undefined_values_are_nan() -> None:
    report = classification_report([0, 0], [1, 1], 3)  # 0: never predicted; 1: no sample; 2: neither
    assert np.isnan(report.precision).tolist() == [True, False, True]
    assert np.isnan(report.recall).tolist() == [False, True, True]
    assert report.f1[:2].tolist() == [0.0, 0.0]
    assert np.isnan(report.f1[2])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_report_counts_what_a_loop_counts(pairs: list[tuple[int, int]]) -> None:
    true, predicted = zip(*pairs, strict=True)
    report = classification_report(true, predicted, 5)
    for label in range(5):
        found = sum(t == p == label for t, p in pairs)
        of_class, taken = true.count(label), predicted.count(label)
        assert report.support[label] == of_class
        if of_class:
            assert report.recall[label] == found / of_class
        if taken:
            assert report.precision[label] == found / taken
        if of_class and taken:
            assert report.f1[label] == pytest.approx(2 * found / (of_class + taken))
    assert report.accuracy == pytest.approx(sum(t == p for t, p in pairs) / len(pairs))


@pytest.mark.parametrize(
    ("true", "predicted", "error", "words"),
    [
        ([0, 3], [0, 0], ValueError, "y_true: label 3 not among classes 0..2"),
        ([0, 0], [0, -1], ValueError, "y_predicted: label -1 not among classes 0..2"),
        ([0, 1], [0], ValueError, "2 true labels but 1 predicted"),
        ([[0]], [0], ValueError, "1-d and not empty"),
        ([], [], ValueError, "1-d and not empty"),
        ([0.5], [0], TypeError, "whole numbers"),
    ],
)
def test_bad_labels_are_refused(true: list[float], predicted: list[float], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        confusion_matrix(true, predicted, 3)
