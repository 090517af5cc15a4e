"""`compile: true`: blocks through torch.compile train as they do without it, also where processes share the weights."""

import pytest
import torch
from forked import trained
from helpers import Run
from stage import says
from torch._dynamo.utils import counters
from transformers import LlamaConfig, LlamaForCausalLM

from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json
from pissa_repro.training.compiled import check_compiler, compile_blocks

WAYS = {  # processes, and options
    "plain": (1, "--sharding", "none"),
    "compiled": (1, "--compile", "yes", "--gradient-checkpointing", "yes"),
    "shared": (2, "--compile", "yes", "--sharding", "full"),
}


@pytest.fixture(scope="module")
def compiler():
    try:
        check_compiler()
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("compiler")
def test_a_compiled_model_trains_alike(tmp_path, tiny_model, tiny_rows):
    runs, jobs = {}, []
    for way, (count, *options) in WAYS.items():
        runs[way] = Run(tmp_path / way, tiny_model, tiny_rows, "pissa", steps=2)
        runs[way].init()
        argv = runs[way].train_argv("--micro-batch-size", str(4 // count), *options)
        jobs.append({"count": count, "argv": argv})
    said = trained(tmp_path, *jobs)
    plain, *others = runs.values()
    for run in others:
        assert [row.loss for row in run.history()] == pytest.approx([row.loss for row in plain.history()], rel=1e-5)
        assert {*read_json(run.record)["trained_sha256"]} == {*read_json(plain.record)["trained_sha256"]}
    assert [read_json(run.record).get("compile") for run in runs.values()] == [None, True, True]
    assert said.count("graphs: ") == 3, "one process, and two"


@pytest.mark.usefixtures("compiler")
def test_blocks_of_one_form_are_compiled_once(count=5):
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=count, num_attention_heads=2,
        num_key_value_heads=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    names, rows = list(model.state_dict()), [torch.arange(2 * wide).reshape(2, wide) % 64 for wide in (7, 12, 20)]
    wanted = [model(row, labels=row, use_cache=False).loss.item() for row in rows]
    torch._dynamo.reset()
    counters.clear()
    compile_blocks(model)
    for row, loss in zip(rows, wanted, strict=True):
        made = model(row, labels=row, use_cache=False).loss
        made.backward()
        assert made.item() == pytest.approx(loss, rel=1e-5)
    assert counters["stats"]["unique_graphs"] == 1
    assert list(model.state_dict()) == names


@pytest.mark.usefixtures("compiler")
def test_blocks_that_differ_are_compiled_each_by_itself(count=9):
    """torch gives up after eight forms."""

    class Block(torch.nn.Linear):
        def forward(self, given):
            return super().forward(given).sum(-1, keepdim=True).expand_as(given)

    torch._dynamo.reset()
    counters.clear()
    model = torch.nn.Module()
    model.layers = torch.nn.ModuleList(Block(8, 3 + number) for number in range(count))
    compile_blocks(model)
    given = torch.ones(2, 8)
    for block in model.layers:
        given = block(given)
    assert counters["stats"]["unique_graphs"] == count


@pytest.mark.usefixtures("compiler")
def test_a_model_without_a_list_of_blocks_is_compiled_as_a_whole():
    class Alone(torch.nn.Linear):
        def forward(self, given):
            return super().forward(given).relu()

    torch._dynamo.reset()
    counters.clear()
    model = Alone(3, 4)
    compile_blocks(model)
    model(torch.ones(2, 3))
    assert counters["stats"]["unique_graphs"] == 1


def test_a_compiler_that_is_missing_is_told_before_the_training(tmp_path, tiny_model, tiny_rows, monkeypatch):
    run = Run(tmp_path, tiny_model, tiny_rows, "full")
    monkeypatch.setenv("CXX", "no-such-compiler")
    says(lambda: run.train("--compile", "yes"), "--compile yes", "no-such-compiler", "CXX")
    monkeypatch.setenv("CXX", "true")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    says(lambda: run.train("--compile", "yes"), "Python.h", str(tmp_path))
