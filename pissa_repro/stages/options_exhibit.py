"""The options of the stages that make an exhibit. A module of its own: those stages import no torch."""

import argparse
import json
from pathlib import Path

from pissa_repro.runtime.paths import RESULTS


def exhibit_options(doc: str, files: str) -> argparse.ArgumentParser:
    """The parser: config, results, place, out."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=json.loads, help="the config as canonical JSON")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of records")
    parser.add_argument("--place", required=True, help="which one: gsm8k_table, paper/figure14, extra/depth, ...")
    parser.add_argument("--out", required=True, type=Path, nargs="+", help=files)
    return parser
