"""The report in a real browser: everything shows, nothing sticks out, nothing complains."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastmlp.report.build import build_report
from fastmlp.report.experiments import Experiment
from fastmlp.report.speed import SpeedUp
from tests.report_data import made_up_report, small_mnist

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
PHONE, DESKTOP = 390, 1280

pytestmark = pytest.mark.skipif(
    BROWSER is None,
    reason="no Chromium here (Debian: apt-get install chromium): the report was not opened in a browser",
)

# A page that may run scripts, unlike the report, looks at the report in a frame of the width of a device.
PROBE = """<!DOCTYPE html><meta charset="utf-8"><body style="margin: 0">
<iframe src="%(page)s" style="width: %(width)dpx; height: 900px; border: 0"></iframe><pre></pre><script>
document.querySelector("iframe").onload = (event) => {
  const page = event.target.contentDocument, root = page.documentElement;
  const all = (selector) => [...page.querySelectorAll(selector)];
  const size = (element) => element.getBoundingClientRect();
  const scrolls = (element) => element.closest(".wide, .formula, pre") !== null;
  document.querySelector("pre").textContent = JSON.stringify({
    title: page.title,
    width: root.clientWidth,
    needed: root.scrollWidth,
    outside: all("body *").filter((e) => !scrolls(e) && !e.closest("svg") && size(e).right > root.clientWidth + 1)
      .map((e) => e.tagName),
    images: all("img").map((e) => e.naturalWidth > 0 && size(e).width > 0),
    drawings: all("figure > svg").map((e) => size(e).width),
    formulas: all("math").map((e) => size(e).width > 20 && size(e).height > 10),
    fractions: all("mfrac").map((e) => size(e).height > size(e.firstElementChild).height * 1.5),
    text: parseFloat(getComputedStyle(page.body).fontSize),
    small: all("svg text").map((e) => size(e).height),
    sections: all("section > h2").length,
    requests: event.target.contentWindow.performance.getEntriesByType("resource").map((entry) => entry.name),
  });
};
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete report."""
    folder = tmp_path_factory.mktemp("browser") / "report"
    dataset = small_mnist()
    plan, results = made_up_report(folder, dataset, mine=Experiment("mine", (5,) * 40, title="<b>wide</b> " * 16))
    build_report(plan, dataset, results, SpeedUp(1_000_000, 0.5, 4.0, 0.93, 0.93, 1.2e-6, 2))
    return folder / "index.html"


def browse(tmp_path: Path, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page in a browser that has never seen anything before."""
    assert BROWSER is not None
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
        f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", *options, url,
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result


def complaints(result: subprocess.CompletedProcess[str]) -> list[str]:
    """What the browser wrote to its console."""
    return [line for line in result.stderr.splitlines() if "CONSOLE" in line]


def look(tmp_path: Path, page: Path, width: int) -> tuple[dict[str, Any], list[str]]:
    """Measure the report in a window as wide as a device."""
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE % {"page": page.as_uri(), "width": width}, encoding="utf-8")
    result = browse(
        tmp_path, probe.as_uri(), "--allow-file-access-from-files", "--virtual-time-budget=20000", "--dump-dom"
    )
    found = re.search(r"<pre>(\{.*?\})</pre>", result.stdout, re.DOTALL)
    assert found is not None, result.stdout[-500:]
    return json.loads(html.unescape(found[1])), complaints(result)


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_everything_shows_and_fits(tmp_path: Path, page: Path, width: int) -> None:
    seen, said = look(tmp_path, page, width)
    assert said == []
    assert seen["requests"] == [], "the page must need nothing but itself"
    assert seen["title"] == "Back-propagation on MNIST, measured"
    assert seen["width"] == width
    assert seen["needed"] <= width, "the page can be scrolled sideways"
    assert seen["outside"] == []
    assert seen["sections"] == 10
    assert len(seen["images"]) == 28
    assert all(seen["images"])
    assert len(seen["drawings"]) == 2 * 15 + 6 + 9
    assert min(seen["drawings"]) > 300
    assert len(seen["formulas"]) > 15
    assert all(seen["formulas"])
    assert all(seen["fractions"]), "formulas are not set as formulas"
    assert seen["text"] >= 16
    assert min(seen["small"]) >= 9, "text in figures is too small to read"


def test_the_probe_sees_what_it_looks_for(tmp_path: Path) -> None:
    """A page that is wrong in every way is found to be."""
    wrong = tmp_path / "wrong.html"
    wrong.write_text(
        "<!DOCTYPE html><title>x</title><p style='width: 2000px'>wide</p><img src='data:image/png;base64,AAAA'>"
        "<img src='http://127.0.0.1:9/far.png'><script>console.error('no')</script>"
    )
    seen, said = look(tmp_path, wrong, PHONE)
    assert any('"no"' in line for line in said), said
    assert seen["needed"] >= 2000
    assert "P" in seen["outside"]
    assert seen["images"] == [False, False]
    assert seen["requests"] == ["http://127.0.0.1:9/far.png"]


def test_the_page_alone_says_nothing_on_the_console(tmp_path: Path, page: Path) -> None:
    result = browse(tmp_path, page.as_uri(), "--dump-dom")
    assert complaints(result) == []
    assert "The nine claims" in result.stdout


def screenshot(tmp_path: Path, page: Path, *options: str) -> Image.Image:
    picture = tmp_path / "page.png"
    browse(tmp_path, page.as_uri(), f"--window-size={DESKTOP},1000", f"--screenshot={picture}", *options)
    with Image.open(picture) as image:
        return image.convert("L")


def test_light_and_dark(tmp_path: Path, page: Path) -> None:
    light = screenshot(tmp_path, page)
    assert np.asarray(light)[5, 5] == 255
    dark = screenshot(tmp_path, page, "--force-dark-mode", "--disable-features=WebContentsForceDark")
    assert np.asarray(dark)[5, 5] < 50, "the page must be dark"
    assert np.asarray(dark).max() > 200, "text must be light then"


def test_it_can_be_printed(tmp_path: Path, page: Path) -> None:
    document = tmp_path / "page.pdf"
    browse(tmp_path, page.as_uri(), f"--print-to-pdf={document}")
    content = document.read_bytes()
    assert content.startswith(b"%PDF")
    pages = len(re.findall(rb"/Type\s*/Page\b", content))
    assert 8 <= pages <= 40
