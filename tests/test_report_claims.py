"""Verdicts follow from the numbers: each way a claim can go, from trainings made to go that way."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from fastmlp.report.claims import ACCURACY, CLAIMS, FASTER, GAP, LOSS, Claim
from fastmlp.report.experiments import EXPERIMENTS
from fastmlp.report.judgement import FAILS, HOLDS, OPEN, UNTESTED, Effect, decide, judge, judge_one, measure, summarise
from fastmlp.report.statistics import Interval, confidence_interval, t_quantile
from fastmlp.report.training_record import TrainingRecord
from fastmlp.report.wording import interval_in_words, number, scientific, spread, steps_in_words, stops
from tests.report_data import record


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (10, 2.22814), (29, 2.04523)],
)
def test_quantiles_of_student_s_distribution(degrees: int, expected: float) -> None:
    """The numbers that every table has."""
    assert t_quantile(degrees) == pytest.approx(expected, abs=5e-6)


def test_interval_of_known_numbers() -> None:
    interval = confidence_interval([1.0, 2.0, 3.0])
    assert interval is not None
    assert interval == pytest.approx((2.0, 2.0 - 4.30265 / math.sqrt(3), 2.0 + 4.30265 / math.sqrt(3)), abs=1e-5)
    assert confidence_interval([1.0]) is None
    assert confidence_interval([]) is None
    assert confidence_interval([2.0, 2.0]) == (2.0, 2.0, 2.0)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        interval = confidence_interval(random.normal(1.0, 3.0, size=5).tolist())
        assert interval is not None
        hits += interval.low < 1.0 < interval.high
    assert 0.935 < hits / 2000 < 0.965


@pytest.mark.parametrize(
    ("low", "high", "at_most", "verdict"),
    [
        (0.1, 0.5, math.inf, HOLDS),
        (-0.1, 0.5, math.inf, OPEN),
        (-0.5, -0.1, math.inf, FAILS),
        (0.0, 0.0, math.inf, FAILS),
        (0.1, 0.5, 1.0, HOLDS),
        (0.1, 1.5, 1.0, OPEN),
        (1.1, 1.5, 1.0, FAILS),
        (-0.1, 1.5, 1.0, OPEN),
    ],
)
def test_the_verdict_is_where_the_interval_lies(low: float, high: float, at_most: float, verdict: str) -> None:
    assert decide(Effect((1.0, 1.0), Interval((low + high) / 2, low, high)), at_most) == verdict


def test_without_an_interval_nothing_is_decided() -> None:
    assert decide(Effect((1.0,), None)) == OPEN


def seeds(name: str, decay: float, count: int = 3) -> list[TrainingRecord]:
    return [record(name, seed, decay=decay * (1 + 0.01 * seed)) for seed in range(count)]


def claim_1(better: float, worse: float) -> dict[str, list[TrainingRecord]]:
    return {"improved-init": seeds("improved-init", better), "default": seeds("default", worse)}


@pytest.mark.parametrize(
    ("records", "verdict", "word"),
    [
        (claim_1(0.03, 0.01), HOLDS, "lower by"),
        (claim_1(0.01, 0.03), FAILS, "higher by"),
        (claim_1(0.0200001, 0.02), OPEN, "chance may have made the difference"),
        ({"default": seeds("default", 0.01)}, UNTESTED, "improved-init did not run"),
        ({}, UNTESTED, "improved-init and default did not run"),
    ],
)
def test_faster(records: dict[str, list[TrainingRecord]], verdict: str, word: str) -> None:
    if verdict == OPEN:  # of which one is better depends on the seed
        records["default"] = [record("default", s, decay=0.02 * (1.1 if s % 2 else 0.9)) for s in range(3)]
    found = judge_one(CLAIMS[0], records)
    assert (found.verdict, word in found.sentence) == (verdict, True), found.sentence


def test_effects_are_paired_by_seed() -> None:
    """Seeds differ much more than the networks do; only in pairs the difference shows."""
    noise = [0.0, 0.5, 1.0, 1.5]
    ours = [dataclasses.replace(r, validation_loss=r.validation_loss + n) for r, n in zip(seeds("a", 0.02, 4), noise)]  # noqa: B905
    other = [dataclasses.replace(r, seed=r.seed, validation_loss=r.validation_loss + 0.01) for r in ours]
    effect = measure(FASTER, ours, list(reversed(other)))
    assert effect.values == pytest.approx([0.01] * 4)
    assert decide(effect) == HOLDS


def accurate(name: str, accuracy: float, loss: float = 0.2) -> list[TrainingRecord]:
    return [
        record(
            name,
            seed,
            validation_accuracy=np.linspace(0.5, accuracy + 0.0001 * seed**2, 30),
            validation_loss=np.linspace(2.0, loss + 0.0001 * seed**2, 30),
        )
        for seed in range(3)
    ]


@pytest.mark.parametrize(
    ("number_of_claim", "worse", "better", "verdict", "word"),
    [
        (6, accurate("units-32", 0.955), accurate("all-tricks", 0.960), HOLDS, "lower by 0.500 percentage points"),
        (6, accurate("units-32", 0.940), accurate("all-tricks", 0.960), FAILS, "more than slightly"),
        (6, accurate("units-32", 0.965), accurate("all-tricks", 0.960), FAILS, "higher by"),
        (7, accurate("units-128", 0.96, 0.18), accurate("all-tricks", 0.96, 0.2), HOLDS, "lower by 9.99 %"),
        (7, accurate("units-128", 0.96, 0.10), accurate("all-tricks", 0.96, 0.2), FAILS, "more than slightly"),
        (7, accurate("units-128", 0.96, 0.22), accurate("all-tricks", 0.96, 0.2), FAILS, "higher by 9.99 %"),
    ],
)
def test_slightly(
    number_of_claim: int, worse: list[TrainingRecord], better: list[TrainingRecord], verdict: str, word: str
) -> None:
    claim = CLAIMS[number_of_claim - 1]
    found = judge_one(claim, {claim.subject: worse, claim.reference: better})
    assert found.verdict == verdict
    assert word in found.sentence
    assert found.effect is not None
    assert ("more than slightly" in summarise(claim, found.effect)) == ("more than slightly" in found.sentence)


def gap(name: str, growth: float, epochs: int = 6) -> list[TrainingRecord]:
    made = []
    for seed in range(3):
        base = record(name, seed, epochs=epochs)
        rise = np.linspace(0, growth * (1 + 0.01 * seed), len(base.step))
        made.append(dataclasses.replace(base, training_accuracy=base.validation_accuracy + 0.01 + rise))
    return made


@pytest.mark.parametrize(("growth", "verdict"), [(0.03, HOLDS), (-0.03, FAILS)])
def test_the_gap_grows_or_not(growth: float, verdict: str) -> None:
    found = judge_one(CLAIMS[7], {"two-layers": gap("two-layers", growth), "all-tricks": gap("all-tricks", 0.1)})
    assert found.verdict == verdict
    ((what, other),) = found.further
    assert "one hidden layer" in what
    assert decide(other) == FAILS, "it grows less than with one layer, which does not change the verdict"


def test_the_gap_of_one_epoch_cannot_grow() -> None:
    found = judge_one(CLAIMS[7], {"two-layers": gap("two-layers", 0.03, epochs=1)})
    assert (found.verdict, found.sentence) == (OPEN, "The trainings were too short to measure it.")


def test_trainings_of_less_than_five_epochs_have_no_loss_of_five() -> None:
    records = {name: [record(name, seed, epochs=4) for seed in range(3)] for name in ("improved-init", "default")}
    verdict = judge_one(CLAIMS[0], records)
    assert verdict.verdict == OPEN
    assert verdict.sentence == "The trainings were too short to measure it."


def test_one_seed_decides_nothing() -> None:
    found = judge_one(CLAIMS[0], {name: some[:1] for name, some in claim_1(0.03, 0.01).items()})
    assert found.verdict == OPEN
    assert "at least two" in found.sentence


def test_a_diverged_training_decides_nothing() -> None:
    records = claim_1(0.03, 0.01)
    records["default"][1] = dataclasses.replace(records["default"][1], status="diverged")
    found = judge_one(CLAIMS[0], records)
    assert found.verdict == OPEN
    assert "default diverged with seed 1" in found.sentence


def test_a_training_without_a_validation_decides_nothing() -> None:
    none = np.zeros(0)
    empty = record(status="diverged", epochs=1, step=none.astype(np.int64), validation_loss=none,
                   validation_accuracy=none, training_accuracy=none)  # fmt: skip
    found = judge({name: [empty, dataclasses.replace(empty, seed=1)] for name in EXPERIMENTS})
    assert {verdict.verdict for verdict in found} == {OPEN}


def test_the_nine_claims() -> None:
    assert [claim.number for claim in CLAIMS] == list(range(1, 10))
    for claim in CLAIMS:
        assert {claim.subject, claim.reference} <= EXPERIMENTS.keys()
        for subject, reference, _ in claim.further:
            assert {subject, reference} <= EXPERIMENTS.keys()
        assert math.isfinite(claim.at_most) == ("slightly" in claim.statement)
    assert [claim.measure for claim in CLAIMS] == [FASTER] * 5 + [ACCURACY, LOSS, GAP, GAP]


def test_a_claim_compares_networks_that_differ_in_what_it_names() -> None:
    def differences(claim: Claim) -> set[str]:
        ours, other = (dataclasses.asdict(EXPERIMENTS[name]) for name in (claim.subject, claim.reference))
        return {key for key in ours if ours[key] != other[key]} - {"name", "title", "tasks"}

    assert [differences(claim) for claim in CLAIMS] == [
        {"init"}, {"init"}, {"activation"}, {"momentum", "learning_rate"}, {"activation"},
        {"layers"}, {"layers"}, set(), set(),
    ]  # fmt: skip


# Words


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (-1.5, "-1.50"), (12.34, "12.3"), (123.4, "123"), (1234.0, "1230"), (0.0, "0"),
     (9.999, "10.0"),
     (1e-9, "0.000000"), (math.nan, "nan")],
)  # fmt: skip
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_intervals_and_powers_in_words() -> None:
    assert interval_in_words((0.26, -0.1, 0.5), "%") == "+0.260 % (95 % interval −0.100 to +0.500)"
    assert interval_in_words(None, "%") == "no interval"
    assert scientific(2.5e-8) == "2.5·10⁻⁸"
    assert scientific(math.nan) == "not a number"


def test_spread_and_steps_in_words() -> None:
    assert spread([1.0, 2.0, 3.0], 2) == "2.00 ± 1.00"
    assert spread([1.0], 1) == "1.0"
    assert spread([1.0, math.nan], 1) == "–"
    fast, slow = record(decay=0.03), record(seed=1, decay=0.0001)
    assert steps_in_words([slow]) == "never"
    assert steps_in_words([fast, slow]) == f"{fast.steps_to_target} (1 of 2 seeds)"


def test_how_trainings_ended_in_words() -> None:
    stopped, diverged = record(status="stopped early"), record(seed=1, status="diverged")
    assert stops([stopped]) == "Early stopping ended 1 of 1 training, after 6.0 epochs."
    assert "1 of 2 trainings diverged" in stops([stopped, diverged])
    assert stops([record()]) == "Early stopping did not occur in 6 epochs."
