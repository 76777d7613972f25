"""The command line's manners: help, mistakes, exit codes, colour, start-up."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from fastmlp.cli import COMMANDS, program
from fastmlp.cli.base import Command, LazyGroup, SectionOption
from fastmlp.cli.mistakes import describe_error
from fastmlp.cli.output import percent, print_columns, printable, seconds
from fastmlp.errors import DataFormatError, FastmlpError, ModelFormatError

HEAVY = ("numpy", "numba", "llvmlite", "matplotlib", "rich", "PIL", "safetensors", "sklearn")


def run(*arguments: str, env: dict[str, str] | None = None) -> Result:
    """Run a command line in this process."""
    return CliRunner().invoke(program, arguments, env=env)


def run_process(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "fastmlp", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | variables,
        check=False,
        timeout=120,
    )


def all_commands() -> list[tuple[str, ...]]:
    """Return every command, groups included, as the words that call it."""
    found: list[tuple[str, ...]] = []
    for name in COMMANDS:
        found.append((name,))
        command = program.get_command(click.Context(program), name)
        if isinstance(command, LazyGroup):
            found += [(name, inner) for inner in command.table]
    return found


# Help


@pytest.mark.parametrize("words", [(), *all_commands()], ids=" ".join)
def test_help_begins_with_what_it_does_and_examples(words: tuple[str, ...]) -> None:
    text = run(*words, "--help").output
    assert text.startswith("Usage: fastmlp")
    body = text.split("\n\n", 1)[1]
    summary, _, rest = body.partition("\n\n")
    assert re.fullmatch(r"  [A-Z][^\n]*\.", summary), "one sentence on one line"
    assert rest.startswith("Examples:\n  fastmlp " + " ".join(words))
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_examples_can_be_typed_as_they_stand(words: tuple[str, ...]) -> None:
    """Each example's options parse (running them is other tests' business)."""
    import shlex

    group: click.Command = program
    for word in words:
        assert isinstance(group, LazyGroup)
        found = group.get_command(click.Context(group), word)
        assert found is not None
        group = found
    assert isinstance(group, (Command, LazyGroup))
    assert group.examples
    for line, _ in group.examples:
        arguments = shlex.split(line.split(" > ")[0])[1 + len(words) :]
        if isinstance(group, Command):
            group.make_context(" ".join(words), arguments)


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_short_help_in_the_table_is_the_command_s_own(words: tuple[str, ...]) -> None:
    table = program.table
    for word in words[:-1]:
        inner = program.get_command(click.Context(program), word)
        assert isinstance(inner, LazyGroup)
        table = inner.table
    command = run(*words, "--help").output
    assert table[words[-1]][1] in command


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_every_option_has_a_help_text(words: tuple[str, ...]) -> None:
    command: click.Command | None = program
    for word in words:
        assert isinstance(command, LazyGroup)
        command = command.get_command(click.Context(command), word)
    assert command is not None
    for parameter in command.params:
        if isinstance(parameter, SectionOption):
            assert parameter.help, parameter.name
            assert parameter.help.endswith("."), parameter.help


def test_no_command_shows_the_help() -> None:
    assert run().output == run("--help").output
    assert run().exit_code == 0


def test_version() -> None:
    import fastmlp

    assert run("--version").output == f"fastmlp {fastmlp.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["cache", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom fastmlp.cli import program\n"
        f"try:\n    program.main({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"


def test_importing_fastmlp_imports_nothing_heavy() -> None:
    code = f"import sys, fastmlp\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "no such command 'trian'; did you mean 'train'?"),
        (["xyzzy"], "commands are train, evaluate"),
        (["cache", "cler"], "no such command 'cler'; did you mean 'clear'?"),
        (["train", "--epoch", "3"], "no such option --epoch; did you mean '--epochs'?"),
        (["train", "--layers", "7.5"], "--layers: layer sizes must be whole numbers >= 1"),
        (["train", "--layers", "64,,10"], "--layers: layer sizes must be whole numbers >= 1"),
        (["train", "--layers", "64,0"], "(got '0')"),
        (["train", "--layers", "-5"], "(got '-5')"),
        (["train", "--layers", "1e3"], "(got '1e3')"),
        (["train", "--layers", ",".join(["1"] * 1001)], "--layers: at most 1000 layers (got 1001)"),
        (["train", "--layers", "٣"], "--layers: layer sizes must be whole numbers >= 1"),
        (["train", "--epochs", "0"], "--epochs: must be a whole number 1..1000000 (got '0')"),
        (["train", "--epochs", "1e9"], "--epochs: must be a whole number"),
        (["train", "--epochs", "1_0"], "--epochs: must be a whole number"),
        (["train", "--batch-size", "0"], "--batch-size: must be a whole number >= 1 (got '0')"),
        (["train", "--batch-size", "9" * 5000], "--batch-size: must be a whole number >= 1"),
        (["train", "--lr", "nan"], "--lr: must be a finite number > 0 (got 'nan')"),
        (["train", "--lr", "inf"], "--lr: must be a finite number > 0"),
        (["train", "--lr", "1e999"], "--lr: must be a finite number > 0"),
        (["train", "--lr", "0"], "--lr: must be a finite number > 0"),
        (["train", "--lr", "1_0.5"], "--lr: must be a finite number > 0"),
        (["train", "--momentum", "1"], "--momentum: must be a finite number >= 0 and < 1 (got '1')"),
        (["train", "--l2", "-1e-4"], "--l2: must be a finite number >= 0"),
        (["train", "--nesterov"], "--nesterov: needs --momentum"),
        (["train", "--seed", "-1"], "--seed: must be a whole number 0..2^32-1 (got '-1')"),
        (["train", "--seed", str(2**32)], "--seed: must be a whole number 0..2^32-1"),
        (["train", "--threads", "0"], "--threads: must be 1.."),
        (["train", "--threads", "100000"], "this process may use"),
        (["train", "--threads", "abc"], "--threads: must be 1.."),
        (["train", "--activation", "rleu"], "(got 'rleu'); did you mean 'relu'?"),
        (["train", "--dtype", "float16"], "--dtype: must be one of float32, float64"),
        (["train", "--data", "minst"], "--data: no such data set or file: 'minst'; did you mean 'mnist'?"),
        (["train", "--max-bytes", "4 pounds"], "--max-bytes: must be a size such as 500MB or 4GB"),
        (["train", "--patience", "0"], "--patience: must be a whole number >= 1"),
        (["train", "--output", "-"], "--output: is not a name for a folder"),
        (["train", "--output", "a\nb"], "--output: is not a name for a folder"),
        (["train", "extra"], "unexpected extra argument"),
        (["evaluate"], "missing MODEL"),
        (["predict", "model"], "missing FILE"),
        (["predict", "model", "x.png", "--csv", "--json"], "--csv and --json exclude each other"),
        (["evaluate", "m", "--plot", "x.bmp"], "--plot: must end in .png, .pdf, .svg (got 'x.bmp')"),
        (["evaluate", "m", "--plot", "no/such/x.png"], "--plot: no such directory: no/such"),
        (["--color", "blue", "info"], "--color: must be one of auto, always, never (got 'blue')"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr


@pytest.mark.parametrize(
    ("error", "words", "code"),
    [
        (FastmlpError("it failed"), "it failed", 1),
        (ValueError("X has 3 features,\nexpected 4"), "X has 3 features, expected 4", 1),
        (DataFormatError("a.npz: file is empty"), "a.npz: file is empty", 4),
        (ModelFormatError("m: weights contain NaN"), "m: weights contain NaN", 5),
        (MemoryError(), "out of memory", 1),
        (PermissionError(13, "Permission denied", "x"), "x: permission denied", 1),
        (KeyError("x"), "unexpected KeyError: 'x'. This is a bug in fastmlp; --debug shows where", 1),
    ],
)
def test_kinds_of_errors_have_their_exit_codes(error: Exception, words: str, code: int) -> None:
    assert describe_error(error) == (words, code)


def test_a_wrong_value_in_the_environment_is_named() -> None:
    result = run("train", env={"FASTMLP_TRAIN_EPOCHS": "ten"})
    assert result.exit_code == 2
    assert "FASTMLP_TRAIN_EPOCHS (for --epochs): must be a whole number" in result.stderr


def test_an_option_beats_the_environment() -> None:
    """A good option hides a bad variable: the complaint is about something else."""
    result = run("train", "--epochs", "3", "--lr", "x", env={"FASTMLP_TRAIN_EPOCHS": "ten"})
    assert "--lr" in result.stderr


def test_names_are_forgiving_about_case_and_hyphens() -> None:
    from fastmlp.cli.types import OneOf

    choice = OneOf(["relu", "scaled_tanh"], {"improved_sigmoid": "scaled_tanh"})
    for name in ("Scaled-Tanh", "improved sigmoid", "IMPROVED_SIGMOID", "scaled_tanh"):
        assert choice.convert(name, None, None) == "scaled_tanh"


@pytest.mark.parametrize(
    ("text", "size"), [("123", 123), ("4GB", 4 * 10**9), ("1.5 kB", 1500), ("2m", 2 * 10**6), ("1TB", 10**12)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    from fastmlp.cli.types import ByteSize

    assert ByteSize().convert(text, None, None) == size


@pytest.mark.parametrize(
    ("text", "layers"),
    [("64,64", (64, 64)), ("", ()), ("none", ()), (" 32 , 8 ", (32, 8)), ("1", (1,)), ("007", (7,))],
)
def test_layers_are_read(text: str, layers: tuple[int, ...]) -> None:
    from fastmlp.cli.types import HiddenLayers

    assert HiddenLayers().convert(text, None, None) == layers


def test_debug_shows_the_traceback_and_nothing_else_does(tmp_path: Path) -> None:
    arguments = ["evaluate", str(tmp_path / "none.safetensors")]
    assert "Traceback" not in run(*arguments).stderr
    for order in (["--debug", *arguments], [*arguments, "--debug"]):
        result = run(*order)
        assert "Traceback" in result.stderr
        assert result.exit_code == 5


# Colour and streams


@pytest.mark.parametrize(
    ("arguments", "variables", "coloured"),
    [
        ([], {}, False),  # no terminal here
        (["--color", "always"], {}, True),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
        ([], {"FORCE_COLOR": "1"}, True),
        ([], {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (["--color", "never"], {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colour(arguments: list[str], variables: dict[str, str], coloured: bool) -> None:
    clean = {"NO_COLOR": "", "FORCE_COLOR": "", "TERM": "xterm"}
    result = run_process(*arguments, "cache", "info", **clean | variables)
    assert result.returncode == 0
    assert ("\x1b[" in result.stdout) is coloured
    wrong = run_process(*arguments, "train", "--lr", "nan", **clean | variables)
    assert ("\x1b[" in wrong.stderr) is coloured


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_a_reader_that_goes_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [sys.executable, "-m", "fastmlp", "info"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert process.stderr == ""
    assert process.returncode == 141


@pytest.mark.skipif(os.name == "nt", reason="POSIX shell")
@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_error(redirect: str) -> None:
    command = f'"{sys.executable}" -m fastmlp cache info {redirect}'
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert result.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_told_once() -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "fastmlp", "cache", "info"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.stderr == "Error: no space left on device\n"
    assert process.returncode == 1


def test_ascii_locale_can_print_everything(tmp_path: Path) -> None:
    result = run_process("evaluate", str(tmp_path / "modèle"), LC_ALL="C", PYTHONIOENCODING="ascii")
    assert result.returncode == 5
    assert "no such file" in result.stderr.lower()


# Commands that need no kernels


def test_info_reports_machine_kernels_cache_and_versions() -> None:
    document = json.loads(run("info", "--json").stdout)
    assert document["schema_version"] == 1
    assert document["kernels"]["float32"]["lanes"] == 2 * document["kernels"]["float64"]["lanes"]
    assert document["machine"]["usable_cpus"] == min(document["cpu_limits"].values())
    text = run("info").stdout
    for name in ("CPU", "Features", "Lanes", "Threads", "Kernel cache", "Versions"):
        assert re.search(rf"^{name} ", text, re.MULTILINE)


def test_cache_info_and_clear_use_the_folder_in_the_environment(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    state = json.loads(run_process("cache", "info", "--json", FASTMLP_CACHE_DIR=str(folder)).stdout)
    assert Path(state["folder"]).parent == folder
    (Path(state["folder"]) / "x.nbc").write_bytes(b"0" * 1000)
    freed = json.loads(run_process("cache", "clear", "--json", FASTMLP_CACHE_DIR=str(folder)).stdout)
    assert freed["freed_bytes"] >= 1000
    assert not Path(state["folder"]).exists()


def test_cache_warm_compiles_what_training_needs() -> None:
    document = json.loads(run("cache", "warm", "--dtype", "float32", "--json").stdout)
    assert [step["input_dtype"] for step in document["steps"]] == ["uint8", "float32"]
    assert document["files"] > 0


def test_no_cache_is_told_with_its_reason() -> None:
    result = run_process("cache", "info", FASTMLP_CACHE_DIR="off")
    assert "none: switched off by FASTMLP_CACHE_DIR=off" in result.stdout


# Printing


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.12 s"), (9.999, "10.0 s"), (59.94, "59.9 s"), (125, "2 min 05 s"), (7384, "2 h 03 min")],
)
def test_seconds(value: float, text: str) -> None:
    assert seconds(value) == text


def test_percent_of_nothing_is_a_dash() -> None:
    assert percent(0.97931) == "97.93 %"
    assert percent(float("nan")) == "-"


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[31m\nb\udcff") == "a\\x1b[31m\\nb\\udcff"


def test_columns_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_columns(("name", "count"), [("a", "1"), ("longer", "1,000")])
    assert capsys.readouterr().out == "name    count\na           1\nlonger  1,000\n"


def test_the_command_line_knows_the_names_that_the_library_knows() -> None:
    """They are listed twice so that the help need not import NumPy."""
    from fastmlp import experiment, initialization, network, recipe

    assert sorted(experiment.ACTIVATIONS) == sorted(network.ACTIVATIONS)
    assert sorted(experiment.INITIALIZATIONS) == sorted(initialization.INITIALIZATIONS)
    assert sorted(experiment.SCHEDULES) == sorted(recipe.SCHEDULES)
