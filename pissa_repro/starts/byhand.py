"""Starts that are made by hand, without a config: their model and their specs."""

from pathlib import Path
from typing import Any

from pissa_repro import methods, quantizers
from pissa_repro.model import checkpoint
from pissa_repro.runtime.errors import UserError
from pissa_repro.sources.fetched import fetch_model, stored_model


def model(name: str, revision: str) -> dict[str, Any]:
    """The record of a model: a folder, `embedded`, a fetched model's record, or a hub id.

    Raises UserError when it is none of them.
    """
    if name.endswith(".json"):
        return stored_model(name)
    if name == "embedded" or Path(name).is_dir():
        return fetch_model({"path": name})
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise UserError(f"--model {name}: no such folder, and a hub id has the form owner/name.")
    return fetch_model({"hub": name, "revision": revision})


def init_specs(args: Any, folder: str) -> list[dict[str, Any]]:
    """The specs of the init stage that the options stand for, one a rank. Raises UserError for what makes no sense."""
    quantizers.find(args.quant, "--quant")
    methods.load(args.method, "--method")
    if not methods.has_factors(args.method):
        raise UserError(f"--method {args.method}: it has no factors to start from.")
    if reason := methods.refusal(args.method, args.quant):
        raise UserError(f"--method {args.method} --quant {args.quant} makes no sense: {reason}.")
    if args.alpha is not None and not 0 < args.alpha < float("inf"):
        raise UserError(f"--alpha {args.alpha}: it must be a number above 0 (default: the rank).")
    given = {key: getattr(args, key) for key in ("alternations", "svd") if getattr(args, key) is not None}
    options = methods.options(args.method, args.quant, given, "--method")
    targets = args.target_modules or checkpoint.projections(folder)
    return [
        {
            "stage": "init", "method": args.method, "options": options, "quant": args.quant, "rank": rank,
            "alpha": float(args.alpha or rank), "rslora": args.rslora, "target_modules": targets, "seed": args.seed,
        }
        for rank in args.rank
    ]  # fmt: skip
