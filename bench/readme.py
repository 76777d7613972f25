"""Numbers in the README come from results files: they are written between markers, and checked.

A marked place is `<!-- bench:NAME -->` ... `<!-- /bench:NAME -->`, on lines of their own for tables or
inside a sentence for single numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_PLACE = re.compile(r"(<!-- bench:(?P<name>[\w.-]+) -->)(?P<text>.*?)(<!-- /bench:(?P=name) -->)", re.DOTALL)
_ANY_MARKER = re.compile(r"<!-- /?bench:[\w.-]+ -->")


def fill(text: str, contents: Mapping[str, str]) -> str:
    """Return a text with every marked place filled that there is a result for.

    Raises
    ------
    ValueError
        If a marker has no partner.
    """
    if len(_ANY_MARKER.findall(text)) != 2 * len(_PLACE.findall(text)):
        raise ValueError("a bench marker in the README has no partner")

    def filled(place: re.Match[str]) -> str:
        name = place["name"]
        if name not in contents:
            return place[0]
        inline = "\n" not in place["text"] and "\n" not in contents[name]
        text = contents[name] if inline else f"\n{contents[name]}\n"
        return f"{place[1]}{text}{place[4]}"

    return _PLACE.sub(filled, text)


def names(text: str) -> list[str]:
    """Return the names of all marked places."""
    return [place["name"] for place in _PLACE.finditer(text)]


def drifted(text: str, contents: Mapping[str, str]) -> list[str]:
    """Return the names of the places whose text is not what the results say, or that no result belongs to."""
    now = {place["name"]: place["text"] for place in _PLACE.finditer(text)}
    then = {place["name"]: place["text"] for place in _PLACE.finditer(fill(text, contents))}
    return [name for name in now if name not in contents or now[name] != then[name]]
