"""Statistics of data equal those of the whole model by autograd, outlast a kill, and take memory of one block."""

from collections import Counter

import pytest
import torch
from encoders import save_encoder_decoder
from stage import says
from starting import relative
from tiny import ROWS, byte_tokenizer

from pissa_repro import methods
from pissa_repro.model import walk
from pissa_repro.model.architecture import architecture
from pissa_repro.model.base import module_name, stores_transposed
from pissa_repro.model.blocks import Blocks, Notes
from pissa_repro.model.checkpoint import projections, shapes
from pissa_repro.model.load import load_base
from pissa_repro.model.statistics import GRADIENT, measure, row_of
from pissa_repro.model.tokens import load_tokenizer
from pissa_repro.model.walk import Sum
from pissa_repro.plan.config import ROOT
from pissa_repro.training.examples import tokenize

CPU = torch.device("cpu")
SEQ2SEQ = ("t5", "gated", "bart")
MODELS = ("llama", "gpt2-saved", "gpt2-hub", "embedded", *SEQ2SEQ)


@pytest.fixture(scope="module")
def folders(tiny_model, tiny_gpt2, tmp_path_factory):
    """Model folders by name."""
    found = {"llama": tiny_model, "embedded": ROOT / "pissa_repro/embedded/model"}
    found |= {f"gpt2-{name}": folder for name, folder in tiny_gpt2.items()}
    return found | {kind: save_encoder_decoder(tmp_path_factory.mktemp(kind) / kind, kind) for kind in SEQ2SEQ}


def loaded(folder, count=3):
    """A model on the host, the first rows as training makes them, and the names of its projections."""
    model, data = load_base(folder, device="cpu"), [{"prompt": p, "response": r} for p, r in ROWS[:count]]
    examples, _ = tokenize(data, load_tokenizer(folder), 256, architecture=architecture(model.config))
    rows = [row_of(model, example["input_ids"], example["labels"]) for example in examples]
    return model, rows, list(shapes(folder, projections(folder)))


def whole(model, rows, names):
    """The statistics of every module {kind: {name: float64}} by hooks on the whole model and one backward of a loss."""
    inputs, layers = {name: [] for name in names}, {}
    for name in names:
        layers[name] = model.get_submodule(module_name(model, name))
        layers[name].weight.requires_grad_(True)
        seen = inputs[name]
        layers[name].register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0].detach().flatten(0, 1)))
    logits = torch.cat([model(**row.inputs).logits[0] for row in rows])
    torch.nn.functional.cross_entropy(logits, torch.cat([row.labels[0] for row in rows])).backward()
    found = {kind: {} for kind in methods.KINDS}
    for name, layer in layers.items():
        x, gradient = torch.cat(inputs[name]).double(), layer.weight.grad
        found["gradient"][name] = gradient.t() if stores_transposed(layer) else gradient
        found["covariance"][name] = x.mT @ x / len(x)
        found["magnitude"][name] = x.abs().mean(0)
    return found, {name: sum(map(len, seen)) for name, seen in inputs.items()}


@pytest.mark.parametrize("name", MODELS)
def test_statistics_are_those_of_the_whole_model(folders, name):
    model, rows, names = loaded(folders[name])
    found = {kind: dict(measure(model, rows, names, kind, CPU)) for kind in methods.KINDS}
    wanted, tokens = whole(model, rows, names)
    for kind in methods.KINDS:
        assert found[kind].keys() == set(names)
        for module, (value, seen) in found[kind].items():
            assert value.dtype == torch.float32 and value.shape == wanted[kind][module].shape
            assert relative(value, wanted[kind][module]) < 2e-6, (kind, module)
            assert seen == tokens[module]


def test_the_kinds_of_methods_are_those_that_are_measured():
    assert (GRADIENT, *walk.OF_INPUTS) == methods.KINDS


def test_a_long_sum_does_not_stop_growing():
    """In float32 it stops at 2^24 of what is added."""
    parts = [torch.full((3,), 2.0**24), *[torch.ones(3)] * 100]
    one, short = Sum(), torch.zeros(3)
    for part in parts:
        one.add(part)
        short += part
    assert one.total.tolist() == [2.0**24 + 100] * 3
    assert short.tolist() == [2.0**24] * 3


def test_sums_that_do_not_fit_together_are_measured_one_after_the_other(folders, monkeypatch):
    model, rows, names = loaded(folders["llama"])
    together = dict(measure(model, rows, names, "covariance", CPU))
    monkeypatch.setattr(walk, "LIMIT", 1)
    alone = dict(measure(model, rows, names, "covariance", CPU))
    assert all(torch.equal(alone[name].value, one.value) for name, one in together.items())


@pytest.mark.parametrize("kind", methods.KINDS)
@pytest.mark.parametrize("name", ["llama", "t5"])
def test_work_that_is_stopped_anywhere_goes_on_with_the_same_bits(folders, name, kind, tmp_path):
    model, rows, names = loaded(folders[name], count=2)
    wanted = dict(measure(model, rows, names, kind, CPU))
    a_block = max(Counter(map(block_of, names)).values())
    for stop in range(1, len(names), 5):
        folder = tmp_path / str(stop)
        folder.mkdir()
        first = measure(model, rows, names, kind, CPU, Notes(folder))
        before = dict(next(first) for _ in range(stop))
        first.close()
        after = dict(measure(model, rows, names, kind, CPU, Notes(folder)))
        assert len(before.keys() & after.keys()) < a_block
        assert (before | after).keys() == wanted.keys()
        assert all(torch.equal(wanted[module].value, one.value) for module, one in (before | after).items())


def block_of(name):
    """The block that a module is in: its name up to the first number."""
    parts = name.split(".")
    return ".".join(parts[: 1 + next(place for place, part in enumerate(parts) if part.isdigit())])


def deep(layers):
    """A Llama of so many equal layers, and two rows."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(byte_tokenizer()), hidden_size=96, intermediate_size=160, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=4,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    names = [f"model.layers.{n}.{part}" for n in range(layers) for part in ("self_attn.q_proj", "mlp.down_proj")]
    return model, [row_of(model, list(range(40)), list(range(40)))] * 2, names


def most_bytes(layers, kind, folder):
    """The most bytes that a measurement has allocated at a time, counted in torch's allocator.

    By their addresses: of a block that was allocated before, the allocator may tell the size of an older one.
    """
    from torch.profiler import ProfilerActivity, profile

    model, rows, names = deep(layers)
    folder.mkdir()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        for _ in measure(model, rows, names, kind, CPU, Notes(folder)):
            pass
    alive, most = {}, 0
    for event in sorted(allocations(watched.profiler.kineto_results.experimental_event_tree()), key=by_time):
        block = event.extra_fields
        if block.alloc_size > 0:
            alive[block.ptr] = block.alloc_size
            most = max(most, sum(alive.values()))
        else:
            alive.pop(block.ptr, None)
    return most


def allocations(events):
    """The events of the allocator in a profile's tree."""
    for event in events:
        if event.name == "[memory]":
            yield event
        yield from allocations(event.children)


def by_time(event):
    return event.start_time_ns


@pytest.mark.parametrize("kind", ["gradient", "covariance"])
def test_memory_does_not_grow_with_the_number_of_layers(kind, tmp_path):
    few, many = (most_bytes(layers, kind, tmp_path / str(layers)) for layers in (3, 9))
    assert 0 < many <= 1.02 * few, (few, many)


def test_a_model_whose_blocks_are_not_called_in_order_is_measured_as_a_whole(folders):
    model, rows, names = loaded(folders["llama"], count=2)
    wanted = {kind: dict(measure(model, rows, names, kind, CPU)) for kind in methods.KINDS}
    model.model.spare = torch.nn.ModuleList([torch.nn.Linear(2, 2)])  # never called
    assert not Blocks(model, rows[0].inputs, CPU).names
    for kind in methods.KINDS:
        for name, (value, _) in measure(model, rows, names, kind, CPU):
            assert relative(value, wanted[kind][name].value) < 2e-6


@pytest.mark.parametrize("kind", methods.KINDS)
def test_what_cannot_be_measured_is_refused_by_name(folders, kind):
    model, rows, names = loaded(folders["llama"], count=1)
    says(lambda: list(measure(model, [], names, kind, CPU)), "no rows")
    says(lambda: list(measure(model, rows, ["model.layers.9.mlp.up_proj"], kind, CPU)), "model.layers.9.mlp.up_proj")
    model.model.layers[1].mlp.expert = torch.nn.Linear(64, 64)  # as one that no token is sent to
    asked = ["model.layers.0.mlp.up_proj", "model.layers.1.mlp.expert"]
    says(lambda: list(measure(model, rows, asked, kind, CPU)), "no row reached model.layers.1.mlp.expert")
    model.model.layers[0].input_layernorm.weight.data.fill_(3e38)
    says(lambda: list(measure(model, rows, names, kind, CPU)), "model.layers", "not finite")


def test_a_tied_weight_is_refused(folders):
    model, rows, _ = loaded(folders["t5"], count=1)
    says(lambda: list(measure(model, rows, ["lm_head"], "gradient", CPU)), "lm_head", "shares its weight")


def test_modules_outside_the_blocks_are_measured_too(folders):
    model, rows, _ = loaded(folders["llama"])
    found = {kind: dict(measure(model, rows, ["lm_head"], kind, CPU)) for kind in methods.KINDS}
    wanted, _ = whole(model, rows, ["lm_head"])
    assert all(relative(found[kind]["lm_head"].value, wanted[kind]["lm_head"]) < 2e-6 for kind in methods.KINDS)
