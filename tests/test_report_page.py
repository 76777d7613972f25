"""The report says what was found, needs nothing but itself, and is as safe as what it was made from is not."""

from __future__ import annotations

import csv
import dataclasses
import html.parser
import importlib
import io
import itertools
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from fastmlp.datasets import Dataset
from fastmlp.report import embedding, figures, speed
from fastmlp.report.build import build_report
from fastmlp.report.experiment_file import read_experiments
from fastmlp.report.experiments import EXPERIMENTS, Experiment, Protocol
from fastmlp.report.findings import Findings, best_experiment
from fastmlp.report.judgement import judge
from fastmlp.report.markup import join, table, tag
from fastmlp.report.mathml import formula
from fastmlp.report.pictures import confident_mistakes, mistakes_figure, weight_mosaic
from fastmlp.report.plan import Plan
from fastmlp.report.runner import Results
from fastmlp.report.sections import basic, overview
from fastmlp.report.sections.machine import command_line, speed_and_machine
from fastmlp.report.sections.mathematics import named_kernels
from fastmlp.report.speed import SpeedUp
from fastmlp.report.wording import typographic
from tests.processes import ROOT
from tests.report_data import made_up_report, record, small_mnist

HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\"'"


class Made(NamedTuple):
    folder: Path
    plan: Plan
    results: Results
    dataset: Dataset
    findings: Findings
    page: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A report of all experiments, and one of the user's with a hostile title."""
    folder = tmp_path_factory.mktemp("made") / "report"
    dataset = small_mnist()
    plan, results = made_up_report(folder, dataset, mine=Experiment("mine", (5, 3), title=HOSTILE))
    speed_up = SpeedUp(1_000_000, 0.5, 4.0, 0.93, 0.9299, 1.2e-6, 2)
    findings = build_report(plan, dataset, results, speed_up)
    return Made(folder, plan, results, dataset, findings, (folder / "index.html").read_text(encoding="utf-8"))


class Checker(html.parser.HTMLParser):
    """Collects what a page consists of, and sees that every element is closed where it should be."""

    VOID = ("br", "col", "img", "meta", "wbr")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def parse(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


def words(page: str) -> str:
    return " ".join("".join(parse(page).text).split())


def shown(text: str) -> str:
    """How `words` returns a text of the command line."""
    return " ".join(typographic(text).split())


# The page as a document


def test_elements_are_closed_and_identifiers_unique(made: Made) -> None:
    elements = parse(made.page).elements
    identifiers = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    links = [attributes["href"] for name, attributes in elements if name == "a"]
    for link in links:
        assert link is not None
        assert link.removeprefix("#") in identifiers
    used = set(re.findall(r"url\(#([^)]*)\)|xlink:href=\"#([^\"]*)\"", made.page))
    assert used
    assert {one or other for one, other in used} <= set(identifiers)


def test_nothing_is_loaded_and_nothing_runs(made: Made) -> None:
    elements = parse(made.page).elements
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {name for name, _ in elements}
    for name, attributes in elements:
        assert not [key for key in attributes if key.startswith("on")], name
        for key in ("src", "href", "xlink:href"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), value
    assert not re.search(r"url\((?!#)|@import|javascript:|https?://(?!www\.w3\.org)", made.page)
    assert "Content-Security-Policy" in made.page
    assert "default-src 'none'" in html.unescape(made.page)


def test_what_users_write_is_text(made: Made) -> None:
    assert HOSTILE[:1].upper() + HOSTILE[1:] in "".join(parse(made.page).text)
    assert "<script" not in made.page
    assert "<img src=x" not in made.page
    for path in made.folder.glob("figures/*.svg"):
        assert "<script" not in path.read_text()


def test_a_table_has_a_row_of_headers_or_none() -> None:
    assert "<thead><tr>" in table(("a", "b"), [("1", "2")])
    assert "<thead>" not in table((), [("1", "2")])


def test_elements_escape_what_is_no_element() -> None:
    assert (
        tag("p", "a<b", 3, None, ["c&d", tag("b", "e")], class_='"') == '<p class="&quot;">a&lt;b3c&amp;d<b>e</b></p>'
    )
    assert tag("img", alt="<", src=None) == '<img alt="&lt;">'
    assert join(["<", tag("i", ">")], " & ") == "&lt; &amp; <i>&gt;</i>"


def test_images_have_descriptions(made: Made) -> None:
    elements = parse(made.page).elements
    images = [attributes for name, attributes in elements if name == "img"]
    assert len(images) == 2 * (2 + 12), "two mosaics and twelve mistakes for each of two networks"
    assert all(image.get("alt") for image in images)
    drawings = [attributes for name, attributes in elements if name == "svg"]
    assert all(drawing.get("role") == "img" and drawing.get("aria-label") for drawing in drawings)


# What it says


def test_all_parts_of_the_assignment_are_there(made: Made) -> None:
    identifiers = {attributes.get("id") for _, attributes in parse(made.page).elements}
    assert {
        "summary",
        "protocol",
        "task-1",
        "task-2",
        "task-3",
        "task-4",
        "own",
        "claims",
        "insight",
        "machine",
    } <= identifiers
    assert {f"claim-{number}" for number in range(1, 10)} <= identifiers
    assert {f"experiment-{name}" for name in [*EXPERIMENTS, "mine"] if name != "default"} <= identifiers
    text = words(made.page)
    for part in (
        "784·64 + 64 + 64·10 + 10 = 50,890",
        "784·64 + 64 + 64·64 + 64 + 64·10 + 10 = 55,050",
        "The original's sum, 55,050, is right",
        "784·64 + 64 + 9·(64·64 + 64) + 64·10 + 10 = 88,330",
        "785·64 + 64 + (64·64 + 64)·9 + 64·10 + 64 = 88,448. That is 118 too many",
        "Early stopping ended 1 of 2 trainings, after 6.0 epochs.",
        "2.5·10⁻⁸ ✓",
        "2.0·10⁻³ ✗",
        "It took 2 min 03 s.",
        "That is 8.0 times as fast",
        "fastmlp reproduce --seeds 2 --epochs 8",
        "The weights into 64 units",
    ):
        assert part in text, part


def test_every_experiment_has_its_two_figures_and_its_row(made: Made) -> None:
    drawings = [a["aria-label"] or "" for name, a in parse(made.page).elements if name == "svg"]
    for name, experiment in made.plan.experiments.items():
        title = experiment.title
        for kind in ("loss", "accuracy"):
            assert f"{title}: training and validation {kind} against training steps" in drawings
            for ending in ("png", "svg"):
                assert (made.folder / "figures" / f"{name}-{kind}.{ending}").stat().st_size > 1000
    for group in ("task3", "task4", "chain"):
        for kind in ("loss", "accuracy"):
            assert (made.folder / "figures" / f"{group}-validation-{kind}.svg").is_file()
    text = words(made.page)
    ours = made.results.trainings["relu-he"]
    mean = np.mean([r.best_validation_loss for r in ours])
    spread = np.std([r.best_validation_loss for r in ours], ddof=1)
    assert f"{mean:.4f} ± {spread:.4f}" in text


def test_verdicts_are_told_with_interval_and_reason(made: Made) -> None:
    text = words(made.page)
    for verdict in made.findings.verdicts:
        assert verdict.sentence in text
        assert verdict.claim.measure.definition in text
        assert verdict.effect is not None
        assert shown(verdict.claim.remark) in text
    assert text.count("95 % interval") >= 9
    assert "Network: two-layers. The gap is" in text, "there is nothing that it is compared with"
    assert "Compared: units-32 against all-tricks. A best validation accuracy" in text
    assert "How much lower the best validation loss is than with two layers: +" in text


def test_experiments_say_what_came_of_the_claims_about_them(made: Made) -> None:
    text = words(made.page)
    for verdict in made.findings.verdicts:
        told = f"Claim {verdict.claim.number}: {shown(verdict.claim.statement)}"
        at = text.index(told) + len(told)
        assert verdict.verdict in text[at : at + 20]


@pytest.mark.parametrize("otherwise", [True, False])
def test_the_summary_tells_comparisons_that_come_out_otherwise(made: Made, otherwise: bool) -> None:
    """ReLU loses with the old initialisation, and wins or loses with the one made for it."""
    decays = {"default": 0.02, "relu-uniform": 0.01, "improved-init": 0.02, "relu-he": 0.04 if otherwise else 0.01}
    trainings = {name: [record(name, seed, decay=decay) for seed in range(3)] for name, decay in decays.items()}
    findings = dataclasses.replace(made.findings, verdicts=judge(trainings))
    text = words(str(overview.summary(findings)))
    assert "ReLU learns faster than sigmoid.Early validation loss higher by" in text
    assert ("Each with the initialisation made for it: holds" in text) == otherwise


def test_networks_that_begin_alike_share_a_gradient_check(made: Made) -> None:
    text = words(made.page)
    assert "default, momentum" in text
    assert "relu-he, relu-he-momentum" in text


@pytest.mark.parametrize("passed", [True, False])
def test_relu_is_excused_only_if_it_fails(made: Made, passed: bool) -> None:
    checks = {name: check | {"original_passed": passed} for name, check in made.results.gradients.items()}
    findings = dataclasses.replace(made.findings, results=dataclasses.replace(made.results, gradients=checks))
    assert ("ReLU does not pass it" in words(str(basic.task_2(findings)))) == (not passed)


def test_mean_and_deviation_are_compared_with_the_original_s_only_for_its_data(made: Made) -> None:
    assert "The original reports" not in words(made.page), "these are 200 images only"
    assert f"mean {made.dataset.mean!r}" in words(made.page)


def test_the_figures_of_task_2a() -> None:
    from fastmlp import load_dataset
    from fastmlp.report.sections.basic import ORIGINAL_DEVIATION, ORIGINAL_MEAN

    dataset = load_dataset("mnist", n_train=20_000)
    assert dataset.mean == pytest.approx(ORIGINAL_MEAN, rel=1e-14)
    assert dataset.std == pytest.approx(ORIGINAL_DEVIATION, rel=1e-14)


def test_the_kernels_named_in_task_1_exist() -> None:
    for name in named_kernels():
        module, function = name.split(".")
        assert hasattr(importlib.import_module(f"fastmlp.kernels.{module}"), function), name


def test_a_report_of_one_experiment_alone(tmp_path: Path) -> None:
    dataset = small_mnist()
    plan, results = made_up_report(tmp_path / "report", dataset)
    only = {"relu-he": plan.experiments["relu-he"]}
    plan = dataclasses.replace(plan, experiments=only, seeds=1)
    one = Results({"relu-he": results.trainings["relu-he"][:1]}, {"relu-he": results.gradients["relu-uniform"]})
    findings = build_report(plan, dataset, one)
    text = words((plan.folder / "index.html").read_text(encoding="utf-8"))
    assert "Task 4" not in text
    assert "Of the nine claims 9 were not tested." in text
    assert "It took" not in text
    assert {verdict.verdict for verdict in findings.verdicts} == {"not tested"}
    assert "--only relu-he" in text


def test_a_report_of_diverged_trainings(tmp_path: Path) -> None:
    dataset = small_mnist()
    plan, results = made_up_report(tmp_path / "report", dataset)
    none = np.zeros(0)
    lost = [
        record("default", seed, epochs=1, status="diverged", step=none.astype(np.int64), validation_loss=none,
               validation_accuracy=none, training_accuracy=none, loss_mean=np.array([2.0, np.nan]),
               loss_deviation=np.array([0.1, np.nan]))
        for seed in range(2)
    ]  # fmt: skip
    build_report(plan, dataset, Results(results.trainings | {"default": lost}, results.gradients))
    text = words((plan.folder / "index.html").read_text(encoding="utf-8"))
    assert "2 of 2 trainings diverged" in text
    assert "default diverged with seed 0, so there is nothing to compare." in text


@pytest.mark.parametrize(
    ("names", "sections", "home"),
    [
        (["default"], ["task2"], {"default": "task2"}),
        (["all-tricks"], ["task2", "task3"], {"all-tricks": "task3"}),
        (["all-tricks", "units-32"], ["task2", "task4"], {"all-tricks": "task4", "units-32": "task4"}),
        (["default", "relu-he", "all-tricks", "units-32", "mine"], ["task2", "task3", "task4", "own"],
         {"default": "task2", "all-tricks": "task3", "units-32": "task4", "mine": "own"}),
    ],
)  # fmt: skip
def test_each_experiment_is_drawn_once(made: Made, names: list[str], sections: list[str], home: dict[str, str]) -> None:
    chosen = {name: made.plan.experiments[name] for name in names}
    findings = dataclasses.replace(made.findings, plan=dataclasses.replace(made.plan, experiments=chosen))
    assert findings.sections == sections
    assert {name: findings.home(chosen[name]) for name in home} == home


def test_the_best_network_has_the_lowest_loss(made: Made) -> None:
    best = best_experiment(made.results.trainings)
    means = {n: np.mean([r.best_validation_loss for r in rs]) for n, rs in made.results.trainings.items()}
    assert best == min(means, key=lambda name: means[name])
    assert best_experiment({"a": [record(status="diverged")]}) is None


def test_the_command_line_asks_for_the_same(made: Made) -> None:
    plan = dataclasses.replace(made.plan, experiments={"default": EXPERIMENTS["default"]}, data="my data.npz")
    assert command_line(plan) == (
        "fastmlp reproduce --seeds 2 --epochs 8 --only default --data 'my data.npz' --n-train 200"
    )
    assert command_line(made.plan, baseline=True) == (
        "fastmlp reproduce --seeds 2 --epochs 8 --experiments FILE --baseline --n-train 200"
    )


# Files


@pytest.mark.parametrize(("share", "told"), [(1.4, False), (0.12, True)])
def test_a_comparison_on_a_busy_machine_says_so(made: Made, share: float, told: bool) -> None:
    findings = dataclasses.replace(made.findings, speed_up=SpeedUp(1_000_000, 0.5, 161.0, 0.9, 0.9, 1e-6, 2, share))
    background = {
        "machine": {"cpu": "x", "usable_cpus": 2, "cpu_features": [], "system": "x", "architecture": "x"},
        "versions": {"fastmlp": "0"},
        "data": {"name": "x", "fingerprint": "0" * 64},
        "finished": "2026-01-01T00:00:00+00:00",
    }
    text = words(str(speed_and_machine(findings, background)))
    assert "That is 322.0 times as fast" in text
    assert ("NumPy had it for 12 % of the time" in text) == told


def test_the_processor_s_share_of_a_comparison_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed.time, "thread_time", itertools.count(0.0, 1e-6).__next__)
    found = speed.compare_with_numpy(small_mnist(), Protocol(n_train=200, epochs=1))
    assert 0 < found.share < 0.1 and found.disturbed


def test_csv_has_a_row_per_training(made: Made) -> None:
    rows = list(csv.DictReader(io.StringIO((made.folder / "results.csv").read_text())))
    assert [(row["experiment"], row["seed"]) for row in rows] == [(n, s) for n in made.plan.experiments for s in "01"]
    first, ours = rows[0], made.results.trainings["default"][0]
    assert float(first["best_validation_loss"]) == ours.best_validation_loss
    assert first["network"] == "784-64-10"
    assert first["status"] == "stopped early"
    assert first["steps_to_95_percent"] == ("" if ours.steps_to_target is None else str(ours.steps_to_target))


def test_json_has_everything(made: Made) -> None:
    document = json.loads((made.folder / "results.json").read_text())
    assert document["schema_version"] == 1
    assert document["protocol"]["patience"] == 50
    assert [claim["number"] for claim in document["claims"]] == list(range(1, 10))
    assert document["claims"][0]["verdict"] in ("holds", "does not hold", "not decided")
    assert len(document["trainings"]) == 2 * len(made.plan.experiments)
    curves = document["trainings"][0]["curves"]
    assert curves["step"] == made.results.trainings["default"][0].step.tolist()
    assert curves["validation_loss"] == pytest.approx(made.results.trainings["default"][0].validation_loss, rel=1e-4)
    assert document["data"]["fingerprint"] == made.dataset.fingerprint
    assert document["numpy"]["factor"] == 8.0


def test_figures_of_an_earlier_report_are_replaced_and_others_kept(tmp_path: Path) -> None:
    dataset = small_mnist()
    plan, results = made_up_report(tmp_path / "report", dataset)
    build_report(plan, dataset, results)
    figures_folder = plan.folder / "figures"
    (figures_folder / "mine-loss.png").touch()
    assert (figures_folder / "units-32-loss.png").exists() and (figures_folder / "chain-validation-loss.svg").exists()
    only = {"default": EXPERIMENTS["default"]}
    fewer = Results({"default": results.trainings["default"]}, {"default": results.gradients["default"]})
    build_report(dataclasses.replace(plan, experiments=only), dataset, fewer)
    drawn = [
        f"default-{what}.{ending}" for what in ("accuracy", "loss", "mistakes", "weights") for ending in ("png", "svg")
    ]
    assert sorted(path.name for path in figures_folder.iterdir()) == [*drawn, "mine-loss.png"]


def test_the_report_is_small(made: Made) -> None:
    files = [path for path in made.folder.rglob("*") if path.is_file() and "runs" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 3e6
    for path in made.folder.glob("figures/*.png"):
        with Image.open(path) as image:
            assert image.width <= 800


@pytest.mark.skipif(not (ROOT / "bench" / "results").is_dir(), reason="pictures are in the repository only")
def test_the_readme_shows_the_example_report() -> None:
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert "bench/results/assignment/figures/chain-validation-accuracy.png" in pictures
    assert all((ROOT / picture).is_file() for picture in pictures)
    files = [path for path in (ROOT / "bench" / "results" / "assignment").rglob("*") if "runs" not in path.parts]
    assert sum(path.stat().st_size for path in files if path.is_file()) < 3e6


def test_the_experiment_in_the_readme_can_be_read(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    assert read_experiments(tmp_path / "mine.toml")["wide-relu"].layers == (256,)


# Figures


@pytest.mark.parametrize("accuracies", [(0.75, 0.95), (0.97, 0.9999), (0.9991, 0.9999)])
@pytest.mark.parametrize("epochs", [7, 25, 250])
def test_nothing_sticks_out_of_a_figure(accuracies: tuple[float, float], epochs: int) -> None:
    """Whatever numbers the axes have."""
    made = record(epochs=epochs, status="stopped early")
    rising = np.linspace(*accuracies, len(made.step))
    made = dataclasses.replace(made, validation_accuracy=rising, training_accuracy=rising)
    for figure in (
        figures.loss_figure([made]),
        figures.accuracy_figure([made]),
        figures.comparison_figure({name: [made] for name in list(EXPERIMENTS)[:9]}, "validation_accuracy"),
    ):
        figure.canvas.draw()
        box: Any = figure.get_tightbbox()
        assert box.x0 >= 0 and box.y0 >= 0
        assert box.x1 <= figure.get_figwidth() and box.y1 <= figure.get_figheight()


def test_captions_of_mistakes_do_not_overlap(made: Made) -> None:
    figure = mistakes_figure(confident_mistakes(made.findings.networks["default"], made.dataset))
    canvas: Any = figure.canvas
    canvas.draw()
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    assert len(boxes) == 12
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert all(box.x0 >= 0 and box.x1 <= canvas.get_width_height()[0] for box in boxes)


def test_svg_files_are_xml_with_text(made: Made) -> None:
    for path in made.folder.glob("figures/*.svg"):
        root = ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = (made.folder / "figures" / "default-loss.svg").read_text()
    assert ">Validation<" in text
    assert "Early stopping (1 of 2 seeds)" in text


def test_the_loss_figure_shows_the_numbers() -> None:
    records = [record(seed=0, epochs=2, status="stopped early"), record(seed=1, epochs=3)]
    (axes,) = figures.loss_figure(records).axes
    lines: dict[str, Any] = {str(line.get_label()): line for line in axes.lines}
    both = np.mean([r.validation_loss[:10] for r in records], axis=0)
    np.testing.assert_allclose(lines["Validation"].get_ydata(), both)
    np.testing.assert_allclose(lines["Training, mean of 10 steps"].get_ydata()[-1], records[1].loss_mean[-1])
    assert list(lines["Early stopping (1 of 2 seeds)"].get_xdata()) == [100, 100]
    assert axes.get_xlim() == (0, 150)
    assert axes.get_ylim()[1] > max(r.validation_loss[r.step >= 50].max() for r in records)


def test_the_accuracy_figure_shows_percent() -> None:
    (axes,) = figures.accuracy_figure([record()]).axes
    lines: dict[str, Any] = {str(line.get_label()): line for line in axes.lines}
    np.testing.assert_allclose(lines["Training"].get_ydata(), 100 * record().training_accuracy)
    np.testing.assert_allclose(lines["Validation"].get_ydata(), 100 * record().validation_accuracy)


def test_curves_of_a_comparison_can_be_told_apart() -> None:
    names = list(EXPERIMENTS)[:9]
    (axes,) = figures.comparison_figure({name: [record(name)] for name in names}, "validation_loss").axes
    assert len({line.get_color() for line in axes.lines}) == 9


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_curves_and_text_stand_out_from_the_page(theme: str) -> None:
    """By the ratios of the Web Content Accessibility Guidelines: 3 for graphics, 4.5 for text."""
    style = (Path(embedding.__file__).parent / "style.css").read_text(encoding="utf-8")
    block = style.split(":root {")[1 if theme == "light" else 2].split("}")[0]
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    page = luminance(colours["page"])
    for name in embedding.VARIABLES.values():
        darker, lighter = sorted((page, luminance(colours[name.removeprefix("--")])))
        if name not in ("--page", "--grid"):
            assert (lighter + 0.05) / (darker + 0.05) >= (4.5 if name in ("--ink", "--muted") else 3), name
    if theme == "light":  # the page has its own ink and grey, but the colours of the files
        for colour in figures.COLOURS[1:-1]:
            assert colours[embedding.VARIABLES[colour].removeprefix("--")] == colour


def test_an_experiment_has_the_same_colour_in_all_comparisons(made: Made) -> None:
    colours: dict[str, set[str]] = {}
    for group in ("task3", "task4", "chain"):
        drawing = made.findings.drawings[f"{group}-validation-loss"]
        legend = re.findall(
            r"stroke: (#[0-9a-f]{6})[^>]*/>\s*</g>\s*<g[^>]*>\s*<text[^>]*>([a-z0-9-]+)</text>", drawing
        )
        for colour, name in legend:
            colours.setdefault(name, set()).add(colour)
        assert len({colour for colour, _ in legend}) == len(legend)
    assert colours.keys() == EXPERIMENTS.keys()
    assert {name for name, some in colours.items() if len(some) > 1} == set()


def test_a_comparison_is_fainter_where_seeds_have_stopped() -> None:
    records = [record(seed=0, epochs=2, status="stopped early"), record(seed=1, epochs=3)]
    (axes,) = figures.comparison_figure({"default": records}, "validation_loss").axes
    whole, rest = axes.lines
    assert (whole.get_xdata()[-1], rest.get_xdata()[0], rest.get_xdata()[-1]) == (100, 100, 150)
    assert rest.get_alpha() < 1 and whole.get_label() == "default"


@pytest.mark.parametrize(
    ("path", "compact"),
    [
        ("M 10.123 20.5\nL 11.2 19.4\nL 11.21 19.41\nL 12 21\nz\n", "M10.1 20.5l1.1-1.1 0.8 1.6z"),
        ("M 0 0\nL 0 3.5\nM 5 5\nL 6 6", "M0 0l0 3.5M5 5l1 1"),
        ("M 1 1\nQ 2 2 3 3", "M 1 1\nQ 2 2 3 3"),
        ("", ""),
    ],
)
def test_paths_are_written_in_few_characters(path: str, compact: str) -> None:
    assert embedding.compact_path(path) == compact


def test_rounding_of_paths_does_not_add_up() -> None:
    points = np.cumsum(np.random.default_rng(0).random((500, 2)), axis=0)
    path = "M " + "\nL ".join(f"{x:.6f} {y:.6f}" for x, y in points)
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", embedding.compact_path(path))]
    end = np.array(numbers).reshape(-1, 2).sum(axis=0)
    np.testing.assert_allclose(end, points[-1], atol=0.051)


def test_weights_become_tiles_of_colour() -> None:
    weights = np.zeros((6, 3))
    weights[0, 0], weights[5, 2] = 1.0, -1.0
    mosaic = weight_mosaic(weights, (2, 3))
    assert mosaic.shape == (2, 3 * 4 - 1, 3)
    assert mosaic[0, 0].tolist() == [213, 94, 0]
    assert mosaic[1, 10].tolist() == [0, 114, 178]
    assert mosaic[0, 1].tolist() == [255, 255, 255]
    assert mosaic[0, 3].tolist() == [128, 128, 128]
    assert weight_mosaic(np.zeros((4, 200)), (2, 2)).shape == (8 * 3 - 1, 8 * 3 - 1, 3)


def test_mistakes_are_the_most_confident_ones(made: Made) -> None:
    network = made.findings.networks["default"]
    mistakes = confident_mistakes(network, made.dataset)
    probabilities = network.predict_proba(made.dataset.X_test)
    wrong = probabilities.argmax(axis=1) != made.dataset.y_test
    assert mistakes[0].confidence == probabilities[wrong].max()
    assert [m.confidence for m in mistakes] == sorted((m.confidence for m in mistakes), reverse=True)
    for mistake in mistakes:
        assert mistake.label == made.dataset.y_test[mistake.row] != mistake.predicted
        np.testing.assert_array_equal(mistake.pixels.reshape(-1), made.dataset.X_test[mistake.row])


# Formulas


@pytest.mark.parametrize(
    ("notation", "expected"),
    [
        ("a_j", "<msub><mi>a</mi><mi>j</mi></msub>"),
        ("X^T", '<msup><mi>X</mi><mi mathvariant="normal">T</mi></msup>'),
        ("w_{j i}", "<msub><mi>w</mi><mrow><mi>j</mi><mi>i</mi></mrow></msub>"),
        ("W_a^T", '<msubsup><mi>W</mi><mi>a</mi><mi mathvariant="normal">T</mi></msubsup>'),
        ("sum_k", "<munder><mo>∑</mo><mi>k</mi></munder>"),
        ("frac{1}{2 B}", "<mfrac><mn>1</mn><mrow><mn>2</mn><mi>B</mi></mrow></mfrac>"),
        ("1.7159 <- <", "<mn>1.7159</mn><mo>←</mo><mo>&lt;</mo>"),
        ("( z )", '<mo stretchy="false">(</mo><mi>z</mi><mo stretchy="false">)</mo>'),
    ],
)
def test_formulas(notation: str, expected: str) -> None:
    assert formula(notation) == f'<math display="block"><mrow>{expected}</mrow></math>'


@pytest.mark.parametrize("notation", ["a_{b", "a }", "a_", "frac{a}", "{"])
def test_formulas_that_are_none(notation: str) -> None:
    with pytest.raises(ValueError, match=r"brace|missing"):
        formula(notation)
