"""Encoder-decoders are trained as a plain loop trains them with stock PEFT, resumed, and trained on packed weights."""

import math
import re
from pathlib import Path

import pytest
import torch
import transformers
from encoders import TARGETS
from helpers import Run
from peft import LoraConfig, PeftModel, PeftModelForSeq2SeqLM, get_peft_model
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from pissa_repro import methods
from pissa_repro.model.architecture import SEQ2SEQ
from pissa_repro.model.base import set_base
from pissa_repro.model.checks import logits, relative_difference
from pissa_repro.model.factors import load
from pissa_repro.model.load import load_base
from pissa_repro.model.tokens import load_tokenizer
from pissa_repro.runtime.record import read_json, read_lines, write_lines
from pissa_repro.training import micro
from pissa_repro.training.examples import tokenize

STEPS, RATE, BATCH = 8, 3e-3, 8  # twelve rows: two steps an epoch, the second of four
TEMPLATE = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    "\n\n### Instruction:\n{}\n\n### Response:"
)
PROMPTS = [[5, 9, 40, 17, 1], [60, 2, 33, 1]]


def run_of(folder, models, rows, kind, method, quant="none", **changes) -> Run:
    """A cell of an encoder-decoder with its start made."""
    settings = {"steps": STEPS, "batch_size": BATCH, "alpha": 8, "learning_rate": RATE, "target_modules": TARGETS[kind]}
    run = Run(folder, models[kind], rows, method, quant, **{**settings, **changes})
    run.init()
    return run


def own_batch(tokenizer, rows):
    """What a model is given of some rows: the prompt in the encoder, the response and eos as labels, -100 behind."""
    read = tokenizer([TEMPLATE.format(row["prompt"]) for row in rows], padding=True, return_tensors="pt")
    written = [torch.tensor(tokenizer(row["response"])["input_ids"]) for row in rows]
    labels = torch.nn.utils.rnn.pad_sequence(written, batch_first=True, padding_value=-100)
    return {"input_ids": read["input_ids"], "attention_mask": read["attention_mask"], "labels": labels}


def own_losses(folder, rows, how):
    """The losses of a loop that is written here; how: PEFT's initialisation, None for full fine-tuning."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder)
    tokenizer.pad_token, rows, losses = "<s>", list(read_lines(rows)), []
    if how:
        modules = TARGETS[folder.name]
        config = LoraConfig(task_type="SEQ_2_SEQ_LM", init_lora_weights=how, r=4, lora_alpha=8, target_modules=modules)
        model = get_peft_model(model, config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, weight_decay=0)
    for step in range(STEPS):
        epoch, place = divmod(step, math.ceil(len(rows) / BATCH))
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(epoch)).tolist()
        chosen = [rows[i] for i in order[place * BATCH : (place + 1) * BATCH]]
        loss = model(**own_batch(tokenizer, chosen)).loss  # the mean over all tokens of the batch
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        warm = math.ceil(0.03 * STEPS)
        share = step / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (STEPS - warm)))
        optimizer.param_groups[0]["lr"] = RATE * share
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("kind", "method", "micro"), [("t5", "pissa", 2), ("gated", "full", 8), ("bart", "pissa", 4)])
def test_the_losses_are_those_of_a_plain_loop(tmp_path, models, tiny_rows, kind, method, micro):
    """Whatever the micro-batch is: the loss is the mean over the tokens of a batch, whose answers differ in length."""
    rows = tmp_path / "rows.jsonl"
    write_lines(
        rows, [row | {"response": row["response"] * (n % 4 + 1)} for n, row in enumerate(read_lines(tiny_rows))]
    )
    run = run_of(tmp_path, models, rows, kind, method)
    record = run.train("--micro-batch-size", str(micro))
    wanted = own_losses(models[kind], rows, method if methods.has_factors(method) else None)
    assert [row.loss for row in run.history()] == pytest.approx(wanted, rel=1e-4)
    assert max(wanted) - min(wanted) > 0.05
    assert record["architecture"] == "seq2seq" and record["batch"]["micro"] == micro


@pytest.mark.parametrize(("kind", "method"), [("t5", "pissa"), ("gated", "lora"), ("bart", "olora")])
def test_the_merged_model_is_what_peft_loads(tmp_path, models, tiny_rows, kind, method):
    """The trained folder says what task it is for, and stock PEFT gives the logits that are scored."""
    run = run_of(tmp_path, models, tiny_rows, kind, method)
    run.train()
    merged = run.merged(PROMPTS)
    assert read_json(run.trained / "adapter_config.json")["task_type"] == "SEQ_2_SEQ_LM" == SEQ2SEQ.task_type
    stock = PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(models[kind]), run.trained).eval()
    assert type(stock) is PeftModelForSeq2SeqLM
    assert relative_difference(logits(stock, PROMPTS), merged.logits) < 1e-5
    assert relative_difference(logits(merged.model, PROMPTS), merged.logits) < 1e-5
    assert merged.checks["training_effect"] > 1e-3
    card = (run.trained / "README.md").read_text(encoding="utf-8")
    assert "base = AutoModelForSeq2SeqLM.from_pretrained" in card and "vLLM runs no encoder-decoders" in card


@pytest.mark.parametrize("kind", ["gated", "bart"])
def test_a_whole_model_is_what_transformers_loads(tmp_path, models, tiny_rows, kind):
    run = run_of(tmp_path, models, tiny_rows, kind, "full")
    run.train()
    stock = AutoModelForSeq2SeqLM.from_pretrained(run.trained).eval()
    assert torch.equal(logits(stock, PROMPTS), run.merged(PROMPTS).logits)
    text = AutoTokenizer.from_pretrained(run.trained)("Ann", return_tensors="pt")
    assert stock.generate(**text, max_new_tokens=3)[0, 0] == stock.config.decoder_start_token_id
    card = (run.trained / "README.md").read_text(encoding="utf-8")
    assert f'AutoModelForSeq2SeqLM.from_pretrained("{run.trained.name}")' in card and "vllm serve" not in card


def test_a_training_goes_on_where_it_stopped(tmp_path, models, tiny_rows):
    whole, stopped = (run_of(tmp_path / name, models, tiny_rows, "t5", "pissa") for name in ("whole", "stopped"))
    whole.train("--checkpoint-steps", "3")
    stopped.fail_at(5, "--checkpoint-steps", "3")
    assert stopped.train("--checkpoint-steps", "3")["resumed_from"] == 3
    assert stopped.steps.read_bytes() == whole.steps.read_bytes()


@pytest.mark.parametrize(("kind", "dtype"), [("t5", "float32"), ("gated", "bfloat16"), ("bart", "float32")])
def test_a_packed_base_computes_what_the_quantized_weights_say(tmp_path, models, tiny_rows, kind, dtype):
    """T5 casts what goes into `wo` to the dtype of its weight: packed, it would be cut to whole numbers."""
    run = run_of(tmp_path, models, tiny_rows, kind, "pissa", "nf4", dtype=dtype)
    prepared, stored = run.prepare(), read_json(run.model)
    base = load_base(models[kind])
    set_base(base, load(run.start, stored), "nf4", "float32", pack=False)
    with prepared.model.disable_adapter():
        found = logits(prepared.model, PROMPTS)
    packed = {name for name, parameter in prepared.model.named_parameters() if parameter.dtype == torch.uint8}
    assert packed and any("decoder" in name for name in packed) and not any(".wo." in name for name in packed)
    assert relative_difference(found, logits(base, PROMPTS)) < (1e-5 if dtype == "float32" else 0.05)
    record = run.train()
    assert record["dtypes"]["trained"] == ["float32"] and run.merged(PROMPTS).checks["merge_error"] < 1e-5


def test_wo_alone_looks_at_its_weight():
    """In no other linear layer of transformers' encoder-decoders is an input cast to the dtype of a packed weight."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as NAMES

    folder = Path(transformers.__file__).parent / "models"
    found = set()
    for path in folder.glob("*/modeling_*.py"):
        text = path.read_text(encoding="utf-8")
        if path.parent.name in {name.replace("-", "_") for name in NAMES} and "uint8" not in text:
            found |= set(re.findall(r"\.to\(self\.(\w+)\.weight\.dtype\)", text))
    assert found - {"layer_norm"} == {"wo"}


def test_prompt_and_response_are_cut_each_by_itself(models):
    rows = [{"prompt": "a" * 300, "response": "one"}, {"prompt": "b", "response": "c" * 300}]
    tokenizer = load_tokenizer(models["bart"])
    examples, lengths = tokenize(rows, tokenizer, 128, architecture=SEQ2SEQ)
    eos, written = tokenizer.eos_token_id, [example["labels"] for example in examples]
    assert [len(example["input_ids"]) < 128 for example in examples] == [False, True]
    assert written[0] == tokenizer("one")["input_ids"] and written[0][-1] == eos
    assert len(written[1]) == 128 and eos not in written[1]
    assert lengths.truncated == 2 and lengths.dropped == 0 and lengths.response_tokens == sum(map(len, written))


@pytest.mark.parametrize("kind", TARGETS)
def test_nothing_is_cached_for_generating(tmp_path, models, tiny_rows, kind, monkeypatch):
    keep = transformers.DynamicCache.update

    def update(*given, **named):
        assert not torch.is_grad_enabled(), "keys and values are kept in a training"
        return keep(*given, **named)

    monkeypatch.setattr(transformers.DynamicCache, "update", update)
    run_of(tmp_path, models, tiny_rows, kind, "full", steps=1).train()


def test_a_micro_batch_is_tried_without_a_trace(tmp_path, models, tiny_rows, monkeypatch):
    """Its trainer takes other columns, and another loss, than TRL's."""
    monkeypatch.setattr(micro, "TRIED_ON", ("cpu",))
    monkeypatch.setattr(micro, "fastest", lambda seconds: 2)
    runs = [run_of(tmp_path / size, models, tiny_rows, "t5", "pissa", steps=3) for size in ("2", "auto")]
    for run in runs:
        assert run.train("--micro-batch-size", run.folder.name)["batch"]["micro"] == 2
    assert runs[0].steps.read_bytes() == runs[1].steps.read_bytes()
