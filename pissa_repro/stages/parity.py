"""Do two back-ends generate the same? One cell on one task, item by item.

python -m pissa_repro.stages.parity --first hf.jsonl --second vllm.jsonl --model MODEL.json --data DATA.jsonl \
    [--init DIR] --trained DIR --out parity.json

Reads what the generate stage has kept for both. Where two texts part, the merged model says how near
its two next tokens were: in float32 only near-ties may part, rounding decides those. The record holds
the share of equal texts, every item that parted with its gap, and whether all were near-ties.
"""

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import run_stage
from pissa_repro.scoring.parity import compare_kept
from pissa_repro.stages.options import stage_parser


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(
        __doc__, "model", "data", "init", "gpus",
        first="generations of one back-end", second="generations of the other",
        trained="folder of trained weights", out="the record to write",
    )  # fmt: skip
    args = parser.parse_args(argv)
    gpus.take(args.gpus)
    compare_kept(args)


if __name__ == "__main__":
    run_stage(main)
