"""python -m pissa_repro.stages.pretrain --out DIR [--seed 0] [--steps 5000] [--threads 2]

Builds the tokenizer and pre-trains the embedded base model from a seed, and writes a Hugging Face
folder with a `pretrain.json` beside the weights. The shipped `pissa_repro/embedded/model/` comes
from these defaults: 5000 steps of a learning-rate schedule laid out for 8000. The same seed, steps,
threads and versions give the same weights on the same machine.
"""

import torch

from pissa_repro.embedded.pretrain import pretrain
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.lock import alone
from pissa_repro.runtime.record import atomic_folder
from pissa_repro.stages.options import stage_parser


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__, out="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(argv)
    for name in ("steps", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)}: choices: 1 or more")
    torch.set_num_threads(options.threads)
    with alone(options.out, "writing"), atomic_folder(options.out) as unfinished:
        result = pretrain(unfinished, options.seed, options.steps)
    print(f"held-out loss {result['loss_held_out']:.4f}, {result['seconds']} s -> {options.out}")


if __name__ == "__main__":
    run_stage(main)
