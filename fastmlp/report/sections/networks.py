"""Tasks 2 to 4: the experiments with their figures, tables and parameter counts."""

from __future__ import annotations

from collections.abc import Mapping

from fastmlp.report.experiments import CHAIN, Experiment
from fastmlp.report.findings import Findings
from fastmlp.report.gradients import EPSILON, SAMPLES
from fastmlp.report.markup import Markup, code, paragraph, section, table, tag
from fastmlp.report.wording import (
    ACTIVATIONS,
    count_parameters,
    describe_experiment,
    describe_network,
    parameter_sum,
    scientific,
    spread,
    steps_in_words,
    stops,
)

ORIGINAL_MEAN, ORIGINAL_DEVIATION = 33.55274553571429, 78.87550070784701
ORIGINAL_TEN_LAYERS = 88_448

# the parts of task 4 in the original; c) asked for no experiment
_LETTERS = {"units-32": "a) ", "units-128": "b) ", "two-layers": "d) ", "ten-layers": "e) "}


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
            *experiment_block(findings, default, with_title=False),
            results_table(findings, {"default": default}),
            tag("h3", "d) Number of parameters"),
            paragraph(f"Weights and biases: {parameter_sum(findings.sizes(default))}."),
        ]
    return section("task-2", "Task 2: the basic network", *parts)


def _statistics(findings: Findings) -> Markup:
    dataset = findings.dataset
    if hasattr(dataset.mean, "shape"):
        return paragraph(
            "The features are standardised one by one, so there is a mean and a deviation for each."
        )
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
            f"difference {max(differences):.0e})."
        )
    return paragraph(text)


def _gradient_checks(findings: Findings) -> list[Markup]:
    plan = findings.plan
    checks = findings.results.gradients
    rows = []
    for name, check in checks.items():
        experiment = plan.experiments[name]
        rows.append(
            (
                code(name),
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
        "differences of the loss, (L(w + ε) − L(w − ε)) / 2ε, for some weights and biases of every layer, on both ways "
        "through the first layer (all pixels, and skipping those that are 0). Networks that differ in their initial "
        "weights or learning rate only are checked once."
    )
    verdict = (
        f"The worst relative difference is {scientific(worst)}; {'none' if passed else 'NOT every one'} is "
        f"{'above' if passed else 'within'} the tolerance of {_power(tolerance)} (ε from 10⁻⁵ to 3·10⁻⁷; gradients "
        "below 0.01 count as 0.01)."
    )
    original = (
        f"The last column is the original's test: ε = {EPSILON:g}, and no absolute difference above ε² = "
        f"{_power(EPSILON**2)}. ReLU cannot pass it with steps that long: where a unit of some image changes "
        "sides between w − ε and w + ε, the quotient is taken across the kink, where there is no derivative. With short "
        "steps this does not happen, and the difference is gone."
    )
    header = (
        "Network",
        "Layers",
        "Activation",
        "Compared",
        "Worst relative difference",
        "Worst with ε = 0.001",
    )
    return [paragraph(text), table(header, rows, class_="numbers"), paragraph(verdict), paragraph(original)]


def task_3(findings: Findings) -> Markup:
    """Tricks of the trade."""
    experiments = findings.of_task("task3")
    chain = {name: experiments[name] for name in CHAIN if name in experiments}
    parts: list[Markup | None] = [
        paragraph(
            "Each trick alone against the basic network, then all of them in the order of the original. The improved "
            "initialisation draws weights from a normal distribution with standard deviation 1/√fan-in instead of "
            "uniform(−1, 1), with which 784 inputs saturate most sigmoids from the start; He's has √(2/fan-in), as ReLU "
            "halves the variance. Momentum 0.9 comes with learning rate 0.02: a long way in one direction adds up to "
            "1/(1 − 0.9) = 10 steps, so it is in effect a learning rate of 0.2."
        ),
        *_comparison(findings, "task3", experiments),
        results_table(findings, experiments),
    ]
    if len(chain) > 1:
        parts += [
            tag("h3", "The chain"),
            paragraph(
                "The tricks one after the other: improved initialisation; ReLU, with the initialisation made for it; "
                "momentum; and the improved sigmoid in the place of ReLU, with its initialisation."
            ),
            *_comparison(findings, "chain", chain),
            results_table(findings, chain),
        ]
    for name, experiment in experiments.items():
        if name != "default":
            parts += experiment_block(findings, experiment)
    return section("task-3", "Task 3: tricks of the trade", *parts)


def task_4(findings: Findings) -> Markup:
    """Topology."""
    experiments = findings.of_task("task4")
    parts: list[Markup | None] = [
        paragraph(
            "All networks of this task use the tricks at the end of the chain: improved sigmoid, improved "
            "initialisation, momentum 0.9 with learning rate 0.02. ",
            code("all-tricks"),
            " is the one with 64 hidden units.",
        ),
        *_comparison(findings, "task4", experiments),
        results_table(findings, experiments),
    ]
    for name, experiment in experiments.items():
        parts += experiment_block(findings, experiment)
        parts.append(paragraph(f"Parameters: {parameter_sum(findings.sizes(experiment))}."))
        parts += [remark(findings, experiment) for remark in _REMARKS.get(name, ())]
    return section("task-4", "Task 4: topology", *parts)


def _two_layers(findings: Findings, experiment: Experiment) -> Markup | None:
    if count_parameters(findings.sizes(experiment)) != 55_050:
        return None
    return paragraph("The original's sum, 55,050, is right: 50,176 + 64 + 4,096 + 64 + 640 + 10.")


def _ten_layers(findings: Findings, experiment: Experiment) -> Markup | None:
    count = count_parameters(findings.sizes(experiment))
    if findings.sizes(experiment)[0] != 784 or findings.dataset.n_classes != 10:
        return None
    return paragraph(
        "The original counts 785·64 + 64 + (64·64 + 64)·9 + 64·10 + 64 = "
        f"{785 * 64 + 64 + (64 * 64 + 64) * 9 + 64 * 10 + 64:,}. That is {ORIGINAL_TEN_LAYERS - count} too many: 785 "
        "inputs and 64 biases count the biases of the first layer twice (64 too many), and the output layer has 10 "
        "biases, one per class, not 64 (54 too many)."
    )


def _equal_parameters(findings: Findings, experiment: Experiment) -> Markup | None:
    if "two-layers" not in findings.plan.experiments:
        return None
    sizes = findings.sizes(findings.plan.experiments["two-layers"])
    return paragraph(
        f"Not in the original: about as many parameters as the two hidden layers of 64 have "
        f"({count_parameters(sizes):,}), in one layer. It tells what the second layer does from what the parameters do."
    )


_REMARKS = {"two-layers": (_two_layers,), "ten-layers": (_ten_layers,), "one-layer-69": (_equal_parameters,)}


def own(findings: Findings) -> Markup:
    """Experiments that the user added."""
    experiments = findings.of_task("own")
    parts: list[Markup | None] = [
        *_comparison(findings, "own", experiments),
        results_table(findings, experiments),
    ]
    for experiment in experiments.values():
        parts += experiment_block(findings, experiment)
        parts.append(paragraph(f"Parameters: {parameter_sum(findings.sizes(experiment))}."))
    return section("own", "Further experiments", *parts)


def _comparison(findings: Findings, group: str, experiments: Mapping[str, Experiment]) -> list[Markup]:
    """Two figures with all experiments of a group, if there is something to compare."""
    if f"{group}-validation-loss" not in findings.drawings:
        return []
    names = ", ".join(experiments)
    figures = [
        findings.drawing(
            f"{group}-validation-{quantity}", f"Validation {quantity} against training steps of {names}"
        )
        for quantity in ("loss", "accuracy")
    ]
    return [tag("div", *figures, class_="pair")]


def experiment_block(findings: Findings, experiment: Experiment, *, with_title: bool = True) -> list[Markup]:
    """The two figures of the original for one experiment, with what it is and where early stopping hit."""
    records = findings.records(experiment.name)
    name = experiment.name
    title = experiment.title or name
    heading = tag("h3", _LETTERS.get(name, ""), title[:1].upper() + title[1:], " ", code(name), id=f"experiment-{name}")
    figures = [
        findings.drawing(f"{name}-{kind}", f"{title}: training and validation {kind} against training steps")
        for kind in ("loss", "accuracy")
    ]
    return [
        *([heading] if with_title else []),
        paragraph(describe_experiment(experiment, findings.sizes(experiment)) + ".", class_="note"),
        tag("div", *figures, class_="pair"),
        paragraph(stops(records)),
    ]


def results_table(findings: Findings, experiments: Mapping[str, Experiment]) -> Markup:
    """What each experiment reached."""
    rows = []
    for name, experiment in experiments.items():
        records = findings.records(name)
        rows.append(
            (
                code(name),
                f"{count_parameters(findings.sizes(experiment)):,}",
                spread([record.best_validation_loss for record in records], 4),
                spread([100 * record.best_validation_accuracy for record in records], 2),
                spread([100 * record.final_training_accuracy for record in records], 2),
                steps_in_words(records),
                spread([record.steps / record.steps_per_epoch for record in records], 1),
                spread([record.training_seconds for record in records], 2),
            )
        )
    header = (
        "Network",
        "Parameters",
        "Best validation loss",
        "Best validation accuracy (%)",
        "Final training accuracy (%)",
        "Steps to 95 %",
        "Epochs",
        "Seconds",
    )
    return table(header, rows, class_="numbers")


def _power(value: float) -> str:
    """Return "10⁻⁶" of a power of ten."""
    return scientific(value).removeprefix("1.0·")
