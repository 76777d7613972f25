"""The page: all sections in one HTML file that needs no other."""

from __future__ import annotations

from importlib import resources
from typing import Any

from fastmlp.report.findings import Findings
from fastmlp.report.markup import Markup, paragraph, tag
from fastmlp.report.sections import basic, insight, machine, mathematics, overview, tasks, verdicts

TITLE = "Back-propagation on MNIST, measured"

# Nothing is loaded from anywhere and nothing runs: even a browser that were tricked would refuse.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


_TASKS = {
    "task2": ("task-2", "Task 2: basic network", basic.task_2),
    "task3": ("task-3", "Task 3: tricks", tasks.task_3),
    "task4": ("task-4", "Task 4: topology", tasks.task_4),
    "own": ("own", "Further experiments", tasks.own),
}


def render(findings: Findings, background: dict[str, Any]) -> str:
    """Write the whole page.

    Parameters
    ----------
    findings : Findings
        What it is about; the drawings are there.
    background : dict
        Machine, versions and data, see `fastmlp.report.build`.
    """
    sections: list[tuple[str, str, Markup | None]] = [
        ("summary", "Summary", overview.summary(findings)),
        ("protocol", "Protocol", overview.protocol(findings)),
        ("task-1", "Task 1: mathematics", mathematics.task_1()),
        *((name, title, write(findings)) for name, title, write in (_TASKS[task] for task in findings.sections)),
    ]
    sections += [
        ("claims", "The nine claims", verdicts.verdicts(findings)),
        ("insight", "Weights and mistakes", insight.insight(findings)),
        ("machine", "Speed and machine", machine.speed_and_machine(findings, background)),
    ]
    shown = [(identifier, name, content) for identifier, name, content in sections if content is not None]
    links = [tag("li", tag("a", name, href=f"#{identifier}")) for identifier, name, _ in shown]
    body = tag(
        "body",
        tag("header", tag("h1", TITLE), paragraph(_subtitle(background), class_="note")),
        tag("nav", tag("ul", *links), aria_label="Contents"),
        tag("main", *(content for _, _, content in shown)),
        tag("footer", paragraph(f"Made by fastmlp {background['versions']['fastmlp']}.", class_="note")),
    )
    return f'<!DOCTYPE html>\n<html lang="en">{_head()}{body}</html>\n'


def _head() -> Markup:
    style = resources.files("fastmlp.report").joinpath("style.css").read_text(encoding="utf-8")
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("title", TITLE),
        tag("style", Markup(style)),
    )


def _subtitle(background: dict[str, Any]) -> str:
    return (
        f"{background['finished'][:10]}, fastmlp {background['versions']['fastmlp']} on {background['machine']['cpu']}"
    )
