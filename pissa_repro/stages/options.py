"""How a stage reads its options; those that several stages have are described here once."""

import argparse
import json
from pathlib import Path
from typing import Any

from pissa_repro.runtime import paths
from pissa_repro.runtime.gpus import visible


def known() -> dict[str, dict[str, Any]]:
    """The options that several stages have, as argparse takes them."""
    cards = min(1, len(visible()))
    return {
        "spec": {"required": True, "type": json.loads, "help": "canonical JSON of what to do"},
        "config": {"required": True, "type": json.loads, "help": "the config as canonical JSON"},
        "model": {"required": True, "help": "record of the fetched model"},
        "data": {"required": True, "type": Path, "help": "JSON lines of the rows"},
        "init": {"type": Path, "nargs": "?", "help": "folder of initial factors (methods with factors)"},
        "results": {"type": Path, "default": paths.RESULTS, "help": "the results folder"},
        "scratch": {"type": Path, "default": paths.DECOMPOSED, "help": "where decompositions are kept"},
        "batch-size": {"type": int, "default": 16, "help": "prompts handed over together (default 16)"},
        "tensor-parallel": {"type": int, "default": 1, "help": "GPUs that vLLM spreads a model over"},
        "gpus": {"type": int, "default": cards, "help": f"GPUs to use, 0 for the CPU (here: {cards})"},
    }


def add(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add options that several stages have."""
    for name in names:
        parser.add_argument(f"--{name}", **known()[name])


def stage_parser(doc: str | None, *names: str, **files: str) -> argparse.ArgumentParser:
    """The parser of a stage whose docstring is its help.

    names: of options that several stages have. files: files and folders that must be given: name -> help.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add(parser, *names)
    for name, words in files.items():
        parser.add_argument(f"--{name}", required=True, type=Path, help=words)
    return parser
