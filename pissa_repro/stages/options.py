"""How a stage reads its options; those that several stages have are described here once."""

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from pissa_repro.runtime import paths, processes
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.gpus import visible
from pissa_repro.training import how

log = logging.getLogger(__name__)


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


def _micro(text: str) -> int | None:
    """Sequences in a forward pass; None for `auto`."""
    if text == how.AUTO:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of sequences, nor {how.AUTO}")
    return int(text)


def add_how(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a training runs."""
    parser.add_argument(
        "--micro-batch-size", type=_micro, default=how.MICRO, metavar="N",
        help=f"sequences in one forward pass (default {how.MICRO}), or {how.AUTO}: the fastest that fits, by trial",
    )  # fmt: skip
    parser.add_argument(
        "--sharding", choices=processes.SHARDING, default=processes.NONE,
        help="share the weights among the processes of a training: full, none (default), or auto: full where one card "
        "has no room for them",
    )  # fmt: skip
    parser.add_argument(
        "--gradient-checkpointing", choices=(how.YES, how.NO, how.ON_CARDS), default=how.ON_CARDS,
        help="compute the activations of a block again instead of keeping them (default: on cards)",
    )  # fmt: skip
    parser.add_argument(
        "--compile", choices=(how.YES, how.NO), default=how.NO, help="run the blocks of the model through torch.compile"
    )


def how_of(args: argparse.Namespace, world: int) -> how.How:
    """What the options say for a training in `world` processes. Raises UserError for what does not go together."""
    sharding, compiled = args.sharding if world > 1 else processes.NONE, args.compile == how.YES
    if sharding == processes.AUTO:
        raise UserError("--sharding auto: who has started these processes has to choose. Choices: none, full.")
    if sharding != args.sharding == processes.FULL:
        log.info("sharding: one process has all of the weights")
    checkpointing = {how.YES: True, how.NO: False}.get(args.gradient_checkpointing)
    return how.How(args.micro_batch_size, sharding, checkpointing, compiled)
