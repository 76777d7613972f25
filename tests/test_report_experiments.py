"""The table of experiments says what the assignment says, and a file can add to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastmlp import Network
from fastmlp.report.experiment_file import read_experiments
from fastmlp.report.experiments import CHAIN, EXPERIMENTS, TASKS, Experiment, ExperimentError, Protocol, choose
from fastmlp.report.jobs import needed_jobs
from fastmlp.report.wording import count_parameters, parameter_sum


def test_the_protocol_is_the_assignment_s() -> None:
    assert Protocol() == Protocol(n_train=20_000, epochs=50, batch_size=32, validations_per_epoch=5, patience=50)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("default", ((64,), "sigmoid", "uniform", 0.1, 0.0)),
        ("improved-init", ((64,), "sigmoid", "lecun", 0.1, 0.0)),
        ("relu-uniform", ((64,), "relu", "uniform", 0.1, 0.0)),
        ("relu-he", ((64,), "relu", "he", 0.1, 0.0)),
        ("improved-sigmoid", ((64,), "scaled_tanh", "uniform", 0.1, 0.0)),
        ("momentum", ((64,), "sigmoid", "uniform", 0.02, 0.9)),
    ],
)
def test_each_trick_alone_changes_one_thing(name: str, expected: tuple[object, ...]) -> None:
    found = EXPERIMENTS[name]
    assert (found.layers, found.activation, found.init, found.learning_rate, found.momentum) == expected
    assert "task3" in found.tasks


def test_the_chain_adds_a_trick_at_a_time() -> None:
    chain = [EXPERIMENTS[name] for name in CHAIN]
    assert [(e.activation, e.init, e.momentum) for e in chain] == [
        ("sigmoid", "uniform", 0.0),
        ("sigmoid", "lecun", 0.0),
        ("relu", "he", 0.0),
        ("relu", "he", 0.9),
        ("scaled_tanh", "lecun", 0.9),
    ]


def test_topologies() -> None:
    task = choose(["task4"])
    assert [e.layers for e in task.values()] == [(64,), (32,), (128,), (64, 64), (64,) * 10, (69,)]
    assert len({(e.activation, e.init, e.learning_rate, e.momentum) for e in task.values()}) == 1


@pytest.mark.parametrize(
    ("name", "count", "text"),
    [
        ("default", 50_890, "784·64 + 64 + 64·10 + 10 = 50,890"),
        ("two-layers", 55_050, "784·64 + 64 + 64·64 + 64 + 64·10 + 10 = 55,050"),
        ("ten-layers", 88_330, "784·64 + 64 + 9·(64·64 + 64) + 64·10 + 10 = 88,330"),
    ],
)
def test_parameters_are_counted_as_the_networks_have_them(name: str, count: int, text: str) -> None:
    sizes = EXPERIMENTS[name].sizes(784, 10)
    assert count_parameters(sizes) == Network(sizes).n_parameters == count
    assert parameter_sum(sizes) == text


def test_one_layer_has_about_the_parameters_of_two() -> None:
    one, two = (count_parameters(EXPERIMENTS[name].sizes(784, 10)) for name in ("one-layer-69", "two-layers"))
    assert abs(one - two) <= (784 + 1 + 10) / 2


def test_choice_by_name_and_task_keeps_the_order_of_the_table() -> None:
    assert list(choose(["relu-he", "task2"])) == ["default", "relu-he"]
    assert choose([]) == EXPERIMENTS


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("relu-hee", "did you mean 'relu-he'"),
        ("tsak3", "did you mean 'task3'"),
        ("xyzzy", "there are default, improved-init"),
        ("", "no experiment or task ''"),
        ("relu", "did you mean 'relu-uniform' or 'relu-he' or 'relu-he-momentum'"),
        ("own", r"^no experiments of 'own' \(experiments of your own\)$"),
    ],
)
def test_unknown_names_are_told_with_near_misses(word: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        choose([word])


def test_every_experiment_is_trained_per_seed_and_every_initial_network_checked_once() -> None:
    jobs = needed_jobs(EXPERIMENTS, 3)
    trainings = [(job.experiment.name, job.seed) for job in jobs if job.kind == "training"]
    assert sorted(trainings) == sorted((name, seed) for name in EXPERIMENTS for seed in range(3))
    checked = [(e.layers, e.activation, e.init) for e in (job.experiment for job in jobs if job.kind == "gradients")]
    assert len(checked) == len(set(checked))
    assert set(checked) == {(e.layers, e.activation, e.init) for e in EXPERIMENTS.values()}
    assert [job.cost for job in jobs] == sorted((job.cost for job in jobs), reverse=True)
    assert len({job.name for job in jobs}) == len(jobs)


# Experiments of one's own


def read(tmp_path: Path, text: str | bytes) -> dict[str, Experiment]:
    path = tmp_path / "mine.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_experiments(path)


def test_a_file_adds_experiments(tmp_path: Path) -> None:
    text = """
    [experiments.wide]
    layers = [256, 128]
    activation = "improved_sigmoid"
    init = "he"
    learning_rate = 1
    momentum = 0.5
    title = "wide <b>and</b> deep"
    [experiments.plain]
    """
    assert read(tmp_path, text) == {
        "wide": Experiment("wide", (256, 128), "scaled_tanh", "he", 1.0, 0.5, ("own",), "wide <b>and</b> deep"),
        "plain": Experiment("plain", (64,), "sigmoid", "uniform", 0.1, 0.0, ("own",), ""),
    }
    assert "own" in TASKS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[experiments.a]\nlearning_rat = 1",
            "experiments.a: unknown key 'learning_rat'; did you mean 'learning_rate'",
        ),
        ("[experiments.a]\nxyzzy = 1", "unknown key 'xyzzy'; known are layers, activation"),
        ("[experiment.a]", "unknown key 'experiment'; did you mean 'experiments'"),
        ("", "no experiments"),
        ("experiments = 3", "no experiments"),
        ("[experiments]\na = 3", r"experiments.a must be a table \(got 3\)"),
        ("[experiments.a]\nlayers = 64", r"experiments.a.layers must be a list .* \(got 64\)"),
        ("[experiments.a]\nlayers = [64, 0]", "whole numbers from 1 to 100,000"),
        ("[experiments.a]\nlayers = [true]", "layers must be a list"),
        ("[experiments.a]\nlayers = [99999999]", "layers must be a list"),
        ("[experiments.a]\nactivation = 'sigmoyd'", "activation must be one of relu, sigmoid"),
        ("[experiments.a]\nactivation = 3", "activation must be one of"),
        ("[experiments.a]\ninit = ['he']", "init must be one of he"),
        ("[experiments.a]\nlearning_rate = '0.1'", "learning_rate must be a finite number > 0"),
        ("[experiments.a]\nlearning_rate = 0", "learning_rate must be a finite number > 0"),
        ("[experiments.a]\nlearning_rate = nan", "learning_rate must be a finite number > 0"),
        ("[experiments.a]\nlearning_rate = inf", "learning_rate must be a finite number > 0"),
        ("[experiments.a]\nlearning_rate = true", "learning_rate must be a finite number > 0"),
        ("[experiments.a]\nmomentum = 1.0", "momentum must be a number >= 0 and < 1"),
        ("[experiments.a]\ntitle = 'a\\nb'\n[experiments.b]\ntitle = \"a\\nb\"", "experiments.b.title must be a line"),
        ("[experiments.'../a']", "invalid name '../a'"),
        ("[experiments.'=1+1']", "invalid name"),
        ("[experiments.default]", "the name is taken"),
        ("[experiments.task3]", "the name is taken"),
        ("[experiments.a]\n[experiments.A]", "experiments.A: its files would be those of 'a'"),
        ("[experiments.Relu-He]", "experiments.Relu-He: its files would be those of 'relu-he'"),
        ("[experiments.own-validation]", "its files would be those of a comparison"),
        ("[experiments.a]\n[experiments.a]", "not a TOML file"),
        ("[experiments", "not a TOML file"),
        (b"\xff\xfe", "not UTF-8"),
        ("a = " + "[" * 100_000, "nested too deeply|not a TOML file"),
        ("#" * (1 << 20) + "#", "larger than 1 MiB"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ExperimentError, match=message) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "mine.toml"))
    assert len(str(caught.value)) < 400


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="no such file"):
        read_experiments(tmp_path / "none.toml")
    with pytest.raises(ExperimentError, match="is not a file"):
        read_experiments(tmp_path)
