"""What may not go wrong around the training: dtypes, the start-up, batches, processes."""

import sys

import pytest
import torch
from helpers import Run, gsm8k_rows
from safetensors.torch import load_file
from starting import alternating

from pissa_repro import methods
from pissa_repro.model import factors
from pissa_repro.model.adapter import attach
from pissa_repro.model.base import set_base
from pissa_repro.model.checks import logits, relative_difference
from pissa_repro.model.load import load_base
from pissa_repro.runtime import processes
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json
from pissa_repro.training import cell


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("method", "quant"), [("full", "none"), ("lora", "nf4"), ("loftq", "nf4"), ("pissa", "nf4"), ("pissa", "int8")]
)
def test_the_cells_of_the_paper_train_with_their_dtypes(tmp_path, tiny_model, tiny_rows, method, quant, dtype):
    """Trained float32 always (pitfall 13); the base packed in uint8 under nf4, the rest as the spec says, by
    whatever name (pitfalls 12, 14)."""
    options = alternating(method, quant, 2)
    run = Run(tmp_path, tiny_model, tiny_rows, method, quant, options=options, dtype=dtype, steps=3)
    run.init()
    record = run.train()
    frozen = [dtype, "uint8"] if quant == "nf4" else [dtype]
    assert record["dtypes"] == {"trained": ["float32"], "frozen": frozen if methods.has_factors(method) else []}
    tensors = load_file(run.factors / factors.FACTORS if run.init_spec else run.trained / "model.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    assert record["steps"] == 3 == len(run.history())
    assert record["trainable_parameters"] == sum(t.numel() for t in tensors.values())
    if methods.has_factors(method):
        before = load_file(run.start / factors.FACTORS)
        assert before.keys() == tensors.keys()
        assert all(not torch.equal(before[key], tensors[key]) for key in tensors if "lora_B" in key)
    assert not run.scratch.exists()


def test_the_start_up_of_a_quantized_cell_is_recorded(tmp_path, tiny_model, tiny_rows):
    """PiSSA's five alternations start nearer to the untouched model than QLoRA."""
    moved = {}
    for method, options in (("lora", {}), ("pissa", {"alternations": 5})):
        run = Run(tmp_path / method, tiny_model, tiny_rows, method, "nf4", options=options, rank=16)
        run.init()
        moved[method] = run.prepare().logits_difference
    assert 0 < moved["pissa"] < moved["lora"] < 0.2


@pytest.mark.parametrize("quant", ["nf4", "nf4-dq"])
def test_the_packed_base_is_the_scored_base(tmp_path, tiny_model, tiny_rows, quant):
    """Pitfalls 16, 24 (docs/pitfalls.md): the model in training and the dequantized one have the same logits."""
    run = Run(tmp_path, tiny_model, tiny_rows, "pissa", quant, options={"alternations": 2})
    run.init()
    prepared = run.prepare()
    packed, plain = prepared.model, load_base(tiny_model)
    set_base(plain, factors.load(run.start, read_json(run.model)), quant, "float32", pack=False)
    plain = attach(plain, run.start)
    prompts = [example["input_ids"] for example in prepared.examples[:3]]
    assert relative_difference(logits(packed, prompts), logits(plain, prompts)) < 1e-6
    layer = packed.base_model.model.model.layers[0].mlp.up_proj.base_layer
    assert type(layer).__name__ == "Linear4bit" and layer.weight.dtype == torch.uint8
    assert layer.weight.quant_state.nested == quant.endswith("-dq") == ("-dq-" in run.cell.name)


def test_a_layer_whose_rows_are_part_blocks_trains_on_the_right_base(tmp_path, shared_data):
    """stories260k's down_proj is 64 x 172: bitsandbytes would take wrong scales there, so it stays unpacked."""
    folder, rows = shared_data / "models" / "stories260k-hf", gsm8k_rows(shared_data, tmp_path, 8)
    run = Run(tmp_path, folder, rows, "lora", "nf4", max_length=512)
    run.init()
    model = run.prepare().model
    kinds = {name: type(model.base_model.model.get_submodule(name).base_layer).__name__ for name in run_modules(model)}
    assert {kind for name, kind in kinds.items() if name.endswith("down_proj")} == {"Linear"}
    assert {kind for name, kind in kinds.items() if name.endswith("up_proj")} == {"Linear4bit"}


def run_modules(model):
    """The names of the adapted modules."""
    return [name.removeprefix("base_model.model.") for name, m in model.named_modules() if hasattr(m, "base_layer")]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_start_up_gate_refuses_factors_that_change_the_model(tmp_path, tiny_model, tiny_rows, dtype):
    """Pitfalls 2, 10: the fingerprint is right but the offset is lost, so the adapter is on the untouched base."""
    run = Run(tmp_path, tiny_model, tiny_rows, "pissa", dtype=dtype)
    run.init()
    made = factors.load(run.start, read_json(run.model))
    made.offset = None
    factors.save(run.start, made, read_json(run.model), "lora", "none")
    with pytest.raises(UserError, match=r"start-up: base \+ sBA moves"):
        run.train()
    assert not run.trained.exists() and not run.record.exists()


def test_rounding_to_bfloat16_is_recorded_and_stops_nothing(tmp_path, tiny_model, tiny_rows, monkeypatch):
    """A real model of 30 layers moves by 6e-2 although LoRA's start adds nothing: the gate is on float32."""
    run = Run(tmp_path, tiny_model, tiny_rows, "lora", dtype="bfloat16", steps=1)
    run.init()
    monkeypatch.setattr(cell, "START_UP", 1e-5)
    assert run.train()["start_up"]["logits_difference"] > 1e-3


@pytest.mark.parametrize("quant", ["none", "nf4"])
def test_factors_of_another_model_are_refused_before_training(tmp_path, tiny_model, tiny_rows, shared_data, quant):
    other = Run(tmp_path / "other", shared_data / "models" / "stories260k-hf", tiny_rows, "pissa", quant)
    other.init()
    run = Run(tmp_path / "run", tiny_model, tiny_rows, "pissa", quant)
    other.start.rename(run.start)
    with pytest.raises(UserError, match="of another model"):
        run.train()
    assert not run.trained.exists()


def test_damaged_factors_are_refused_with_their_name(tmp_path, tiny_model, tiny_rows):
    run = Run(tmp_path, tiny_model, tiny_rows, "pissa")
    run.init()
    path = run.start / factors.FACTORS
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"factors.safetensors: cannot be read"):
        run.train()


def test_dropout_does_not_disturb_the_start_up_and_acts_in_training(tmp_path, tiny_model, tiny_rows):
    losses = []
    for dropout in (0, 0.3):
        run = Run(tmp_path / str(dropout), tiny_model, tiny_rows, "pissa", dropout=dropout, steps=2)
        run.init()
        assert run.train()["start_up"]["logits_difference"] < 1e-5
        losses.append(run.history()[0].loss)
    assert losses[0] != losses[1]


@pytest.mark.parametrize("quant", ["none", "nf4"])
def test_dora_starts_at_the_same_model(tmp_path, tiny_model, tiny_rows, quant):
    """PEFT derives DoRA's magnitudes before our factors are loaded; they have to be derived anew."""
    run = Run(tmp_path, tiny_model, tiny_rows, "pissa", quant, lora={"use_dora": True}, steps=2)
    run.init()
    dora = run.train()
    plain = Run(tmp_path / "plain", tiny_model, tiny_rows, "pissa", quant, steps=2)
    plain.init()
    same = plain.train()
    assert dora["start_up"]["logits_difference"] == pytest.approx(same["start_up"]["logits_difference"], abs=1e-5)
    assert run.history()[0].loss == pytest.approx(plain.history()[0].loss, rel=1e-5)
    assert dora["trainable_parameters"] > same["trainable_parameters"]


def test_trained_factors_name_their_modules_in_one_order(tmp_path, tiny_model, tiny_rows):
    """PEFT keeps them as a set, whose order differs between processes."""
    run = Run(tmp_path, tiny_model, tiny_rows, "lora")
    run.init()
    model = run.prepare().model
    targets = model.peft_config["default"].target_modules
    cell.save_trained(model, run.trained, run.start)
    assert read_json(run.factors / factors.CONFIG)["target_modules"] == sorted(targets)


def test_steps_are_written_to_the_last_bit(tmp_path):
    path, values = tmp_path / "steps.csv", [0.1 + 0.2, 1 / 3, 2.0000000000000004, 1e-320]
    keys = ("loss", "learning_rate", "grad_norm")
    history = [dict.fromkeys(keys, value) | {"step": n} for n, value in enumerate(values, 1)]
    cell.write_steps(path, [*history, {"step": 4, "train_loss": 0.5}])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "step,loss,learning_rate,grad_norm" and len(lines) == 5
    assert [tuple(map(float, line.split(",")[1:])) for line in lines[1:]] == [(v, v, v) for v in values]


def test_the_same_seed_trains_to_the_same_bits_and_another_does_not(tmp_path, tiny_model, tiny_rows):
    texts = []
    for number, seed in enumerate((0, 0, 1)):
        run = Run(tmp_path / str(number), tiny_model, tiny_rows, "pissa", seed=seed, steps=4)
        run.init()
        run.train()
        texts.append((run.steps.read_text(encoding="utf-8"), (run.factors / factors.FACTORS).read_bytes()))
    assert texts[0] == texts[1]
    assert texts[0][0] != texts[2][0]


@pytest.mark.parametrize(
    ("batch", "micro", "world", "wanted"),
    [
        (128, 4, 8, (4, 4)),
        (128, 4, 1, (4, 32)),
        (12, 5, 1, (4, 3)),
        (7, 4, 1, (1, 7)),
        (2, 4, 2, (1, 1)),
        (6, 4, 2, (3, 1)),
    ],
)
def test_the_effective_batch_is_kept(batch, micro, world, wanted):
    size, accumulation = cell.split_batch(batch, micro, world)
    assert (size, accumulation) == wanted
    assert size * accumulation * world == batch and size <= micro


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(UserError, match=r"batch_size: 5 .* 2 processes"):
        cell.split_batch(5, 4, 2)


def test_two_processes_train_as_one(tmp_path, tiny_model, tiny_rows, capfd):
    """On the CPU: the same losses, one record, checkpoints written and removed once, progress said once."""
    one, two = (Run(tmp_path / n, tiny_model, tiny_rows, "pissa", steps=7, learning_rate=5e-3) for n in ("one", "two"))
    one.init()
    one.train("--micro-batch-size", "2")
    two.init()
    argv = two.train_argv("--micro-batch-size", "2", "--checkpoint-steps", "3")
    capfd.readouterr()
    processes.run([sys.executable, "-m", "pissa_repro.stages.train", *argv], 2)
    assert capfd.readouterr().err.count("train 7/7") == 1
    assert read_json(two.record)["batch"] == {"effective": 4, "micro": 2, "accumulation": 1, "processes": 2}
    for first, second in zip(one.history(), two.history(), strict=True):
        assert second.loss == pytest.approx(first.loss, rel=1e-4)
        assert second.grad_norm == pytest.approx(first.grad_norm, rel=1e-3)
    assert len(two.history()) == 7 and not two.scratch.exists()
