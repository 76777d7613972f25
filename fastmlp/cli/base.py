"""What all commands share: lazy loading, help with examples, errors in one line, exit codes, colour."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from fastmlp.cli.mistakes import CLOSED_PIPE, INTERRUPTED, describe_error
from fastmlp.cli.output import printable, silence, tell
from fastmlp.cli.types import OneOf, did_you_mean


@dataclass
class Preferences:
    """What the user wants of every command; travels as ``ctx.obj``."""

    debug: bool = False
    color: str = "auto"

    def color_flag(self) -> bool | None:
        """Return True or False if the user decided about colour, None if it depends on the stream."""
        if self.color != "auto":
            return self.color == "always"
        if os.environ.get("NO_COLOR"):
            return False
        if os.environ.get("FORCE_COLOR"):
            return True
        return False if os.environ.get("TERM") == "dumb" else None


def _remember(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    """Store one of the options every command has."""
    preferences = ctx.ensure_object(Preferences)
    if value is not None and ctx.get_parameter_source(str(parameter.name)) is not click.core.ParameterSource.DEFAULT:
        setattr(preferences, str(parameter.name), value)
    ctx.color = preferences.color_flag()


def _common_options() -> list[click.Parameter]:
    """Return fresh copies of the options every command has."""
    return [
        click.Option(
            ["--color"],
            type=OneOf(["auto", "always", "never"]),
            default="auto",
            expose_value=False,
            is_eager=True,
            callback=_remember,
            help="Colour; auto: on a terminal, heeding NO_COLOR and FORCE_COLOR.",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_remember,
            help="Show the Python traceback of an error.",
        ),
    ]


class SectionOption(click.Option):
    """An option that appears under a heading of its own in the help."""

    def __init__(self, *args: Any, section: str = "Options", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.section = section


class _HelpMixin(click.Command):
    """Help in the order in which people read: what it does, examples, details, options by subject."""

    examples: Sequence[tuple[str, str]] = ()

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as Click calls it
        """Write the first paragraph, then the examples, then the other paragraphs."""
        first, _, rest = inspect.cleandoc(self.help or "").partition("\n\n")
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(first)
        if self.examples:
            with formatter.section("Examples"):
                # write_text would wrap a command line; an example must stay as it can be pasted
                width = max(len(command) for command, _ in self.examples)
                for command, comment in self.examples:
                    tail = f"  # {comment}" if comment else ""
                    formatter.write(f"{'':>{formatter.current_indent}}{command:<{width}}{tail}".rstrip() + "\n")
        if rest:
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(rest)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, grouped by their section, in the order of first appearance."""
        sections: dict[str, list[tuple[str, str]]] = {}
        last: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            # what the arguments are the help's text tells
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is None:
                continue
            if isinstance(parameter, SectionOption):
                sections.setdefault(parameter.section, []).append(record)
            else:
                last.append(record)
        if last:
            sections.setdefault("General", []).extend(last)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records, col_max=32)


class Command(_HelpMixin):
    """A command with examples in its help and the options that every command has.

    Parameters
    ----------
    examples : sequence of (str, str)
        Command lines, each with a comment.
    """

    def __init__(self, *args: Any, examples: Sequence[tuple[str, str]] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.examples = examples
        self.params += _common_options()


@click.pass_context
def _help_if_alone(ctx: click.Context) -> None:
    """Show a group's help if no command is given."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


class LazyGroup(_HelpMixin, click.Group):
    """A group that imports a command's module when the command is used, and knows the short helps without it.

    Parameters
    ----------
    table : mapping of str to (str, str)
        Command name -> ("module:attribute", short help).
    examples : sequence of (str, str)
        Command lines, each with a comment.
    """

    def __init__(
        self,
        *args: Any,
        table: Mapping[str, tuple[str, str]],
        examples: Sequence[tuple[str, str]] = (),
        **settings: Any,
    ) -> None:
        settings |= {"invoke_without_command": True, "subcommand_metavar": "COMMAND [ARGS]..."}
        super().__init__(*args, callback=_help_if_alone, **settings)
        self.table = table
        self.examples = examples
        self.params += _common_options()

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as Click calls it
        """Return the names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as Click calls it
        """Import a command."""
        if cmd_name not in self.table:
            return None
        module, attribute = self.table[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments begin with, or say which one may have been meant."""
        name = args[0]
        if name not in self.table and not name.startswith("-") and not ctx.resilient_parsing:
            hint = did_you_mean(name, self.table) or f"; commands are {', '.join(self.table)}"
            raise click.UsageError(f"no such command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as Click calls it
        """Write the commands from the table, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, short_help) for name, (_, short_help) in self.table.items()])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, then the options."""
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)


class Program(LazyGroup):
    """The outermost group: turns exceptions into one line on stderr and an exit code."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command line and end the process; see `click.Command.main`."""
        if not extra.pop("standalone_mode", True):
            return super().main(*args, **extra | {"standalone_mode": False})
        preferences = Preferences()
        extra |= {"prog_name": "fastmlp", "obj": preferences, "color": preferences.color_flag()}
        try:
            code = super().main(*args, **extra | {"standalone_mode": False})
            sys.exit(code if isinstance(code, int) else 0)
        except Exception as error:  # the last line of defence is here, and only here
            self._report(error, preferences)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader that has seen enough (``| head``) is no error."""
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
            return result
        except BrokenPipeError:
            for stream in (sys.stdout, sys.stderr):
                silence(stream)
            raise click.exceptions.Exit(CLOSED_PIPE) from None

    def _report(self, error: Exception, preferences: Preferences) -> NoReturn:
        """Print what went wrong and leave with the exit code that says which kind it was."""
        if isinstance(error, click.Abort):
            tell("interrupted")
            sys.exit(INTERRUPTED)
        if preferences.debug:
            tell("".join(traceback.format_exception(error)).rstrip())
        message, code = describe_error(error)
        color = preferences.color_flag()
        tell(click.style("Error: ", fg="red", bold=True) + printable(message), color=color)
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError:  # a full disk behind stdout: say so once, not again at exit
            silence(sys.stdout)
        sys.exit(code)


def show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Show a warning as one line, not as a piece of Python."""
    tell(f"Warning: {printable(' '.join(str(message).split()))}")
