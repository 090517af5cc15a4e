"""A model with a fresh head is trained on classes as a plain loop trains it with stock PEFT, and goes on bit by bit."""

import math

import pytest
import torch
from classifiers import TARGETS, run_of, save_bert, save_classifier
from damage import add, edit
from peft import LoraConfig, get_peft_model
from stage import says
from tiny import byte_tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer, RobertaConfig
from transformers import RobertaForSequenceClassification as Roberta

from pissa_repro import methods
from pissa_repro.model import classes
from pissa_repro.model.checks import logits
from pissa_repro.model.load import load_base, window
from pissa_repro.model.tokens import load_tokenizer
from pissa_repro.runtime.record import read_json, read_lines
from pissa_repro.training import micro
from pissa_repro.training.examples import classified

HEAD = classes.Head(("0", "1"), 0)
STEPS, BATCH, RATE = 6, 8, 3e-3  # twelve rows: two steps an epoch, the second of four
NAME = {"bert": "classifier", "llama": "score"}


def own_losses(folder, rows, how, kind):
    """The losses of a loop that is written here, from our head; how: PEFT's initialisation, None for full training."""
    rows, tokenizer = list(read_lines(rows)), AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    names = sorted({row["label"] for row in rows})
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=len(names), pad_token_id=tokenizer.pad_token_id
    )
    ours = load_base(folder, head=classes.Head(tuple(names), 0))
    model.get_submodule(NAME[kind]).load_state_dict(ours.get_submodule(NAME[kind]).state_dict())
    if how:
        targets = TARGETS[kind]
        model = get_peft_model(
            model, LoraConfig(task_type="SEQ_CLS", init_lora_weights=how, r=4, lora_alpha=4, target_modules=targets)
        )
    trained, losses = [parameter for parameter in model.parameters() if parameter.requires_grad], []
    optimizer = torch.optim.AdamW(trained, weight_decay=0)
    for step in range(STEPS):
        epoch, place = divmod(step, math.ceil(len(rows) / BATCH))
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(epoch)).tolist()
        some = [rows[i] for i in order[place * BATCH : (place + 1) * BATCH]]
        pairs = [row["text_pair"] for row in some] if "text_pair" in some[0] else None
        batch = tokenizer([row["text"] for row in some], pairs, padding=True, return_tensors="pt")
        loss = model(**batch, labels=torch.tensor([names.index(row["label"]) for row in some])).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        warm = math.ceil(0.03 * STEPS)
        share = step / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (STEPS - warm)))
        optimizer.param_groups[0]["lr"] = RATE * share
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("kind", "form", "method", "micro"), [("llama", "one", "pissa", 2), ("bert", "two", "full", 8)]
)
def test_the_losses_are_those_of_a_plain_loop(tmp_path, models, rows, kind, form, method, micro):
    """Whatever the micro-batch is. BERT has a token type for second texts; padding tells where a text ends in Llama."""
    settings = {"steps": STEPS, "batch_size": BATCH, "learning_rate": RATE}
    run = run_of(tmp_path, models[kind], rows[form], method, **settings)
    record = run.train("--micro-batch-size", str(micro))
    has_factors = methods.has_factors(method)
    wanted = own_losses(models[kind], rows[form], method if has_factors else None, kind)
    assert [row.loss for row in run.history()] == pytest.approx(wanted, rel=1e-4)
    assert max(wanted) - min(wanted) > 0.05
    assert record["architecture"] == "classification" and record["batch"]["micro"] == micro
    assert record["lengths"]["examples"] == 12 and record["lengths"]["truncated"] == 0
    head = load_base(models[kind], head=HEAD).get_submodule(NAME[kind])
    if has_factors:
        start = read_json(run.start / "init.json")
        assert start["spec"]["target_modules"] == TARGETS[kind]
        prepared = run.prepare().model
        factors = sum(p.numel() for name, p in prepared.named_parameters() if ".lora_" in name)
        assert record["trainable_parameters"] == factors + sum(p.numel() for p in head.parameters())


def test_a_fresh_head_is_a_matter_of_its_seed_and_its_name(models):
    """Not of what was drawn before; as wide as the model's own matrices, with biases of zero."""
    torch.manual_seed(5)
    first = load_base(models["bert"], head=HEAD)
    again, other = (load_base(models["bert"], head=classes.Head(HEAD.classes, seed)) for seed in (0, 1))
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    assert torch.equal(first.bert.pooler.dense.weight, other.bert.pooler.dense.weight)
    wide = load_base(models["bert"], head=classes.Head(tuple(map(str, range(500))), 0)).classifier
    assert wide.weight.std().item() == pytest.approx(first.config.initializer_range, rel=0.02) and not wide.bias.any()
    assert (first.config.id2label, first.config.num_labels) == ({0: "0", 1: "1"}, 2)


@pytest.mark.parametrize("kind", ["saved", "hub"])
def test_a_fresh_head_is_put_on_either_naming(tiny_gpt2, kind):
    """The files of GPT-2 on the hub do not name the base model."""
    model = load_base(tiny_gpt2[kind], head=HEAD)
    assert classes.modules(model) == ["score"] and model.score.weight.any()
    stock = AutoModelForSequenceClassification.from_pretrained(tiny_gpt2[kind], num_labels=2, pad_token_id=1)
    stock.score.load_state_dict(model.score.state_dict())
    assert torch.equal(logits(stock.eval(), [[5, 9, 1]]), logits(model, [[5, 9, 1]]))


def test_a_head_that_is_there_is_taken_with_its_order(tmp_path, models):
    """Its own names, in its own order; a head without names takes the rows'."""
    folder = save_classifier(models["bert"], tmp_path / "named", ("odd", "even"))
    model = load_base(folder, head=classes.Head(("even", "odd"), 0))
    stock = AutoModelForSequenceClassification.from_pretrained(folder)
    assert torch.equal(model.classifier.weight, stock.classifier.weight)
    assert model.config.label2id == {"odd": 0, "even": 1}
    folder = save_classifier(models["bert"], tmp_path / "unnamed", ("LABEL_0", "LABEL_1"))
    assert load_base(folder, head=classes.Head(("a", "b"), 0)).config.id2label == {0: "a", 1: "b"}


def test_a_training_goes_on_where_it_stopped(tmp_path, models, rows):
    whole, stopped = (run_of(tmp_path / name, models["llama"], rows["one"], "pissa") for name in ("whole", "stopped"))
    whole.train("--checkpoint-steps", "2")
    stopped.fail_at(3, "--checkpoint-steps", "2")
    assert stopped.train("--checkpoint-steps", "2")["resumed_from"] == 2
    assert stopped.steps.read_bytes() == whole.steps.read_bytes()
    name = "factors.safetensors"
    assert (stopped.factors / name).read_bytes() == (whole.factors / name).read_bytes()


@pytest.mark.parametrize("quant", ["none", "nf4"])
def test_the_head_trains_in_float32_on_a_base_in_bfloat16(tmp_path, models, rows, quant):
    run = run_of(tmp_path, models["bert"], rows["two"], "pissa", quant, dtype="bfloat16", steps=2)
    record = run.train()
    assert record["dtypes"]["trained"] == ["float32"] and "bfloat16" in record["dtypes"]["frozen"]
    assert run.merged([[1, 40, 2]]).checks["merge_error"] < 1e-5


def test_texts_are_cut_as_the_tokenizer_cuts_and_counted(models):
    tokenizer = load_tokenizer(models["bert"], needs_end=False)
    pairs = [
        {"text": "a" * 90, "text_pair": "b", "label": "x"}, {"text": "a", "text_pair": "b", "label": "y"},
    ]  # fmt: skip
    examples, lengths = classified(pairs, tokenizer, 32, {"x": 0, "y": 1})
    long, short = (example["input_ids"] for example in examples)
    assert len(long) == 32 and long[-1] == short[-1] == tokenizer.sep_token_id and long[-2] == short[-2]
    assert [example["labels"] for example in examples] == [0, 1]
    assert examples[1]["token_type_ids"] == [0, 0, 0, 1, 1]
    assert (lengths.examples, lengths.truncated, lengths.tokens) == (2, 1, 32 + len(short))
    empty = [{"text": "", "label": "x"}]
    says(lambda: classified(empty, byte_tokenizer("$A"), 32, {"x": 0}), "row 0 has no tokens")


def test_a_table_of_positions_behind_padding_is_longer_than_a_text():
    """RoBERTa's first position is that behind the one of padding."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = RobertaConfig(vocab_size=20, max_position_embeddings=12, pad_token_id=1, **sizes)
    model, longest = Roberta(config), window(config, 10**9)
    model(input_ids=torch.full((1, longest), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, longest + 1), 5))


def test_what_only_the_files_of_the_head_may_lack(tmp_path, models):
    """Another missing weight is damage, with a fresh head as without; so is a missing part of a head that was there."""
    folder = save_bert(tmp_path / "masked")  # it has no pooler, which a classifier reads
    says(lambda: load_base(folder, head=HEAD), str(folder), "bert.pooler.dense", "do not hold")
    folder = save_classifier(models["bert"], tmp_path / "named", ("0", "1"))
    add(folder, ("classifier.bias",))
    says(lambda: load_base(folder, head=HEAD), str(folder), "classifier.bias", "do not hold")
    edit(folder / "config.json", architectures=["BertForTokenClassification"])
    says(lambda: load_base(folder, head=HEAD), "BertForTokenClassification", "something else", "Choices:")


def test_a_micro_batch_is_tried_without_a_trace(tmp_path, models, rows, monkeypatch):
    """Its trainer takes other columns, and another loss, than TRL's."""
    monkeypatch.setattr(micro, "TRIED_ON", ("cpu",))
    monkeypatch.setattr(micro, "fastest", lambda seconds: 2)
    runs = [run_of(tmp_path / size, models["bert"], rows["one"], "pissa", steps=3) for size in ("2", "auto")]
    for run in runs:
        assert run.train("--micro-batch-size", run.folder.name)["batch"]["micro"] == 2
    assert runs[0].steps.read_bytes() == runs[1].steps.read_bytes()
