"""Adapters that stock PEFT and TRL trained, taken in: what is scored is what was trained, item by item."""

import shutil

import pytest
import torch
from commands import pissa
from helpers import Run, scored_rows
from peer import START, changed, plain, train
from peft import LoraConfig, PeftModel
from taken import Taken, last, scored_model

from pissa_repro.model.load import load_base
from pissa_repro.model.tokens import load_tokenizer, prompt_ids
from pissa_repro.quantizers import roundtrip
from pissa_repro.runtime.record import read_lines
from pissa_repro.sources.prompt import PROMPT

RATE = 1e-2  # large enough that two steps change a text
KINDS = {  # fields of LoraConfig, and the folders that are given beside the adapter
    "lora": ({}, ()),
    "rslora and patterns": ({"use_rslora": True, "r": 6, "rank_pattern": {"q_proj": 3}}, ()),
    "dora": ({"use_dora": True}, ()),
    "modules_to_save": ({"modules_to_save": ["lm_head"]}, ()),
    "embeddings and lm_head": ({"target_modules": ["embed_tokens", "q_proj", "lm_head"]}, ()),
    "lora with its start": ({}, ("init",)),
    "pissa": (START["pissa"], ("init",)),
    "pissa on its residual": (START["pissa"], ("residual",)),
    "olora": (START["olora"], ("init",)),
}


@pytest.fixture
def rows(tmp_path):
    return scored_rows(tmp_path)


def given(trained, folders):
    """The folders of a definition; a residual as it is released, with its start inside."""
    if "residual" in folders:
        shutil.copytree(trained.init, trained.residual / "pissa_init")
    return {"adapter": trained.adapter, **{name: getattr(trained, name) for name in folders}}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_the_model_that_is_scored_is_the_trained_one(tiny_model, rows, tmp_path, kind):
    fields, folders = KINDS[kind]
    trained = train(tiny_model, tmp_path, rate=RATE, **fields)
    taken = Taken(tmp_path / "taken", tiny_model, rows, **given(trained, folders))
    record = taken.adopt()
    found = scored_model(taken)
    assert (found.logits - last(trained.model)).abs().max() < 1e-4 * found.logits.abs().max()
    assert found.checks["training_effect"] > 1e-3
    assert torch.equal(found.untrained, last(load_base(tiny_model)))
    assert record["trained"] == "trained elsewhere" and record["rank"] == fields.get("r", 4)
    assert not {"final_loss", "steps", "train_seconds", "dtypes"} & record.keys(), "nothing is made up"
    assert record["trainable_parameters"] == trained.model.get_nb_trainable_parameters()[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["lora", "pissa"])
def test_the_texts_are_those_of_peft(tiny_model, rows, tmp_path, kind):
    """Item by item, by a plain greedy loop on the model that PEFT trained."""
    fields, folders = KINDS[kind]
    trained = train(tiny_model, tmp_path, rate=RATE, **fields)
    taken = Taken(tmp_path / "taken", tiny_model, rows, **given(trained, folders))
    taken.adopt()
    assert taken.evaluate()["metrics"]["paper"]["n"] == 3
    samples, tokenizer = read_lines(taken.files.samples("task")), load_tokenizer(tiny_model)
    for sample in samples:
        (ids,) = prompt_ids(tokenizer, [PROMPT.format(instruction=sample["prompt"])])
        start = len(ids)
        while len(ids) - start < 8 and tokenizer.eos_token_id not in ids[start:]:
            ids.append(int(last(trained.model, [ids])[0].argmax()))
        assert sample["generated"] == tokenizer.decode(ids[start:], skip_special_tokens=True)


def of_residual(model, start, quant):
    """Quantize every projection of the layers of W less the start's delta, by hand; start: a PEFT model or None."""
    taken = {}
    if start is not None:
        layers = dict(start.base_model.model.named_modules())
        taken = {n: layer.get_delta_weight("default") for n, layer in layers.items() if hasattr(layer, "lora_A")}
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and name != "lm_head":
            whole = layer.weight.data - taken[name].detach() if name in taken else layer.weight.data
            layer.weight.data = roundtrip(whole, quant)
    return model


@pytest.mark.parametrize("kind", ["lora", "pissa"])
def test_on_a_quantized_base_the_residual_is_quantized_and_the_adapter_lies_on_it(tiny_model, rows, tmp_path, kind):
    fields, folders = KINDS[kind]
    trained = train(tiny_model, tmp_path, rate=RATE, **fields)
    taken = Taken(tmp_path / "taken", tiny_model, rows, quant="nf4", **given(trained, folders))
    taken.adopt()
    start = PeftModel.from_pretrained(plain(tiny_model), trained.init) if folders else None
    wanted = PeftModel.from_pretrained(of_residual(plain(tiny_model), start, "nf4"), trained.adapter).eval()
    found = scored_model(taken).logits
    assert (found - last(wanted)).abs().max() < 1e-4 * found.abs().max()
    assert (found - last(trained.model)).abs().max() > 1e-2 * found.abs().max(), "it is another base"
    loads = (taken.files.trained / "adapter_config.json").exists()
    assert loads == (kind == "lora"), "no other reader loads what needs the quantized residual"


def test_a_cell_of_ours_as_a_plain_lora_has_the_same_score(tiny_model, tiny_rows, rows, tmp_path):
    run = Run(tmp_path / "run", tiny_model, tiny_rows, "pissa", learning_rate=5e-3)
    run.init()
    run.train()
    run.rows = rows
    ours = run.evaluate()
    taken = Taken(tmp_path / "taken", tiny_model, rows, adapter=run.trained)
    taken.adopt()
    theirs = taken.evaluate()
    assert theirs["metrics"] == ours["metrics"]
    texts = [read_lines(path) for path in (run.folder / "task.samples.jsonl", taken.files.samples("task"))]
    assert texts[0] == texts[1]
    assert theirs["checks"]["training_effect"] == pytest.approx(ours["checks"]["training_effect"], rel=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_of_trl_with_its_tokenizer_and_trainer_state(tiny_model, tiny_rows, rows, tmp_path):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    data = Dataset.from_list(
        [{"prompt": row["prompt"], "completion": row["response"]} for row in read_lines(tiny_rows)]
    )
    settings = SFTConfig(
        tmp_path / "out", max_steps=2, save_steps=2, learning_rate=RATE, report_to=[], use_cpu=True, max_length=64,
        bf16=False, per_device_train_batch_size=2,
    )  # fmt: skip
    lora = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        plain(tiny_model), settings, train_dataset=data, processing_class=load_tokenizer(tiny_model), peft_config=lora
    )
    trainer.train()
    folder = tmp_path / "out/checkpoint-2"
    assert (folder / "trainer_state.json").is_file() and (folder / "tokenizer_config.json").is_file()
    taken = Taken(tmp_path / "taken", tiny_model, rows, adapter=folder)
    assert "which is used" in " ".join(taken.adopt()["notes"])
    wanted = last(trainer.model.float().eval())
    assert (scored_model(taken).logits - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert sorted(path.name for path in taken.files.trained.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors"
    ]  # fmt: skip


def test_no_path_of_the_machine_stays(tiny_model, rows, tmp_path):
    trained = train(tiny_model, tmp_path)
    files = {"cache_file": str(tmp_path / "cache"), "covariance_file": str(tmp_path / "covariance")}
    given = changed(trained.adapter, tmp_path / "given", corda_config=files)
    taken = Taken(tmp_path / "taken", tiny_model, rows, adapter=given)
    taken.adopt()
    files = [path for path in taken.files.trained.iterdir() if path.suffix in (".json", ".md")]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    assert len(files) == 2 and str(tmp_path) not in text and str(tiny_model) not in text


def test_the_command_says_what_it_found_and_writes_the_config(tiny_model, tmp_path, capsys):
    from pissa_repro.plan import config

    trained = train(tiny_model, tmp_path, **START["pissa"])
    words = ("--base", tiny_model, "--model", "mini-llama", "--dataset", "gsm-mini-train", "--init", trained.init)
    pissa("adopt", trained.adapter, *words, "--name", "theirs", "--out", tmp_path / "theirs.yaml")
    said = capsys.readouterr().out
    assert "Rank 4, 3,584 trained parameters" in said and "taken out of the base" in said
    read = config.load(config.ROOT / "config/config.yaml", tmp_path / "theirs.yaml")
    assert read["sweep"]["adopted"] == ["theirs"]
    assert read["adopted"]["theirs"] == {
        "adapter": str(trained.adapter), "init": str(trained.init), "model": "mini-llama", "dataset": "gsm-mini-train",
    }  # fmt: skip


def test_the_card_names_the_licence_of_the_base(tiny_model, tiny_rows, tmp_path):
    base = shutil.copytree(tiny_model, tmp_path / "base")
    (base / "README.md").write_text("---\nlicense: llama2\n---\n", encoding="utf-8")
    taken = Taken(tmp_path / "taken", base, tiny_rows, adapter=train(base, tmp_path / "lora").adapter)
    taken.adopt()
    assert "license: llama2" in (taken.files.trained / "README.md").read_text(encoding="utf-8").split("---")[1]
