"""Networks: construction, parameters, predictions, gradients, and every argument that must be refused."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from fastmlp import gradient_check
from fastmlp.baseline import Baseline, softmax
from fastmlp.kernels.batch import train_batches
from fastmlp.kernels.bulk import predict_pieces
from fastmlp.network import Network
from fastmlp.training import train
from tests.small_data import (
    ACTIVATIONS,
    MANY,
    Array,
    Samples,
    difference,
    make_network,
    pixels,
    same_bits,
    table,
)

DTYPES = ("float32", "float64")

# Gradients


@pytest.mark.parametrize("l2", [0.0, 0.2])
@pytest.mark.parametrize("hidden", [(), (9,), (40, 5), (3,) * 10], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_agree_with_central_differences(activation: str, hidden: tuple[int, ...], l2: float) -> None:
    """The compiled gradient is the derivative of the compiled loss; the twin has no part in this."""
    samples = table(30, 12, 4)
    network = make_network(samples, *hidden, activation=activation, dtype="float64", init="glorot")
    for check in gradient_check.check_gradients(network, samples.X, samples.y, l2=l2, n_checked=20):
        assert check.passed, check


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 5, 33, 512, 513, 700])
@pytest.mark.parametrize("skip", [False, True])
def test_gradients_agree_with_the_twin(n: int, skip: bool, dtype: str) -> None:
    """For one piece and for several, dense and skipping the background."""
    samples = pixels(n, 70, 4)
    network = make_network(samples, 40, 9, activation="scaled_tanh", dtype=dtype, n_classes=4)
    network.skip_background = skip
    weights, biases, loss = network.gradients(samples.X, samples.y, l2=0.1)
    twin = Baseline.of(network)
    activations = twin.forward(twin.standardise(samples.X))
    expected_weights, expected_biases = twin.backward(activations, samples.y)
    tolerance = 1e-13 if dtype == "float64" else 1e-5
    assert loss == pytest.approx(twin.loss(activations[-1], samples.y, 0.1), rel=tolerance)
    for ours, reference, weight in zip(weights, expected_weights, twin.weights, strict=True):
        assert difference(ours, reference + 0.1 * weight) < tolerance
    for ours, reference in zip(biases, expected_biases, strict=True):
        assert difference(ours, reference) < tolerance


def test_gradients_leave_the_network_alone() -> None:
    samples = table(20, 5, 3)
    network = make_network(samples, 4)
    before = network.copy()
    network.gradients(samples.X, samples.y, l2=0.5)
    assert same_bits(network, before)


# Predictions


def test_nothing_is_kept_from_one_prediction_to_the_next() -> None:
    """Neither weights nor options nor the number of samples of the call before."""
    samples = pixels(300, 100)
    network = make_network(samples, 64)

    def same_as_a_fresh_one(X: Any) -> bool:
        return network.predict_proba(X, threads=2).tobytes() == network.copy().predict_proba(X, threads=2).tobytes()

    for X in (samples.X[:1], samples.X, samples.X.astype(np.float32), samples.X[:70]):
        assert same_as_a_fresh_one(X)
    train(network, samples.X, samples.y, epochs=1)
    assert network.skip_background
    assert same_as_a_fresh_one(samples.X)
    network.skip_background = False
    assert same_as_a_fresh_one(samples.X)
    network.mean = network.mean + 10
    assert same_as_a_fresh_one(samples.X)
    network.mean = np.full(100, 50.0)
    assert same_as_a_fresh_one(samples.X)
    network.mean += 10  # in place
    assert same_as_a_fresh_one(samples.X)
    network.activation = "tanh"
    assert same_as_a_fresh_one(samples.X)


def test_memory_of_a_small_prediction_is_not_used_for_a_larger_one() -> None:
    samples = pixels(64, 100, 4)
    network = make_network(samples, 20)
    train(network, samples.X, samples.y, epochs=1)
    expected = network.copy().predict_proba(samples.X).tobytes()
    for n in (1, 17, 20, 33, 64):
        found = network.predict_proba(samples.X[:n]).tobytes()
        assert found == expected[: len(found)], n


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("hidden", [(), (17,), (64, 40, 3)], ids=str)
def test_a_row_predicts_the_same_alone_and_in_any_batch(hidden: tuple[int, ...], skip: bool, dtype: str) -> None:
    samples = pixels(1000, 45, 6)
    network = make_network(samples, *hidden, activation="tanh", dtype=dtype)
    network.skip_background = skip
    whole = network.predict_proba(samples.X, threads=1)
    for rows in range(1, 34):
        assert network.predict_proba(samples.X[:rows]).tobytes() == whole[:rows].tobytes()
        start = 10 * rows
        assert network.predict_proba(samples.X[start : start + rows]).tobytes() == whole[start : start + rows].tobytes()
    shuffled = np.random.default_rng(0).permutation(1000)
    assert network.predict_proba(samples.X[shuffled]).tobytes() == whole[shuffled].tobytes()
    for threads in (2, 3, 4):
        assert network.predict_proba(samples.X, threads=threads).tobytes() == whole.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_threads_predict_the_same_as_one(dtype: str) -> None:
    """Enough work that the threads are really used."""
    samples = pixels(3000, 300, 10)
    network = make_network(samples, 64, dtype=dtype)
    whole = network.predict_proba(samples.X, threads=1)
    evaluation = network.evaluate(samples.X, samples.y, threads=1)
    for threads in (2, 3, 4, None):
        assert network.predict_proba(samples.X, threads=threads).tobytes() == whole.tobytes()
        assert network.evaluate(samples.X, samples.y, threads=threads) == evaluation


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_probabilities_agree_with_the_twin(activation: str, dtype: str) -> None:
    samples = table(300, 20, 11)
    network = make_network(samples, 33, 8, activation=activation, dtype=dtype)
    probabilities = network.predict_proba(samples.X)
    twin = Baseline.of(network)
    assert probabilities.dtype == dtype
    expected = softmax(twin.forward(twin.standardise(samples.X))[-1])
    np.testing.assert_allclose(probabilities, expected, atol=1e-13 if dtype == "float64" else 1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-14 if dtype == "float64" else 1e-6)
    assert network.predict(samples.X).dtype == np.int64
    np.testing.assert_array_equal(network.predict(samples.X), probabilities.argmax(axis=1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_features", [1, 31, 40])
def test_skipping_the_background_changes_nothing_but_rounding(n_features: int, dtype: str) -> None:
    samples = pixels(200, n_features, 5)
    network = make_network(samples, 20, dtype=dtype, n_classes=5)
    dense = network.predict_proba(samples.X)
    network.skip_background = True
    np.testing.assert_allclose(network.predict_proba(samples.X), dense, atol=1e-14 if dtype == "float64" else 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_survives_huge_logits(dtype: str) -> None:
    network = Network.from_parameters([np.eye(3, dtype=dtype)], [np.zeros(3)])
    X = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [-1e4, 1e4, 1e4], [0.0, 88.0, 89.0]])
    expected = softmax(X)
    np.testing.assert_allclose(
        network.predict_proba(X), expected, rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-38
    )
    losses = [network.evaluate(X[i : i + 1], [label]).loss for i, label in enumerate([1, 0, 1, 0])]
    # the loss is a difference of numbers as large as the logits
    last_digit = 1e4 * float(np.finfo(dtype).eps)
    assert losses == pytest.approx([2e4, np.log(3), np.log(2), 89 + np.log1p(np.exp(-1))], abs=last_digit)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_samples_without_an_answer_are_told(dtype: str, threads: int) -> None:
    """Infinity minus infinity is not a number, of which the most probable class would be said to be the first."""
    largest = float(np.finfo(dtype).max)
    network = Network.from_parameters([np.array([[1, 2], [2, -1]], dtype), np.eye(2)], [np.zeros(2)] * 2)
    X = np.full((3000, 2), -1.0)
    X[2900] = largest / 16
    assert network.predict(X, threads=threads)[2900] == 0
    X[2900] = largest
    with pytest.raises(ValueError, match=rf"X is too large for the network: its sums overflow {dtype} \(row 2900\)"):
        network.predict(X, threads=threads)


@pytest.mark.parametrize("dtype", DTYPES)
def test_evaluate_counts_the_first_of_equal_logits(dtype: str) -> None:
    network = Network.from_parameters([np.zeros((2, 3), dtype)], [np.array([1.0, 2.0, 2.0])])
    X = np.ones((4, 2))
    assert network.predict(X).tolist() == [1, 1, 1, 1]
    assert network.evaluate(X, [1, 1, 2, 0]).accuracy == 0.5


def test_one_class_is_certain() -> None:
    samples = table(20, 4, 1)
    network = make_network(samples, 3, n_classes=1)
    assert (network.predict_proba(samples.X) == 1).all()
    assert network.evaluate(samples.X, np.zeros(20, int)) == (0.0, 1.0)


def test_no_rows() -> None:
    network = Network((3, 2))
    assert network.predict_proba(np.zeros((0, 3))).shape == (0, 2)
    assert network.predict(np.zeros((0, 3))).shape == (0,)


@st.composite
def networks_and_rows(draw: st.DrawFn) -> tuple[Network, Samples]:
    """Draw a network of any shape and samples for it."""
    n, n_features, n_classes = draw(st.integers(1, 600)), draw(st.integers(1, 130)), draw(st.integers(1, 40))
    samples = pixels(n, n_features, n_classes, density=draw(st.floats(0, 1)), seed=draw(st.integers(0, 99)))
    network = make_network(
        samples,
        *draw(st.lists(st.integers(1, 100), max_size=3)),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        dtype=draw(st.sampled_from(DTYPES)),
        n_classes=n_classes,
    )
    network.skip_background = draw(st.booleans())
    return network, samples


def assert_predictions_hold(network: Network, samples: Samples) -> None:
    """Compare probabilities with the twin's, and single rows with the whole, bit for bit."""
    twin = Baseline.of(network)
    probabilities = network.predict_proba(samples.X)
    expected = softmax(twin.forward(twin.standardise(samples.X))[-1])
    np.testing.assert_allclose(probabilities, expected, atol=1e-12 if network.dtype == np.float64 else 1e-5)
    row = len(samples.X) // 2
    assert network.predict_proba(samples.X[row : row + 1]).tobytes() == probabilities[row : row + 1].tobytes()


@hypothesis.given(networks_and_rows())
def test_any_network_predicts_as_its_twin(drawn: tuple[Network, Samples]) -> None:
    assert_predictions_hold(*drawn)


@pytest.mark.nightly
@MANY
@hypothesis.given(networks_and_rows())
def test_any_network_predicts_as_its_twin_many_times(drawn: tuple[Network, Samples]) -> None:
    assert_predictions_hold(*drawn)


# Samples in other forms


def forms(X: Array) -> dict[str, Any]:
    """Return the same small whole numbers in all the forms in which samples may come."""
    wide = np.zeros((len(X), 2 * X.shape[1]), np.float32)
    wide[:, ::2] = X
    misaligned = np.frombuffer(b"\0" + X.astype("<f8").tobytes(), "<f8", offset=1).reshape(X.shape)
    readonly = X.astype(np.float32)
    readonly.flags.writeable = False
    return {
        "bytes": X.astype(np.uint8),
        "int8": X.astype(np.int8),
        "int64": X.astype(np.int64),
        "uint32": X.astype(np.uint32),
        "float16": X.astype(np.float16),
        "float64": X.astype(np.float64),
        "longdouble": X.astype(np.longdouble),
        "big-endian": X.astype(">f8"),
        "big-endian integers": X.astype(">i2"),
        "Fortran order": np.asfortranarray(X, np.float32),
        "strided": wide[:, ::2],
        "reversed": X[::-1, ::-1].astype(np.float32)[::-1, ::-1],
        "misaligned": misaligned,
        "read-only": readonly,
        "bytes in Fortran order": np.asfortranarray(X, np.uint8),
        "list": X.tolist(),
        "masked": np.ma.masked_array(X.astype(np.float32), mask=False),
    }


SMALL_NUMBERS = np.random.default_rng(0).integers(0, 100, (20, 7))


@pytest.mark.parametrize("form", forms(SMALL_NUMBERS))
def test_every_form_of_samples_predicts_the_same(form: str) -> None:
    network = Network((7, 5, 3), mean=50.0, std=30.0)
    expected = network.predict_proba(SMALL_NUMBERS.astype(np.float32))
    given = forms(SMALL_NUMBERS)[form]
    np.testing.assert_array_equal(network.predict_proba(given), expected)


def test_no_form_of_samples_or_labels_compiles_anew() -> None:
    """A read-only array is another type to Numba; compiling for it would take many seconds."""
    network = make_network(table(20, 7, 3), 5)
    labels = np.arange(20) % 3
    for y in (labels, labels.astype(np.int32), np.broadcast_to(np.int32(1), 20)):
        for X in forms(SMALL_NUMBERS).values():
            network.evaluate(X, y)
        train(network, forms(SMALL_NUMBERS)["read-only"], y, epochs=1, threads=1)
    for kernel in (predict_pieces, train_batches):
        assert len(kernel._dispatcher.overloads) <= 4, "for each dtype: bytes or numbers of the same dtype"


def test_booleans_are_zeros_and_ones() -> None:
    X = np.random.default_rng(0).random((9, 6)) < 0.5
    network = Network((6, 4, 2))
    np.testing.assert_array_equal(network.predict_proba(X), network.predict_proba(X.astype(np.uint8)))


# Parameters


def test_statistics_belong_to_the_network() -> None:
    """Raw values in; (x - mean) / std inside."""
    samples = table(50, 8, 3)
    weights, biases = [np.random.default_rng(0).normal(size=(8, 3))], [np.zeros(3)]
    raw = Network.from_parameters(weights, biases, mean=samples.mean, std=samples.std)
    plain = Network.from_parameters(weights, biases)
    standard = (samples.X - samples.mean) / samples.std
    np.testing.assert_allclose(raw.predict_proba(samples.X), plain.predict_proba(standard), rtol=1e-12)


def test_parameters_are_read_only_and_replaced_whole() -> None:
    network = Network((3, 4, 2))
    X = np.eye(3)
    before = network.predict_proba(X)
    with pytest.raises(ValueError, match="read-only"):
        network.weights[0][0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        network.biases[0][0] = 1
    ours = [np.ones((3, 4)), np.ones((4, 2))]
    network.weights = ours
    ours[0][:] = 5  # no reference is kept
    assert network.weights[0].max() == 1
    network.biases = [np.zeros(4), [1.0, 0.0]]
    assert network.predict_proba(X)[0, 0] == pytest.approx(np.e / (1 + np.e))
    assert not np.allclose(network.predict_proba(X), before)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("weights", [np.zeros((3, 4))], r"weights: expected 2 arrays \(got 1\)"),
        (
            "weights",
            [np.zeros((3, 4)), np.zeros((2, 4))],
            r"weights\[1\] has shape \(2, 4\), expected \(4, 2\)",
        ),
        ("weights", [np.zeros(12), np.zeros((4, 2))], r"weights\[0\] has shape \(12,\), expected \(3, 4\)"),
        ("weights", [np.full((3, 4), np.nan), np.zeros((4, 2))], r"weights\[0\] contains NaN or infinity"),
        ("biases", [np.zeros(4), np.zeros(3)], r"biases\[1\] has shape \(3,\), expected \(2,\)"),
        ("biases", [np.zeros((1, 4)), np.zeros(2)], r"biases\[0\] has shape \(1, 4\), expected \(4,\)"),
        ("biases", [np.zeros(4), [0.0, np.inf]], r"biases\[1\] contains NaN or infinity"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(name: str, values: list[Any], message: str) -> None:
    network = Network((3, 4, 2))
    before = network.copy()
    with pytest.raises(ValueError, match=message):
        setattr(network, name, values)
    assert same_bits(network, before)


def test_weights_and_biases_are_replaced_together_or_not_at_all() -> None:
    network = Network((3, 2))
    before = network.copy()
    with pytest.raises(ValueError, match="biases"):
        network.replace_parameters([np.ones((3, 2))], [np.ones(3)])
    assert same_bits(network, before)
    network.replace_parameters([np.ones((3, 2))], [np.ones(2)])
    assert network.weights[0].min() == network.biases[0].min() == 1


def test_parameters_too_large_for_float32_are_refused() -> None:
    network = Network((1, 1))
    with pytest.raises(ValueError, match=r"weights\[0\] contains NaN or infinity"):
        network.weights = [np.array([[1e300]])]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("init", "deviation"),
    [("he", (2 / 300) ** 0.5), ("lecun", 300**-0.5), ("glorot", (2 / 500) ** 0.5), ("uniform", 3**-0.5)],
)
def test_initial_weights(init: str, deviation: float, dtype: str) -> None:
    network = Network((300, 200, 2), init=init, dtype=dtype, seed=5)
    weights = network.weights[0]
    assert weights.dtype == dtype
    assert weights.std() == pytest.approx(deviation, rel=0.02)
    assert abs(weights.mean()) < 0.02 * deviation
    assert not np.concatenate(network.biases).any()
    assert same_bits(network, Network((300, 200, 2), init=init, dtype=dtype, seed=5))
    assert not same_bits(network, Network((300, 200, 2), init=init, dtype=dtype, seed=6))


def test_sizes_are_told() -> None:
    network = Network((784, 64, 10))
    assert (network.n_features, network.n_classes, network.n_parameters) == (784, 10, 50_890)
    assert network.layers == (784, 64, 10)
    assert repr(network) == "Network((784, 64, 10), activation='relu', dtype='float32')"


@pytest.mark.parametrize("alias", ["improved_sigmoid", "improved sigmoid", "scaled_tanh"])
def test_aliases(alias: str) -> None:
    assert Network((2, 2, 2), activation=alias).activation == "scaled_tanh"


@pytest.mark.parametrize(
    "twin_of", [lambda n: n.copy(), lambda n: pickle.loads(pickle.dumps(n)), copy.deepcopy, copy.copy]
)
def test_copies_are_equal_and_independent(twin_of: Any) -> None:
    samples = table(30, 6, 3)
    network = make_network(samples, 5, activation="tanh", dtype="float64")
    expected = network.predict_proba(samples.X)  # so that there are packed parameters to forget
    other = twin_of(network)
    assert same_bits(network, other)
    assert (other.layers, other.activation, other.dtype, other.seed) == (
        network.layers,
        "tanh",
        np.float64,
        0,
    )
    assert other.predict_proba(samples.X).tobytes() == expected.tobytes()
    for array in (*other.weights, *other.biases, other.mean, other.std):
        assert not array.flags.writeable
    other.weights = [np.zeros_like(weight) for weight in other.weights]
    assert network.predict_proba(samples.X).tobytes() == expected.tobytes()
    assert other.predict_proba(samples.X).tobytes() != expected.tobytes()


# What must be refused

BAD_NETWORKS: dict[str, tuple[dict[str, Any], str]] = {
    "no layers": ({"layers": ()}, "layers: need at least input and output size"),
    "one layer": ({"layers": (784,)}, "layers: need at least input and output size"),
    "size 0": ({"layers": (4, 0, 2)}, "each size of layers must be a whole number from 1"),
    "negative size": ({"layers": (4, -5, 2)}, "each size of layers must be a whole number from 1"),
    "fraction": ({"layers": (4, 7.5, 2)}, "each size of layers must be a whole number from 1"),
    "bool": ({"layers": (4, True, 2)}, "each size of layers must be a whole number from 1"),
    "text": ({"layers": "784,10"}, "layers must be a sequence of sizes"),
    "number": ({"layers": 784}, "layers must be a sequence of sizes"),
    "absurd size": (
        {"layers": (784, 10**12, 10)},
        "each size of layers must be a whole number from 1 to 16777216",
    ),
    "absurd depth": ({"layers": (1,) * 10**5}, r"layers: at most 1000 \(got 100000\)"),
    "activation": (
        {"activation": "gelu"},
        "activation must be one of relu, sigmoid, tanh, scaled_tanh, identity",
    ),
    "no activation": ({"activation": None}, "activation must be one of"),
    "activation array": ({"activation": np.array(["relu", "tanh"])}, "activation must be one of"),
    "activation list": ({"activation": ["relu"]}, "activation must be one of"),
    "init": ({"init": "xavier"}, "init must be one of he, lecun, glorot, uniform"),
    "dtype": ({"dtype": "float16"}, r"dtype must be float32 or float64 \(got float16\)"),
    "integer dtype": ({"dtype": int}, "dtype must be float32 or float64"),
    "big-endian dtype": ({"dtype": ">f4"}, "dtype must be float32 or float64"),
    "no dtype": ({"dtype": None}, r"dtype must be float32 or float64 \(got None\)"),
    "not a dtype": ({"dtype": "single float"}, "data type"),
    "seed -1": ({"seed": -1}, "seed must be a whole number from 0 to 4294967295"),
    "large seed": ({"seed": 2**32}, "seed must be a whole number from 0 to 4294967295"),
    "seed text": ({"seed": "0"}, "seed must be a whole number"),
    "mean shape": ({"mean": [1.0, 2.0]}, r"mean must be a number or have shape \(4,\) \(got shape \(2,\)\)"),
    "mean NaN": ({"mean": np.nan}, "mean must be finite"),
    "std infinite": ({"std": np.inf}, "std must be finite"),
    "std 0": (
        {"std": [1.0, 0.0, 1.0, 1.0]},
        "std must be > 0 for every feature; use 1 for a constant feature",
    ),
    "std negative": ({"std": -1.0}, "std must be > 0"),
    "std too small": ({"std": 1e-40}, "std is too small for float32"),
    "mean complex": ({"mean": np.full(4, 1j)}, r"mean must hold real numbers \(got dtype complex128\)"),
    "std text": ({"std": "1"}, "std must hold real numbers"),
    "std masked": (
        {"std": np.ma.masked_equal([1.0, 2.0, 3.0, 4.0], 3.0)},
        r"std has masked values, expected a number everywhere \(the first is masked at 2\)",
    ),
    "mean too large": ({"mean": 1e39}, "mean must be finite in float32"),
}


@pytest.mark.parametrize("name", BAD_NETWORKS)
def test_bad_networks_are_refused(name: str) -> None:
    options, message = BAD_NETWORKS[name]
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        Network(**({"layers": (4, 3, 2)} | options))
    assert "\n" not in str(caught.value)


BAD_PARAMETERS: dict[str, tuple[list[Any], list[Any], str]] = {
    "none": ([], [], "weights: expected two-dimensional arrays, at least one"),
    "1-d": ([np.zeros(3)], [np.zeros(1)], "weights: expected two-dimensional arrays"),
    "no units": ([np.zeros((3, 0))], [np.zeros(0)], "each size of layers must be a whole number from 1"),
    "broken chain": (
        [np.zeros((3, 4)), np.zeros((5, 2))],
        [np.zeros(4), np.zeros(2)],
        r"weights\[1\] has shape",
    ),
    "bias missing": ([np.zeros((3, 4)), np.zeros((4, 2))], [np.zeros(4)], "biases: expected 2 arrays"),
    "complex": ([np.ones((3, 2)), np.ones((2, 2)) * 1j], [np.zeros(2)] * 2, r"weights\[1\] must hold real numbers"),
    "text": ([np.array([["1"]])], [np.zeros(1)], r"weights\[0\] must hold real numbers \(got dtype <U1\)"),
    "objects": ([np.ones((3, 1))], [np.array([None])], r"biases\[0\] must hold real numbers"),
    "scalar bias": ([np.zeros((3, 1))], [0.0], r"biases\[0\] has shape \(\), expected \(1,\)"),
}


@pytest.mark.parametrize("name", BAD_PARAMETERS)
def test_bad_parameters_make_no_network(name: str) -> None:
    weights, biases, message = BAD_PARAMETERS[name]
    with pytest.raises((TypeError, ValueError), match=message):
        Network.from_parameters(weights, biases)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layers", (4, 300, 2)),
        ("layers", (4, 2)),
        ("activation", "relu6"),
        ("dtype", np.dtype(np.int32)),
        ("mean", np.zeros(9)),
        ("std", np.zeros(())),
        ("_parameters", ((np.zeros((4, 3)),), (np.zeros(3),))),
        ("_parameters", ((np.zeros((4, 3)), np.zeros((3, 1))), (np.zeros(3), np.zeros(1)))),
        ("_parameters", ((np.zeros((4, 3)), np.zeros((3, 2))), (np.zeros(3), np.full(2, np.nan)))),
    ],
)
def test_a_state_that_does_not_fit_together_is_refused(field: str, value: Any) -> None:
    """What unpickling hands over could make the kernels read and write beyond the arrays."""
    state = Network((4, 3, 2)).__getstate__() | {field: value}
    with pytest.raises((TypeError, ValueError)):
        Network.__new__(Network).__setstate__(state)


def test_a_pickle_of_another_version_is_told() -> None:
    network = Network((4, 3, 2))
    state = network.__getstate__()
    twin = Network.__new__(Network)
    with pytest.warns(UserWarning, match=r"the network was pickled by fastmlp 0\.0\.9, this is .*Network\.save"):
        twin.__setstate__(state | {"version": "0.0.9"})
    assert same_bits(twin, network)
    del state["skip_background"]
    with pytest.raises(ValueError, match="the pickled network lacks skip_background: it is of another version"):
        Network.__new__(Network).__setstate__(state)


def test_numpy_integers_are_whole_numbers() -> None:
    sizes: Any = np.array([4, 3, 2], np.int8)
    size: Any = np.uint16(4)
    seed: Any = np.int64(3)
    assert Network(sizes).layers == (4, 3, 2)
    assert Network([size, 2], seed=seed).seed == 3


BAD_SAMPLES: dict[str, tuple[Any, str]] = {
    "1-d": (np.zeros(4), r"X must be two-dimensional, one row per sample \(got 1 dimensions\)"),
    "3-d": (np.zeros((2, 2, 4)), r"\(got 3 dimensions\)"),
    "number": (3.0, r"\(got 0 dimensions\)"),
    "features": (np.zeros((2, 5)), "X has 5 features, but the network expects 4"),
    "no features": (np.zeros((2, 0)), "X has 0 features, but the network expects 4"),
    "NaN": (np.array([[0, 0, 0, 0], [0, 0, np.nan, 0]]), r"X contains NaN, infinity .* \(row 1, column 2\)"),
    "infinity": (np.array([[-np.inf, 0, 0, 0]]), r"\(row 0, column 0\)"),
    "both infinities": (np.array([[-np.inf, 0, 0, np.inf]]), r"X contains NaN, infinity"),
    "too large": (np.array([[0, 1e39, 0, 0]]), r"a value too large for float32 \(row 0, column 1\)"),
    "text": (np.array([["1", "2", "3", "4"]]), "X must hold real numbers"),
    "objects": (np.array([[1, 2, 3, None]], object), r"X must hold real numbers \(got dtype object\)"),
    "complex": (np.zeros((1, 4), complex), r"X must hold real numbers \(got dtype complex128\)"),
    "dates": (np.zeros((1, 4), "datetime64[s]"), "X must hold real numbers"),
    "structure": (np.zeros(4, [("a", float)]), "X must hold real numbers"),
    "nothing": (None, "X must hold real numbers"),
    "masked": (
        np.ma.masked_array(np.zeros((2, 4)), mask=np.eye(2, 4, 1)),
        r"X has masked values, expected a number everywhere \(the first is masked at 0, 1\)",
    ),
    "huge integers": ([[10**30, 0, 0, 0]], "X must hold real numbers"),
}


@pytest.mark.parametrize("name", BAD_SAMPLES)
@pytest.mark.parametrize("method", ["predict", "predict_proba", "evaluate", "gradients"])
def test_bad_samples_are_refused(name: str, method: str) -> None:
    X, message = BAD_SAMPLES[name]
    arguments = (X,) if method.startswith("predict") else (X, [0, 0])
    with pytest.raises((TypeError, ValueError), match=message):
        getattr(Network((4, 3, 2)), method)(*arguments)


def test_samples_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="inhomogeneous"):
        Network((2, 2)).predict([[1, 2], [3]])


def test_sparse_matrices_are_refused() -> None:
    class Sparse:
        """Behaves as SciPy's matrices do: NumPy sees one object."""

        def toarray(self) -> Array:
            return np.zeros((2, 4))

    with pytest.raises(TypeError, match="X must hold real numbers"):
        Network((4, 2)).predict(Sparse())  # type: ignore[arg-type]


BAD_LABELS: dict[str, tuple[Any, str]] = {
    "too many": ([0, 1, 0], "2 samples but 3 labels in y"),
    "2-d": (np.zeros((2, 1), int), r"y must be one-dimensional, one label per sample \(got 2 dimensions\)"),
    "not a class": ([0, 2], r"y: label 2 is not among the classes 0\.\.1"),
    "negative": ([-1, 0], r"y: label -1 is not among the classes 0\.\.1"),
    "fraction": ([0.0, 0.5], r"y: labels must be whole numbers \(got 0\.5\)"),
    "NaN": ([0.0, np.nan], "y: label nan is not among the classes"),
    "infinite": ([0.0, np.inf], "y: label inf is not among the classes"),
    "huge": ([0.0, 1e300], r"y: label 1e\+300 is not among the classes"),
    "wraps to a class": (np.array([0, 2**32], np.uint64), "y: label 4294967296 is not among the classes"),
    "text": (["0", "1"], "y: labels must be whole numbers"),
    "objects": (np.array([0, None], object), "y: labels must be whole numbers"),
    "masked": (np.ma.masked_equal([0, 1], 1), r"y has masked values, .* \(the first is masked at 1\)"),
    "one-hot": (np.eye(2), "y must be one-dimensional"),
    "nothing": (None, "y must be one-dimensional"),
}


@pytest.mark.parametrize("name", BAD_LABELS)
@pytest.mark.parametrize("method", ["evaluate", "gradients"])
def test_bad_labels_are_refused(name: str, method: str) -> None:
    y, message = BAD_LABELS[name]
    with pytest.raises((TypeError, ValueError), match=message):
        getattr(Network((4, 3, 2)), method)(np.zeros((2, 4)), y)


@pytest.mark.parametrize("y", [[0, 1], [0.0, 1.0], [False, True], np.array([0, 1], np.uint8), np.array([0, 1], ">i8")])
def test_labels_may_come_in_any_numeric_type(y: Any) -> None:
    network, X = Network((4, 3, 2)), np.eye(2, 4)
    assert network.evaluate(X, y) == network.evaluate(X, np.array([0, 1]))


@pytest.mark.parametrize("method", ["evaluate", "gradients"])
def test_no_samples_cannot_be_evaluated(method: str) -> None:
    with pytest.raises(ValueError, match="X: no samples"):
        getattr(Network((4, 3, 2)), method)(np.zeros((0, 4)), [])


@pytest.mark.parametrize("threads", [0, -1, 1.0, "2", True, 10**9])
def test_bad_threads_are_refused(threads: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="threads must be a whole number from 1 to 4096"):
        Network((4, 2)).predict(np.zeros((1, 4)), threads=threads)


@pytest.mark.parametrize("l2", [-0.1, np.nan, np.inf, 10**400, "0", None])
def test_bad_penalties_are_refused(l2: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="l2 must be a finite number >= 0"):
        Network((4, 2)).gradients(np.zeros((1, 4)), [0], l2=l2)
