"""Options that several stages share."""

import argparse
from pathlib import Path

from pissa_repro import methods, quantizers
from pissa_repro.runtime.gpus import visible
from pissa_repro.starts.kept import FOLDER


def add_by_hand(parser: argparse.ArgumentParser) -> None:
    """The options that replace a spec."""
    group = parser.add_argument_group("by hand")
    group.add_argument("--revision", default="main", help="commit, tag or branch of a hub id (default main)")
    group.add_argument("--method", default="pissa", help=f"one of: {', '.join(methods.names())} (default pissa)")
    group.add_argument("--quant", default="none", help=f"one of: {', '.join(quantizers.names())} (default none)")
    group.add_argument("--rank", type=int, nargs="+", default=[16], help="one or several ranks (default 16)")
    group.add_argument("--alpha", type=float, help="LoRA's alpha (default: the rank)")
    group.add_argument("--rslora", action="store_true", help="scale by alpha / sqrt(rank)")
    group.add_argument("--alternations", type=int, help="T of QPiSSA and LoftQ (default 1)")
    group.add_argument("--svd", help="fast (default), exact, or niter_<n> as in PEFT's pissa_niter_<n>")
    group.add_argument("--seed", type=int, default=0, help="seed of a random start (default 0)")
    group.add_argument("--target-modules", nargs="+", help="default: every projection of the layers")
    group.add_argument("--scratch", type=Path, default=FOLDER, help="where decompositions are kept")


def add_gpus(parser: argparse.ArgumentParser) -> None:
    """The option --gpus, the same in every stage that may use one."""
    default = min(1, len(visible()))
    parser.add_argument("--gpus", type=int, default=default, help=f"GPUs to use, 0 for the CPU (here: {default})")


def add_generation(parser: argparse.ArgumentParser) -> None:
    """The options that say how to generate, and change no result beyond rounding."""
    parser.add_argument("--batch-size", type=int, default=16, help="prompts handed over together (default 16)")
    parser.add_argument("--tensor-parallel", type=int, default=1, help="GPUs that vLLM spreads a model over")
    add_gpus(parser)
