"""docs/guides/decompose.md and convert.md: their blocks run as they stand, at smaller ranks, on a tiny model."""

import shutil
from pathlib import Path

import pytest
import torch
from blocks import blocks
from page import run
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from pissa_repro.plan.config import ROOT

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("recipe")]
LLAMA = "meta-llama/Llama-2-7b-hf"
TOKENS = torch.randint(3, 60, (2, 12), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model.eval()(input_ids=TOKENS).logits


def plain(folder: str = LLAMA):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def ran(page: str, words: str, replaced: dict[str, str] | None = None, **names):
    """Run the one block of a guide that holds these words; the names that it leaves."""
    ((language, text),) = [block for block in blocks(ROOT / f"docs/guides/{page}.md") if words in block[1]]
    for old, new in (replaced or {}).items():
        assert old in text
        text = text.replace(old, new)
    return run(f"```{language}\n{text}```\n", names)


def move(model) -> None:
    """Change what trains, as a training does."""
    drawn = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=drawn)


def is_the_model(adapter: str, trained: torch.Tensor) -> None:
    """An adapter on the untouched model gives these logits, which are not the untouched model's."""
    found = logits(PeftModel.from_pretrained(plain(), adapter))
    assert (found - trained).abs().max() < 1e-4 < 1e-2 < (trained - logits(plain())).abs().max()


def test_a_model_is_split_loaded_trained_and_converted():
    ran("decompose", "--out PiSSA-", {"--rank 128": "--rank 4"})
    model = ran("decompose", "PeftModel").model
    assert (logits(model) - logits(plain())).abs().max() < 1e-4
    move(model)
    model.save_pretrained("trained")
    ran("decompose", "pissa convert")
    is_the_model("lora", logits(model))
    ran("decompose", "--quant nf4", {"--rank 64 --rank 128": "--rank 2 --rank 4"})
    assert all(Path(f"QPiSSA-Llama-2-7b/r{rank}/pissa_init/adapter_model.safetensors").is_file() for rank in (2, 4))


def test_an_adapter_of_peft_is_converted_there_and_back_and_checked():
    names = {"base": plain(), "targets": ["q_proj", "v_proj"], "move": move}
    given = {"get_peft_model": get_peft_model, "LoraConfig": LoraConfig}
    model = ran("convert", "get_peft_model", {"# ... train ...": "move(model)"}, **names, **given).model
    trained = logits(model)
    ran("convert", "--base owner/name")
    is_the_model("lora", trained)

    model.unload().save_pretrained("RESIDUAL")
    shutil.copytree("pissa_init", "RESIDUAL/pissa_init")
    Path("PiSSA-Llama-2-7b-hf-r128").symlink_to("RESIDUAL")
    Path("MODEL").symlink_to(LLAMA)
    shutil.rmtree("lora")
    ran("convert", "--init PiSSA-Llama-2-7b-hf-r128", {f"--base {LLAMA}": "--base owner/name"})  # a folder here
    is_the_model("lora", trained)

    Path("trained").rename("as-trained")
    ran("convert", "--to pissa")
    before, after = (load_file(f"{folder}/adapter_model.safetensors") for folder in ("as-trained", "trained"))
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)

    shutil.rmtree("lora")
    ran("convert", "--check RESIDUAL")
    is_the_model("lora", trained)
