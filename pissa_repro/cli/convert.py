"""Convert PiSSA or OLoRA adapters to plain LoRA, and back.

    pissa convert ADAPTER --init INIT --out lora
    pissa convert LORA --init INIT --out pissa --to pissa

ADAPTER is a trained adapter's folder (PEFT's, TRL's or the released code's), INIT the same adapter before the training
(`peft_config["default"].init_lora_weights = True` and save_pretrained() by PEFT). A cell's trained/ is such a LoRA
already. The LoRA belongs on the untouched base, the adapter on its residual.
No model is loaded: A and A0, B and -B0 are stacked to twice the rank. modules_to_save, biases and embeddings are kept.
OUT is a new PEFT folder with a model card. --check and --base-folder load both models and compare logits, which may
differ by 1e-4, relative, in float32.
"""

from pathlib import Path
from typing import Annotated

import typer

from pissa_repro.runtime.errors import UserError


def convert(
    adapter: Annotated[Path, typer.Argument(help="The trained adapter's folder.")],
    init: Annotated[Path, typer.Option(help="The folder of its start.")],
    out: Annotated[Path, typer.Option(help="The folder to write; a new one.")],
    to: Annotated[str, typer.Option(help="lora, or pissa: back to the adapter on the residual.")] = "lora",
    base: Annotated[str | None, typer.Option(help="Hub id of the model that OUT belongs on.")] = None,
    lossy: Annotated[bool, typer.Option("--lossy", help="Also where the base was quantized: not exact.")] = False,
    trust_init: Annotated[bool, typer.Option("--trust-init", help="Also where ADAPTER lies far from INIT.")] = False,
    check: Annotated[Path | None, typer.Option(help="Folder of the residual model, to compare logits.")] = None,
    base_folder: Annotated[Path | None, typer.Option(help="Folder of the untouched model, for --check.")] = None,
) -> None:
    """A few lines on what was written."""
    if (check is None) != (base_folder is None):
        raise UserError("--check RESIDUAL and --base-folder MODEL: one needs the other.")
    from pissa_repro.adapters.convert import Asked
    from pissa_repro.adapters.convert import convert as run  # with torch, which --help does not need

    folders = (check, base_folder) if check and base_folder else None
    print("\n".join([*run(Asked(adapter, init, out, to, base, lossy, trust_init, folders)), f"Written: {out}"]))
