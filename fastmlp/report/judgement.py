"""From trainings to verdicts.

A claim holds if the 95 % confidence interval of its effect lies within the range that the claim says, does not
hold if it lies outside, and is not decided if it is partly in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastmlp.report.claims import ACCURACY, CLAIMS, FASTER, GAP, LOSS, Claim, Measure
from fastmlp.report.statistics import Interval, confidence_interval
from fastmlp.report.training_record import TARGET_ACCURACY, TrainingRecord
from fastmlp.report.wording import number, steps_in_words

HOLDS, FAILS, OPEN, UNTESTED = "holds", "does not hold", "not decided", "not tested"

Records = Mapping[str, Sequence[TrainingRecord]]


@dataclass(frozen=True)
class Effect:
    """What was measured for a pair of experiments.

    Parameters
    ----------
    values : tuple of float
        One per seed.
    interval : Interval or None
        Of their mean; None if there is none.
    """

    values: tuple[float, ...]
    interval: Interval | None


@dataclass(frozen=True)
class Verdict:
    """What came out for a claim.

    Parameters
    ----------
    claim : Claim
        Which.
    verdict : str
        `HOLDS`, `FAILS`, `OPEN` or `UNTESTED`.
    effect : Effect or None
        None if it was not tested.
    sentence : str
        Why, for people.
    further : tuple of (str, Effect)
        Comparisons that are told but did not decide, with their descriptions.
    """

    claim: Claim
    verdict: str
    effect: Effect | None
    sentence: str
    further: tuple[tuple[str, Effect], ...] = ()


def judge(records: Records) -> list[Verdict]:
    """Reach a verdict on every claim."""
    return [judge_one(claim, records) for claim in CLAIMS]


def judge_one(claim: Claim, records: Records) -> Verdict:
    """Reach a verdict on a claim from the trainings of each experiment, one per seed."""
    missing = [name for name in dict.fromkeys((claim.subject, claim.reference)) if name not in records]
    if missing:
        return Verdict(claim, UNTESTED, None, f"Not tested: {' and '.join(missing)} did not run.")
    effect = measure(claim.measure, records[claim.subject], records[claim.reference])
    further = tuple(
        (what, measure(claim.measure, records[subject], records[reference]))
        for subject, reference, what in claim.further
        if subject in records and reference in records
    )
    return Verdict(claim, decide(effect, claim.at_most), effect, explain(claim, effect, records), further)


def measure(quantity: Measure, subject: Sequence[TrainingRecord], reference: Sequence[TrainingRecord]) -> Effect:
    """Measure an effect with every seed, both networks of a pair having the same.

    There is no interval if a training diverged or was too short.
    """
    others = {record.seed: record for record in reference}
    values = tuple(quantity.effect(record, others[record.seed]) for record in subject if record.seed in others)
    complete = all(math.isfinite(value) for value in values)
    converged = all(record.status != "diverged" for record in (*subject, *reference))
    return Effect(values, confidence_interval(values) if complete and converged else None)


def decide(effect: Effect, at_most: float = math.inf) -> str:
    """Tell whether the interval lies within 0 and the largest effect allowed, outside, or partly in it."""
    if effect.interval is None:
        return OPEN
    _, low, high = effect.interval
    if low > 0 and high < at_most:
        return HOLDS
    return FAILS if high <= 0 or low >= at_most else OPEN


def explain(claim: Claim, effect: Effect, records: Records) -> str:
    """Say what was measured."""
    if effect.interval is None:
        return _why_no_interval(claim, effect, records)
    mean = effect.interval.mean
    agreeing = sum((value > 0) == (mean > 0) for value in effect.values)
    count = len(effect.values)
    where = f"with each of the {count} seeds" if agreeing == count else f"with {agreeing} of {count} seeds"
    if claim.measure is GAP:
        text = f"In the last epoch the gap is {_amount(claim, mean)} than in the first, {where}."
    elif claim.measure is FASTER:
        ours, other = records[claim.subject], records[claim.reference]
        text = (
            f"The mean validation loss of the first five epochs is {_early_loss(ours)} instead of "
            f"{_early_loss(other)}: {_amount(claim, mean)}, {where}. {_compare_steps(ours, other)}"
        )
    else:
        text = f"The {_NAMES[claim.measure.definition]} is {_amount(claim, mean)}, {where}."
    doubt = _doubt(effect.interval, claim.at_most)
    return f"{text} {doubt}" if doubt else text


def summarise(claim: Claim, effect: Effect) -> str:
    """Say in a few words what was measured."""
    if effect.interval is None:
        return ""
    slightly = math.isfinite(claim.at_most) and effect.interval.mean > 0 and effect.interval.high >= claim.at_most
    ending = f": {'' if effect.interval.low >= claim.at_most else 'perhaps '}more than slightly" if slightly else ""
    return f"{_NAMES[claim.measure.definition]} {_amount(claim, effect.interval.mean)}{ending}"


_NAMES = {
    FASTER.definition: "early validation loss",
    ACCURACY.definition: "best validation accuracy",
    LOSS.definition: "best validation loss",
    GAP.definition: "gap at the end",
}


def _amount(claim: Claim, mean: float) -> str:
    unit = f" {claim.measure.unit}" if claim.measure.unit else ""
    return f"{claim.measure.more if mean > 0 else claim.measure.less} by {number(abs(mean))}{unit}"


def _why_no_interval(claim: Claim, effect: Effect, records: Records) -> str:
    for record in (*records[claim.subject], *records[claim.reference]):
        if record.status == "diverged":
            return f"{record.experiment} diverged with seed {record.seed}, so there is nothing to compare."
    if len(effect.values) < 2:
        return "One seed says nothing about chance: an interval needs at least two."
    return "The trainings were too short to measure it."


def _early_loss(records: Sequence[TrainingRecord]) -> str:
    return f"{math.fsum(record.early_loss for record in records) / len(records):.3f}"


def _compare_steps(subject: Sequence[TrainingRecord], reference: Sequence[TrainingRecord]) -> str:
    target = f"{100 * TARGET_ACCURACY:.0f} % validation accuracy"
    one, other = steps_in_words(subject), steps_in_words(reference)
    if one == other == "never":
        return f"Neither reaches {target}."
    return f"Steps to {target}: {one}, against {other}."


def _doubt(interval: Interval, at_most: float) -> str:
    if interval.low <= 0 <= interval.high:
        return "The interval includes 0: chance may have made the difference."
    if interval.low >= at_most:
        return "The direction is as claimed, but that is more than slightly."
    if interval.high >= at_most:
        return "The direction is as claimed; whether that is still slightly remains open."
    return ""
