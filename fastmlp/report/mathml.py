"""Formulas in MathML, from a notation that can be read.

``formula("delta_j = f ' ( z_j ) sum_k w_{k j} delta_k")``: words are separated by spaces; ``_`` and ``^`` put the next
word or ``{group}`` below and above; Greek letters and a few signs have names.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from fastmlp.report.markup import Markup

_NAMES = {
    "alpha": "α",
    "beta": "β",
    "delta": "δ",
    "Delta": "Δ",
    "mu": "μ",
    "epsilon": "ε",
    "approx": "≈",
    "d": "∂",
    "sum": "∑",
    "<-": "←",
    "-": "−",
    "*": "⋅",
    "'": "′",
    "odot": "⊙",
    "...": "…",
}
_UPRIGHT = {"T", "softmax", "max"}
_SPACED = {"log", "tanh", "if", "else"}  # words that stand apart from what follows
_WORD = re.compile(r"[{}_^]|[^\s{}_^]+")


def formula(notation: str, *, block: bool = True) -> Markup:
    """Make a formula.

    Parameters
    ----------
    notation : str
        See the top of this file; ``frac{above}{below}`` is a fraction.
    block : bool, default True
        On a line of its own instead of within the text.

    Raises
    ------
    ValueError
        If braces do not match.
    """
    content = "".join(_group(iter(_WORD.findall(notation)), closing=None))
    display = "block" if block else "inline"
    return Markup(f'<math display="{display}"><mrow>{content}</mrow></math>')


def _group(words: Iterator[str], closing: str | None) -> list[str]:
    """Read up to the closing brace; returns elements."""
    elements: list[str] = []
    for word in words:
        if word == "}":
            if closing is None:
                raise ValueError("unmatched closing brace")
            return elements
        if word in "_^":
            elements.append(_script(word, elements.pop(), _one(words)))
        elif word == "frac":
            elements.append(f"<mfrac>{_one(words)}{_one(words)}</mfrac>")
        elif word == "{":
            elements.append(_row(_group(words, "}")))
        else:
            elements.append(_atom(word))
    if closing is not None:
        raise ValueError("unmatched opening brace")
    return elements


def _one(words: Iterator[str]) -> str:
    """Read one word or group."""
    word = next(words, "}")
    if word == "}":
        raise ValueError("something is missing")
    return _row(_group(words, "}")) if word == "{" else _atom(word)


def _row(elements: list[str]) -> str:
    return elements[0] if len(elements) == 1 else f"<mrow>{''.join(elements)}</mrow>"


def _script(kind: str, base: str, script: str) -> str:
    """Put something below or above; a second script joins the first."""
    for other, joined in (("msub", "msubsup"), ("munder", "munderover")):
        if kind == "^" and base.startswith(f"<{other}>"):
            return f"<{joined}>{base[len(other) + 2 : -len(other) - 3]}{script}</{joined}>"
    kinds = ("munder", "mover") if base == _atom("sum") else ("msub", "msup")
    name = kinds[kind == "^"]
    return f"<{name}>{base}{script}</{name}>"


def _atom(word: str) -> str:
    text = html.escape(_NAMES.get(word, word))
    if word in _SPACED:
        return f'<mrow><mspace width="0.2em"/><mi mathvariant="normal">{text}</mi><mspace width="0.2em"/></mrow>'
    if word in _UPRIGHT or (len(word) > 1 and word.isupper()):
        return f'<mi mathvariant="normal">{text}</mi>'
    if re.fullmatch(r"[0-9.,]*[0-9]", word):
        return f"<mn>{text}</mn>"
    if word in ("(", ")"):  # without a font for mathematics browsers stretch brackets far beyond what they enclose
        return f'<mo stretchy="false">{text}</mo>'
    return f"<mi>{text}</mi>" if text.isalpha() and word != "sum" else f"<mo>{text}</mo>"
