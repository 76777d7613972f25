"""First-layer weights and the most confident mistakes, for the default and the best network."""

from __future__ import annotations

from fastmlp.report.embedding import picture
from fastmlp.report.findings import Findings, best_experiment
from fastmlp.report.jobs import new_network
from fastmlp.report.markup import Markup, code, paragraph, section, tag
from fastmlp.report.pictures import MOST_UNITS, Mistake, caption, confident_mistakes, weight_mosaic
from fastmlp.report.wording import INITIALIZATIONS


def shown_experiments(findings: Findings) -> list[str]:
    """The default and the best, as far as they were run."""
    best = best_experiment(findings.results.trainings)
    return list(dict.fromkeys(name for name in ("default", best) if name in findings.networks and name is not None))


def insight(findings: Findings) -> Markup | None:
    """The section; None if the samples are no images or no network is there."""
    names = shown_experiments(findings)
    if findings.dataset.image_shape is None or not names:
        return None
    parts: list[Markup] = [
        paragraph(
            "Every hidden unit of the first layer has a weight per pixel, so its weights are a picture: blue is "
            "negative, white zero, vermilion positive, each mosaic on its own scale. What looks like noise is what is "
            "left of the initial weights. At the border the pixels are nearly always 0, so training moves all of their "
            "weights alike, and the differences stay as they were drawn; weights drawn from "
            f"{INITIALIZATIONS['uniform']} are so large that what was learnt disappears among them. The second mosaic "
            "has the initial weights taken away. The best network is the one with the lowest best validation loss in "
            "the mean over its seeds."
        )
    ]
    for name in names:
        parts += _network(findings, name)
    return section("insight", "What the networks look at, and where they err", *parts)


def _network(findings: Findings, name: str) -> list[Markup]:
    network = findings.networks[name]
    shape = findings.dataset.image_shape
    assert shape is not None
    best = best_experiment(findings.results.trainings)
    kind = " and ".join(
        [
            *(["the default network"] if name == "default" else []),
            *(["the best network"] if name == best else []),
        ]
    )
    accuracy = network.evaluate(findings.dataset.X_test, findings.dataset.y_test).accuracy
    mistakes = confident_mistakes(network, findings.dataset)
    units = network.layers[1]
    which = f"{units} units" if units <= MOST_UNITS else f"the first {MOST_UNITS} of {units} units"
    start = new_network(findings.plan.experiments[name], findings.dataset, seed=0).weights[0]
    shown = (
        (network.weights[0], f"The weights into {which}"),
        (network.weights[0] - start, "What training changed in them"),
    )
    figures = [
        tag(
            "figure",
            picture(weight_mosaic(weights, shape), f"{name}: {what}", scale=2, class_="mosaic"),
            tag("figcaption", what),
        )
        for weights, what in shown
    ]
    wrong = round((1 - accuracy) * len(findings.dataset.y_test))
    text = (
        f" with seed 0, as it was at its lowest validation loss: {100 * accuracy:.2f} % of the validation images are "
        f"right. Its most confident mistakes among {wrong:,}:"
    )
    return [
        tag("h3", kind[:1].upper() + kind[1:], " ", code(name)),
        tag("div", *figures, class_="pair weights"),
        paragraph(code(name), text),
        tag("div", *map(_mistake, mistakes), class_="mistakes"),
    ]


def _mistake(mistake: Mistake) -> Markup:
    words = caption(mistake)
    return tag(
        "figure",
        picture(255 - mistake.pixels, f"validation image {mistake.row}: {words}", scale=2, class_="digit"),
        tag("figcaption", words),
    )
