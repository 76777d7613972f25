"""Exit codes, and what an error says: one line with what is wrong and what is expected."""

from __future__ import annotations

import click

from fastmlp.cli.types import did_you_mean
from fastmlp.errors import CheckpointError, DataFormatError, FastmlpError, ModelFormatError

FAILED = 1
USAGE = 2  # Click's own
BAR_MISSED = 3
BAD_DATA = 4
BAD_MODEL = 5
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
CLOSED_PIPE = 141  # 128 + SIGPIPE


def describe_error(error: Exception) -> tuple[str, int]:
    """Return one line about an exception, and the exit code."""
    if isinstance(error, click.ClickException):
        return _describe_usage(error), error.exit_code
    if isinstance(error, (ModelFormatError, CheckpointError)):
        return _one_line(error), BAD_MODEL
    if isinstance(error, DataFormatError):
        return _one_line(error), BAD_DATA
    if isinstance(error, (FastmlpError, ValueError)):
        return _one_line(error), FAILED
    if isinstance(error, MemoryError):
        return f"out of memory{': ' + _one_line(error) if str(error) else ''}", FAILED
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror.lower()}", FAILED
    kind = type(error).__name__
    return f"unexpected {kind}: {_one_line(error)}. This is a bug in fastmlp; --debug shows where", FAILED


def _one_line(error: Exception) -> str:
    """Return an exception's text without line breaks."""
    return " ".join(str(error).split())


def _describe_usage(error: click.ClickException) -> str:
    """Return one line about a mistake on the command line: the option, what is wrong, what is expected."""
    context = getattr(error, "ctx", None)
    see = f" (see '{context.command_path} --help')" if context is not None else ""
    if isinstance(error, click.NoSuchOption):
        known = [name for parameter in context.command.params for name in parameter.opts] if context else []
        return f"no such option {error.option_name}{did_you_mean(error.option_name, known)}{see}"
    if isinstance(error, click.MissingParameter):
        name = error.param.human_readable_name if error.param is not None else "parameter"
        return f"missing {name}{see}"
    message = " ".join(error.message.split())
    if isinstance(error, click.BadParameter):
        return f"{_parameter_name(error)}{message}"
    return message[:1].lower() + message[1:].rstrip(".") + see


def _parameter_name(error: click.BadParameter) -> str:
    """Return "--epochs: ", naming the environment variable if the value came from there."""
    parameter, context = error.param, error.ctx
    if parameter is None:
        return f"{error.param_hint}: " if error.param_hint else ""
    long_names = [name for name in parameter.opts if name.startswith("--")]
    name = long_names[0] if long_names else parameter.human_readable_name
    if context is not None and parameter.name is not None:
        source = context.get_parameter_source(parameter.name)
        if source is click.core.ParameterSource.ENVIRONMENT:
            return f"{context.auto_envvar_prefix}_{parameter.name.upper()} (for {name}): "
    return f"{name}: "
