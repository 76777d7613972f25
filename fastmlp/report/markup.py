"""HTML from Python: everything is escaped unless it was made here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TypeAlias

_VOID = ("br", "col", "img", "meta")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content: TypeAlias = "str | int | Sequence[Content] | None"


def tag(name: str, *children: Content, **attributes: str | int | None) -> Markup:
    """Make an element.

    Parameters
    ----------
    name : str
        Of the element.
    *children : str, int, Markup, None, or sequences of these
        What is in it: plain text is escaped, None is left out.
    **attributes : str or int or None
        A trailing underscore is dropped (``class_``), others become hyphens; None is left out.
    """
    pairs = [
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    opening = f"<{name}{''.join(pairs)}>"
    return Markup(opening if name in _VOID else f"{opening}{join(children)}</{name}>")


def join(children: Iterable[Content], separator: str = "") -> Markup:
    """Put pieces one behind the other, escaping what is plain text."""
    return Markup(html.escape(separator).join(_rendered(child) for child in children if child is not None))


def _rendered(child: Content) -> str:
    if isinstance(child, Markup):
        return child
    if isinstance(child, (str, int)):
        return html.escape(str(child))
    return "" if child is None else join(child)


def paragraph(*children: Content, class_: str | None = None) -> Markup:
    """Make a paragraph."""
    return tag("p", *children, class_=class_)


def code(text: str) -> Markup:
    """Set a word as code; a line may break after a dot or an underscore."""
    broken = html.escape(text).replace(".", ".<wbr>").replace("_", "_<wbr>")
    return Markup(f"<code>{broken}</code>")


def listing(text: str) -> Markup:
    """Set lines as code."""
    return tag("pre", tag("code", text))


def section(identifier: str, title: str, *children: Content) -> Markup:
    """Make a section with a headline that can be linked to."""
    return tag("section", tag("h2", title), *children, id=identifier)


def table(
    header: Sequence[Content], rows: Iterable[Sequence[Content]], class_: str = "", label: str = "table"
) -> Markup:
    """Make a table whose first column names the row; it scrolls by itself where it is wider than the page.

    Without a header there is no row for it. The label is for those who cannot see it.
    """
    head = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in header))) if header else None
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows]
    whole = tag("table", head, tag("tbody", *body))
    return tag("div", whole, class_=f"wide {class_}".strip(), tabindex=0, role="region", aria_label=label)
