"""Tasks 3 and 4, and experiments of the user's own."""

from __future__ import annotations

from fastmlp.report.claims import LOSS
from fastmlp.report.experiments import CHAIN, Experiment
from fastmlp.report.findings import Findings
from fastmlp.report.judgement import FAILS, HOLDS, OPEN, decide, measure
from fastmlp.report.markup import Markup, code, paragraph, section, tag
from fastmlp.report.sections.networks import comparison, experiment_block, results_table
from fastmlp.report.wording import INITIALIZATIONS, count_parameters, interval_in_words, parameter_sum

ORIGINAL_TEN_LAYERS = 88_448


def task_3(findings: Findings) -> Markup:
    """Tricks of the trade."""
    experiments = findings.of_task("task3")
    chain = {name: experiments[name] for name in CHAIN if name in experiments}
    parts: list[Markup | None] = [
        paragraph(
            "Each trick alone against the basic network, then all of them in the order of the original. The improved "
            "initialisation draws weights from a normal distribution with standard deviation 1/\N{WORD JOINER}√fan-in "
            f"(fan-in being the number of inputs of a unit) instead of {INITIALIZATIONS['uniform']}, with which 784 "
            "inputs saturate most sigmoids from the start; He's has √(2/fan-in), as ReLU lets only half of the mean "
            "square of its inputs through. The improved sigmoid, 1.7159\N{NO-BREAK SPACE}tanh(2z/3), is centred on 0 "
            "and maps ±1 to ±1. Momentum 0.9 comes with learning rate 0.02: successive steps in the same direction add "
            "up, in the end to 1/(1 − 0.9) = 10 times one of them, so they get more drastic, as if the learning rate "
            "grew to 0.2."
        ),
        paragraph(
            "The original finds that each trick helps, that with ReLU the network generalises very fast, and that "
            "ReLU learns faster with He's initialisation than with the old one."
        ),
        *comparison(findings, "task3", experiments),
        results_table(findings, experiments),
    ]
    if len(chain) > 1:
        parts += [
            tag("h3", "The chain"),
            paragraph(
                "The tricks one after the other: improved initialisation; ReLU, with the initialisation made for it; "
                "momentum; and the improved sigmoid in the place of ReLU, with its initialisation."
            ),
            *comparison(findings, "chain", chain),
            results_table(findings, chain),
        ]
    for experiment in experiments.values():
        if findings.home(experiment) == "task3":
            parts.append(experiment_block(findings, experiment))
    return section("task-3", "Task 3: tricks of the trade", *parts)


def task_4(findings: Findings) -> Markup:
    """Topology."""
    experiments = findings.of_task("task4")
    parts: list[Markup | None] = [
        paragraph(
            "All networks of this task use the tricks at the end of the chain: improved sigmoid, improved "
            "initialisation, momentum 0.9 with learning rate 0.02. ",
            tag("a", code("all-tricks"), href="#experiment-all-tricks") if "all-tricks" in experiments else None,
            " is the one with 64 hidden units." if "all-tricks" in experiments else None,
        ),
        paragraph(
            "The original takes a worse accuracy with 32 units for too little capacity (high bias), which would show "
            "in the training accuracy, too, and a growing gap between training and validation accuracy of the deeper "
            "networks for overfitting. The letters are the original's; its part c) has no experiment."
        ),
        *comparison(findings, "task4", experiments),
        results_table(findings, experiments),
    ]
    for name, experiment in experiments.items():
        if findings.home(experiment) != "task4":
            continue
        remarks = [remark(findings, experiment) for remark in _REMARKS.get(name, ())]
        parts.append(experiment_block(findings, experiment, parameters(findings, experiment), *remarks))
    return section("task-4", "Task 4: topology", *parts)


def parameters(findings: Findings, experiment: Experiment) -> Markup:
    """Write the sum of the parameters out."""
    return paragraph(f"Parameters: {parameter_sum(findings.sizes(experiment))}.")


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
        "inputs, one of them for the bias, and 64 biases on top count the biases of the first layer twice (64 too "
        "many); and the output layer has 10 biases, one per class, not 64 (54 too many)."
    )


def _equal_parameters(findings: Findings, _: Experiment) -> Markup | None:
    if "two-layers" not in findings.plan.experiments:
        return None
    sizes = findings.sizes(findings.plan.experiments["two-layers"])
    return paragraph(
        f"Not in the original: about as many parameters as the two hidden layers of 64 have "
        f"({count_parameters(sizes):,}), in one layer. It tells apart what the second layer and what the parameters do."
        f"{_one_layer_against_two(findings)}"
    )


def _one_layer_against_two(findings: Findings) -> str:
    effect = measure(LOSS, findings.records("one-layer-69"), findings.records("two-layers"))
    if effect.interval is None:
        return ""
    words = interval_in_words(effect.interval, LOSS.unit)
    return f" How much lower the best validation loss is than with two layers: {words}; {_OUTCOMES[decide(effect)]}."


_OUTCOMES = {
    HOLDS: "here the parameters do more in one layer",
    FAILS: "here the second layer does more than its parameters",
    OPEN: "no difference that could not be chance",
}

_REMARKS = {"two-layers": (_two_layers,), "ten-layers": (_ten_layers,), "one-layer-69": (_equal_parameters,)}


def own(findings: Findings) -> Markup:
    """Experiments that the user added."""
    experiments = findings.of_task("own")
    parts: list[Markup | None] = [
        *comparison(findings, "own", experiments),
        results_table(findings, experiments),
    ]
    for experiment in experiments.values():
        parts.append(experiment_block(findings, experiment, parameters(findings, experiment)))
    return section("own", "Further experiments", *parts)
