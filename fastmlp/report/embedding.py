"""Figures as files, and as parts of the page: small, without names that clash, in the colours of the page."""

from __future__ import annotations

import base64
import html
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fastmlp.plots import save_figure
from fastmlp.report.markup import Markup, tag
from fastmlp.runs import replacing

if TYPE_CHECKING:
    import PIL.Image
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_DPI = 140
_PALETTE = 40  # colours of a PNG: lines and their soft edges need no more

_MOSAIC_PALETTE = 64

_NAMED_COLOUR = re.compile(r"#[0-9a-f]{6}")

# What the style sheet calls the colours of the figures, so that it can change them; white is the page.
VARIABLES = {
    "#ffffff": "--page",
    "#333333": "--ink",
    "#000000": "--ink",
    "#767676": "--muted",
    "#e3e3e3": "--grid",
    "#0072b2": "--blue",
    "#d55e00": "--vermilion",
    "#009e73": "--green",
    "#cc79a7": "--pink",
    "#3498d6": "--sky",
    "#bf8400": "--orange",
    "#882255": "--wine",
}


def write_figure(figure: Figure, folder: Path, name: str) -> str:
    """Write a figure as PNG and SVG, each complete or not at all; returns the text of the SVG.

    Raises
    ------
    FastmlpError
        If a file cannot be written.
    """
    text = svg_text(figure)
    with replacing(folder / f"{name}.svg") as temporary:
        temporary.write_text(text, encoding="utf-8")
    with replacing(folder / f"{name}.png") as temporary:
        temporary.write_bytes(_png(figure))
    return text


def svg_text(figure: Figure) -> str:
    """An SVG file with text as text, and no more digits than can be seen."""
    buffer = io.BytesIO()
    # lines of thousands of points lose those that are less than a third of a pixel away from the others
    settings: Any = {"svg.fonttype": "none", "path.simplify_threshold": 0.34, "font.sans-serif": ["DejaVu Sans"]}
    with rc_context(settings):
        save_figure(figure, _as_path(buffer), file_format="svg")
    text = buffer.getvalue().decode("utf-8")
    text = re.sub(r' transform="rotate\(-0 [^"]*"', "", text)
    text = re.sub(r' ([xy])="(-?[\d.]+)"', lambda match: f' {match[1]}="{float(match[2]):.1f}"', text)
    text = re.sub(r' d="([^"]*)"', lambda match: f' d="{compact_path(match[1])}"', text)
    return re.sub(r"\n\s*", "\n", text)


def inline_svg(text: str, name: str, description: str) -> Markup:
    """The SVG of a file as part of a page.

    Parameters
    ----------
    text : str
        From `svg_text`.
    name : str
        Unique on the page; becomes part of every name within.
    description : str
        For those who cannot see it.
    """
    body = text[text.index("<svg") :]
    opening_end = body.index(">") + 1
    view = re.search(r'viewBox="([^"]*)"', body[:opening_end])
    assert view is not None
    inner = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body[opening_end:], flags=re.DOTALL)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", inner))
    inner = re.sub(r' id="([^"]*)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", inner)
    inner = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{name}-", inner)
    inner = _NAMED_COLOUR.sub(_as_variable, inner)
    inner = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", inner)
    inner = re.sub(r"<g>\s*</g>|\n(?=\n)", "", inner)
    opening = f'<svg viewBox="{view[1]}" role="img" aria-label="{html.escape(description)}">'
    return Markup(opening + inner.strip())


def write_picture(pixels: NDArray[Any], folder: Path, name: str, scale: int = 3) -> None:
    """Write an array of colours ``(height, width, 3)`` as PNG and SVG, each pixel as a square.

    Raises
    ------
    FastmlpError
        If a file cannot be written.
    """
    import PIL.Image

    height, width = pixels.shape[:2]
    image = PIL.Image.fromarray(pixels).quantize(_MOSAIC_PALETTE)
    data = base64.b64encode(png_bytes(image)).decode("ascii")
    size = f'width="{width * scale}" height="{height * scale}"'
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} {height}">\n'
        f'<image width="{width}" height="{height}" style="image-rendering: pixelated" '
        f'href="data:image/png;base64,{data}"/>\n</svg>\n'
    )
    with replacing(folder / f"{name}.svg") as temporary:
        temporary.write_text(text, encoding="utf-8")
    with replacing(folder / f"{name}.png") as temporary:
        large = image.resize((width * scale, height * scale), PIL.Image.Resampling.NEAREST)
        temporary.write_bytes(png_bytes(large))


def picture(pixels: NDArray[Any], description: str, scale: int = 1, **attributes: str) -> Markup:
    """An array of bytes, grey ``(height, width)`` or coloured ``(height, width, 3)``, as a picture of the page."""
    import PIL.Image

    image = PIL.Image.fromarray(pixels)
    if pixels.ndim == 3:  # few colours in fact
        image = image.quantize(_MOSAIC_PALETTE)
    height, width = pixels.shape[:2]
    data = base64.b64encode(png_bytes(image)).decode("ascii")
    return tag(
        "img",
        src=f"data:image/png;base64,{data}",
        alt=description,
        width=width * scale,
        height=height * scale,
        **attributes,
    )


def _png(figure: Figure) -> bytes:
    import PIL.Image

    canvas: Any = FigureCanvasAgg(figure)
    figure.set_dpi(_DPI)
    canvas.draw()
    image = PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    return png_bytes(image.quantize(_PALETTE, PIL.Image.Quantize.FASTOCTREE, dither=PIL.Image.Dither.NONE))


def png_bytes(image: PIL.Image.Image) -> bytes:
    """Write a picture as a small PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _as_path(buffer: io.BytesIO) -> Any:
    """Matplotlib writes to an open file as well as to a path; `save_figure` is declared for paths."""
    return buffer


def compact_path(path: str) -> str:
    """Write a path of straight lines in tenths of a point, each corner relative to the one before.

    Paths with curves, which are those of round markers only, stay as they are.
    """
    parts: list[str] = []
    x = y = 0
    for command, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        if command == "z":
            parts.append("z")
            continue
        if command not in "ML":
            return path
        new_x, new_y = (round(10 * float(number)) for number in numbers.split())
        if command == "M":
            parts.append(f"M{new_x / 10:g} {new_y / 10:g}l")
        elif (new_x, new_y) != (x, y):
            parts.append(f"{(new_x - x) / 10:g} {(new_y - y) / 10:g} ")
        x, y = new_x, new_y
    return re.sub(r" (?=[-zM]|$)|l(?=M|z|$)", "", "".join(parts))


def _as_variable(match: re.Match[str]) -> str:
    variable = VARIABLES.get(match[0])
    return f"var({variable})" if variable else match[0]
