"""The ``fastmlp`` command. A new command is one line in the table below, imported when it runs."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings

import click

from fastmlp import __version__
from fastmlp.cli.base import Program, show_warning
from fastmlp.cli.mistakes import INTERRUPTED

COMMANDS = {
    "train": ("fastmlp.cli.train:train", "Train a network and keep it in a run folder."),
    "evaluate": ("fastmlp.cli.evaluate:evaluate", "Measure a trained network, class by class."),
    "predict": ("fastmlp.cli.predict:predict", "Classify images or rows of numbers."),
    "inspect": ("fastmlp.cli.inspect:inspect", "Show what is inside a model file."),
    "gradcheck": (
        "fastmlp.cli.gradcheck:gradcheck",
        "Check the compiled gradients against finite differences.",
    ),
    "profile": (
        "fastmlp.cli.profile:profile",
        "Measure the speed of networks of several widths on this machine.",
    ),
    "reproduce": (
        "fastmlp.cli.reproduce:reproduce",
        "Run the course assignment that fastmlp began as and write a report.",
    ),
    "info": ("fastmlp.cli.info:info", "Show the machine, the versions and the kernel cache."),
    "cache": ("fastmlp.cli.cache:cache", "Show, clear or fill the cache of compiled kernels."),
}

program = Program(
    name="fastmlp",
    table=COMMANDS,
    help="""Train multi-layer perceptrons on the CPU.

    Every option can also be set in the environment: FASTMLP_TRAIN_EPOCHS=5 stands for "fastmlp train --epochs
    5". Results go to stdout, progress and messages to stderr.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a check was not passed, 4 bad data, 5 bad model file or checkpoint,
    130 interrupted.
    """,
    examples=[
        ("fastmlp train", "MNIST, with good defaults"),
        ("fastmlp train --layers 64,64", "two hidden layers"),
        ("fastmlp evaluate runs/NAME", "precision and recall of every digit"),
        ("fastmlp predict runs/NAME digit.png", "what is on the picture?"),
    ],
    context_settings={
        "auto_envvar_prefix": "FASTMLP",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
    },
)
click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")(program)


def main() -> None:
    """Run the command line (the console script)."""
    warnings.showwarning = show_warning
    try:
        program.main()
    except SystemExit as ending:
        if ending.code != INTERRUPTED:
            raise
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(INTERRUPTED)  # at once: not waiting for threads, and not as "killed by SIGINT" as Python may do
