"""The command `pissa`: it finds the commands, which are the files of this folder, and runs one of them."""

import importlib
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import pissa_repro
from pissa_repro.runtime.errors import run_stage

INTERRUPTED = 130  # the exit code that typer gives to Ctrl-C
Command = Any  # the types that typer took over from click are private


def names() -> list[str]:
    """All commands: the files of this folder, sorted; neither this one nor private ones."""
    files = (path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    return sorted(name.replace("_", "-") for name in files if name != "main")


def summary(name: str) -> str:
    """The first line of a command's docstring, read without an import: all commands stand in `pissa --help`."""
    with open(Path(__file__).with_name(f"{_module(name)}.py"), encoding="utf-8") as file:
        return file.readline().strip().lstrip("r").strip('"')


def load(name: str) -> Command:
    """Import a command, and give it its parameters and the docstring of its file."""
    module = importlib.import_module(f"pissa_repro.cli.{_module(name)}")
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    as_written = re.sub(r"\n\n(?=    )", "\n\n\b\n", module.__doc__ or "")  # indented lines are not filled
    app.command(name, help=as_written)(getattr(module, _module(name)))
    return typer.main.get_command(app)


def _module(name: str) -> str:
    return name.replace("-", "_")


class Commands(TyperGroup):
    """Knows the commands by name and first line; imports the one that is called."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=summary(name)) for name in names()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Command, list[str]]:
        """The command that is called; typer names the nearest one for a word that is none."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else None, rest


def _version(asked: bool) -> None:
    if asked:
        print(f"pissa-repro {pissa_repro.__version__}")
        raise typer.Exit


def _pissa(
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="Show it.")] = False,
) -> None:
    """Starts, errors, scores and configs by hand. The sweep itself: snakemake (README.md).

    pissa COMMAND --help says what a command takes, with an example.
    """


def group() -> Command:
    """The command with its commands."""
    app = typer.Typer(cls=Commands, add_completion=False, rich_markup_mode=None)
    app.callback(no_args_is_help=True, context_settings={"max_content_width": 110})(_pissa)
    return typer.main.get_command(app)


def main() -> None:
    """Run the words of the command line. An error that a user can mend is one line and exit code 1."""

    def run() -> None:
        try:
            group().main(prog_name="pissa")
        except SystemExit as end:
            if end.code == INTERRUPTED:
                raise KeyboardInterrupt from None  # run_stage says what is kept
            raise

    run_stage(run)
