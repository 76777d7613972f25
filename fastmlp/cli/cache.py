"""``fastmlp cache``: the compiled kernels on disk."""

from __future__ import annotations

from typing import Any

import click

from fastmlp.cli.base import Command, LazyGroup
from fastmlp.cli.options import json_option, option
from fastmlp.cli.output import note, print_fields, print_json, seconds
from fastmlp.cli.types import OneOf
from fastmlp.experiment import DTYPES
from fastmlp.memory import human_bytes

cache = LazyGroup(
    name="cache",
    table={
        "info": (
            "fastmlp.cli.cache:cache_info",
            "Show where the compiled kernels are and how much they take.",
        ),
        "clear": ("fastmlp.cli.cache:cache_clear", "Delete the compiled kernels of all versions."),
        "warm": ("fastmlp.cli.cache:cache_warm", "Compile everything now, so that no training has to wait."),
    },
    examples=[
        ("fastmlp cache warm", "after an installation or in a container image"),
        ("fastmlp cache clear", "free the space; it fills again by itself"),
    ],
    help="""Show, clear or fill the cache of compiled kernels.

    Kernels are compiled on their first use by a version of fastmlp on a kind of CPU, and kept in the user's
    cache folder. FASTMLP_CACHE_DIR names another folder, or "off" for none.
    """,
)


@click.command(cls=Command, name="info", examples=[("fastmlp cache info", ""), ("fastmlp cache info --json", "")])
@json_option()
def cache_info(as_json: bool) -> None:
    """Show where the compiled kernels are and how much they take."""
    state = cache_state()
    if as_json:
        print_json({"command": "cache info", **state})
    else:
        print_fields(
            [
                ("Folder", state["folder"] or f"none: {state['reason']}"),
                ("Size", f"{human_bytes(state['bytes'])} in {state['files']} files"),
                ("All versions", human_bytes(state["bytes_of_all_versions"])),
            ]
        )


@click.command(cls=Command, name="clear", examples=[("fastmlp cache clear", "")])
@json_option()
def cache_clear(as_json: bool) -> None:
    """Delete the compiled kernels of all versions.

    Nothing is lost but time: the next training compiles them again.
    """
    from fastmlp.kernels.compiler import clear_cache

    freed = clear_cache()
    if as_json:
        print_json({"command": "cache clear", "freed_bytes": freed})
    else:
        click.echo(f"{human_bytes(freed)} freed")


@click.command(
    cls=Command,
    name="warm",
    examples=[
        ("fastmlp cache warm", "everything"),
        ("fastmlp cache warm --dtype float32", "only what training by default needs"),
    ],
)
@option("Kernels", "--dtype", type=OneOf(DTYPES), help="Only the kernels for these numbers. Default: all.")
@json_option()
def cache_warm(dtype: str | None, as_json: bool) -> None:
    """Compile everything now, so that no training has to wait.

    Kernels that are in the cache already are loaded, which takes a moment.
    """
    from fastmlp.warmup import compile_kernels

    if cache_state()["folder"] is None:
        note(f"there is no cache ({cache_state()['reason']}): this warms up nothing but this process")
    steps = []
    for network_dtype, input_dtype, spent in compile_kernels((dtype,) if dtype else DTYPES):
        note(f"{network_dtype} networks on {input_dtype} inputs: {seconds(spent)}")
        steps.append({"dtype": network_dtype, "input_dtype": input_dtype, "seconds": spent})
    state = cache_state()
    if as_json:
        print_json({"command": "cache warm", "steps": steps, **state})
    else:
        click.echo(f"Kernel cache: {describe_cache(state)}")


def cache_state() -> dict[str, Any]:
    """Return where the cache of this version is and how much is in it."""
    from fastmlp.kernels.compiler import cache_folder, cache_root

    folder, reason = cache_folder()
    files = [path for path in folder.rglob("*.nb?") if path.is_file()] if folder is not None else []
    root = cache_root()
    everything = [path for path in root.rglob("*.nb?") if path.is_file()] if root.is_dir() else []
    return {
        "folder": str(folder) if folder is not None else None,
        "reason": reason or None,
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "bytes_of_all_versions": sum(path.stat().st_size for path in everything),
    }


def describe_cache(state: dict[str, Any]) -> str:
    """Return one line about the cache."""
    if state["folder"] is None:
        return f"none: {state['reason']}"
    if not state["files"]:
        return f"{state['folder']} (empty: the first training compiles; see 'fastmlp cache warm')"
    return f"{state['folder']} ({human_bytes(state['bytes'])} in {state['files']} files)"
