"""Task 2: the basic network, and the gradients of all networks."""

from __future__ import annotations

from fastmlp.report.findings import Findings
from fastmlp.report.gradients import EPSILON, SAMPLES
from fastmlp.report.jobs import initial_network
from fastmlp.report.markup import Markup, code, join, paragraph, section, table, tag
from fastmlp.report.mathml import formula
from fastmlp.report.sections.networks import experiment_block, results_table
from fastmlp.report.wording import ACTIVATIONS, describe_network, parameter_sum, scientific, together

ORIGINAL_MEAN, ORIGINAL_DEVIATION = 33.55274553571429, 78.87550070784701


def task_2(findings: Findings) -> Markup:
    """The basic network."""
    default = findings.of_task("task2").get("default")
    parts: list[Markup | None] = [
        tag("h3", "a) Mean and standard deviation of the pixels"),
        _statistics(findings),
    ]
    parts += [tag("h3", "b) Are the gradients right?"), *_gradient_checks(findings)]
    if default is not None:
        parts += [
            tag("h3", "c) Training the basic network"),
            experiment_block(findings, default, with_title=False),
            results_table(findings, {"default": default}),
            tag("h3", "d) Number of parameters"),
            paragraph(f"Weights and biases: {parameter_sum(findings.sizes(default))}."),
        ]
    return section("task-2", "Task 2: the basic network", *parts)


def _statistics(findings: Findings) -> Markup:
    dataset = findings.dataset
    if hasattr(dataset.mean, "shape"):
        return paragraph("The features are standardised one by one, so there is a mean and a deviation for each.")
    text = (
        f"Over all pixels of the {len(dataset.X_train):,} training images: mean {dataset.mean!r}, standard deviation "
        f"{dataset.std!r}."
    )
    if findings.is_original:
        differences = (
            abs(dataset.mean / ORIGINAL_MEAN - 1),
            abs(float(dataset.std) / ORIGINAL_DEVIATION - 1),
        )
        agreement = "agrees" if max(differences) < 1e-12 else "does NOT agree"
        text += (
            f" The original reports {ORIGINAL_MEAN} and {ORIGINAL_DEVIATION}; that {agreement} (largest relative "
            f"difference {scientific(max(differences))})."
        )
    return paragraph(text)


def _gradient_checks(findings: Findings) -> list[Markup]:
    plan = findings.plan
    checks = findings.results.gradients
    rows = []
    for name, check in checks.items():
        experiment = plan.experiments[name]
        alike = (e.name for e in plan.experiments.values() if initial_network(e) == initial_network(experiment))
        rows.append(
            (
                join(map(code, alike), ", "),
                describe_network(findings.sizes(experiment)),
                ACTIVATIONS[experiment.activation],
                f"{check['compared']:,}",
                scientific(check["worst"]) + (" ✓" if check["passed"] else " ✗ wrong"),
                scientific(check["original_worst"]) + (" ✓" if check["original_passed"] else " ✗"),
            )
        )
    worst = max(check["worst"] for check in checks.values())
    tolerance = next(iter(checks.values()))["tolerance"]
    passed = all(check["passed"] for check in checks.values())
    text = (
        f"The gradients of the compiled kernels, in float64 and over {SAMPLES} training images, against central "
        "differences of the loss L, for some weights w and biases of every layer and on both ways through the first "
        "layer: with all pixels, and skipping those that are 0. The weights are the initial ones, so networks that "
        "differ in learning rate and momentum only share a row. The relative difference is the absolute one over the "
        "larger of the two numbers, or over 0.01 where both are smaller."
    )
    verdict = (
        f"The worst relative difference is {scientific(worst)}; {'none' if passed else 'NOT every one'} is "
        f"{'above' if passed else 'within'} the tolerance of {_power(tolerance)}. Here ε is at most 10⁻⁵, and shorter "
        "where that would carry a unit across the kink of the ReLU (see fastmlp/gradient_check.py)."
    )
    step = together(f"ε = {EPSILON:g}")
    original = (
        f"The last column is the original's test: {step}, and no absolute difference above "
        f"{together(f'ε² = {_power(EPSILON**2)}')}."
    )
    if any(
        plan.experiments[name].activation == "relu" and not check["original_passed"] for name, check in checks.items()
    ):
        original += (
            f" ReLU does not pass it: where a unit changes sides for some image between {together('w − ε')} and "
            f"{together('w + ε')}, the quotient is taken across the kink, where there is no derivative. With shorter "
            "steps this does not happen, and the difference is gone."
        )
    header = (
        "Network",
        "Layers",
        "Activation",
        "Compared",
        "Worst relative difference",
        f"Worst absolute difference, {step}",
    )
    quotient = formula("frac{d L}{d w} approx frac{L ( w + epsilon ) - L ( w - epsilon )}{2 epsilon}")
    return [
        paragraph(text),
        tag("div", quotient, class_="formula"),
        table(header, rows, class_="numbers", label="gradient checks"),
        paragraph(verdict),
        paragraph(original),
    ]


def _power(value: float) -> str:
    """Return "10⁻⁶" of a power of ten."""
    return scientific(value).removeprefix("1.0·")
