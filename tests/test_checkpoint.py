"""Weights read from a folder's safetensors: names, shapes, orientation, dtypes and memory."""

import json
import re
import shutil
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from stage import LLAMA
from torch.utils._python_dispatch import TorchDispatchMode

from pissa_repro.model import checkpoint, naming

GPT2 = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
ATTENTION = [f"{kind}.{name}" for name in "qkvo" for kind in ("SelfAttention", "EncDecAttention")]


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> dict[str, Path]:
    """A small T5, with a plain and with a gated feed-forward."""
    from transformers import T5Config, T5ForConditionalGeneration

    folders = {}
    for kind in ("relu", "gated-gelu"):
        config = T5Config(
            vocab_size=40, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, feed_forward_proj=kind
        )  # fmt: skip
        folders[kind] = tmp_path_factory.mktemp("t5") / kind
        T5ForConditionalGeneration(config).save_pretrained(folders[kind])
    return folders


@pytest.fixture
def folder(tmp_path):
    """Make a model folder of given tensors, files and config."""

    def make(tensors: dict[str, torch.Tensor], **config) -> Path:
        save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **config}), encoding="utf-8")
        return tmp_path

    return make


def models_of_transformers() -> Path:
    import transformers

    return Path(transformers.__file__).parent / "models"


def test_the_conv1d_models_are_those_of_transformers():
    types, layers = set(), set()
    for source in models_of_transformers().glob("*/modeling_*.py"):
        names = re.findall(r"self\.(\w+) = Conv1D\(", source.read_text(encoding="utf-8"))
        if names:
            layers |= set(names)
            assert not re.search(
                rf"self\.({'|'.join(names)}) = nn\.", source.read_text(encoding="utf-8")
            )  # of these names all are
            for config in source.parent.glob("configuration_*.py"):
                types |= set(re.findall(r'model_type = "([^"]+)"', config.read_text(encoding="utf-8")))
    assert layers == naming.CONV1D_LAYERS
    assert types == naming.CONV1D_TYPES | {"clvp_encoder"}  # in one folder with a decoder that has some


def test_embeddings_are_known_by_the_names_of_transformers():
    for source in models_of_transformers().glob("*/modeling_*.py"):
        linear = re.findall(r"self\.(\w+) = nn\.Linear\(", source.read_text(encoding="utf-8"))
        assert [name for name in linear if naming.is_embedding(name)] == [], source
    for name in "llama mistral gemma gemma2 qwen2 qwen3 gpt2 openai t5 opt bloom falcon gpt_neox bert bart".split():
        source = models_of_transformers() / name / f"modeling_{name}.py"
        found = re.findall(
            r"self\.(\w+) = (?:nn\.Embedding|\w+WordEmbedding|\w+LearnedPositional\w+)\(",
            source.read_text(encoding="utf-8"),
        )
        assert found and all(naming.is_embedding(f"model.{name}") for name in found), (source, found)


@pytest.mark.parametrize("kind", ["saved", "hub"])
def test_a_conv1d_weight_is_walked_as_out_in(tiny_gpt2, kind):
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(tiny_gpt2["saved"])
    walked = dict(checkpoint.targets(tiny_gpt2[kind], GPT2))
    front = "transformer." if kind == "saved" else ""
    assert list(walked) == [f"{front}h.{n}.{name}" for n in (0, 1) for name in GPT2]
    for name, weight in walked.items():
        layer = model.get_submodule("transformer." + name.removeprefix("transformer."))
        x = torch.randn(3, weight.shape[1])
        assert weight.is_contiguous() and torch.equal(weight, layer.weight.t())
        torch.testing.assert_close(x @ weight.t() + layer.bias, layer(x))


def test_linear_weights_are_walked_as_they_are(tiny_model, t5):
    for path, names in ((tiny_model, LLAMA), (t5["relu"], ["wi", "SelfAttention.q"])):
        tensors = load_file(path / "model.safetensors")
        walked = dict(checkpoint.targets(path, names))
        assert walked and all(torch.equal(weight, tensors[f"{name}.weight"]) for name, weight in walked.items())
        assert checkpoint.transposed(path) == frozenset()


def test_what_decides_the_orientation_is_the_type_and_the_layer(folder):
    """GPT-BigCode has a Linear c_attn; the head of a GPT-2 is a Linear; a decoder can be a GPT-2."""
    tensors = {"h.0.attn.c_attn.weight": torch.zeros(4, 12), "lm_head.weight": torch.zeros(9, 4)}
    wanted = {"h.0.attn.c_attn": (4, 12), "lm_head": (9, 4)}
    targets = ["c_attn", "lm_head"]
    assert checkpoint.shapes(folder(tensors, model_type="gpt_bigcode"), targets) == wanted
    wanted["h.0.attn.c_attn"] = (12, 4)
    assert checkpoint.shapes(folder(tensors, model_type="gpt2"), targets) == wanted
    composed = folder(tensors, model_type="vision-encoder-decoder", decoder={"model_type": "gpt2"})
    assert checkpoint.shapes(composed, targets) == wanted
    assert checkpoint.transposed(composed) == {"c_attn", "q_attn", "c_proj", "c_fc"}


def test_projections_where_none_are_named(tiny_model, tiny_gpt2, t5):
    assert checkpoint.projections(tiny_model) == LLAMA
    assert checkpoint.projections(tiny_gpt2["saved"]) == checkpoint.projections(tiny_gpt2["hub"]) == GPT2
    relu, gated = (checkpoint.projections(t5[kind]) for kind in ("relu", "gated-gelu"))
    assert sorted(relu) == sorted([*ATTENTION, "DenseReluDense.wi", "DenseReluDense.wo"])
    assert set(gated) - set(relu) == {"DenseReluDense.wi_0", "DenseReluDense.wi_1"}


def test_projections_are_all_matrices_in_the_layers_but_embeddings(tiny_model, tiny_gpt2, t5):
    for path in (tiny_model, *tiny_gpt2.values(), *t5.values()):
        tensors = load_file(path / "model.safetensors")
        left_out = re.compile(r"embed_tokens|lm_head|wte|wpe|shared|relative_attention_bias")
        matrices = {n.removesuffix(".weight") for n, t in tensors.items() if t.ndim == 2 and not left_out.search(n)}
        assert set(checkpoint.shapes(path, checkpoint.projections(path))) == matrices


@pytest.mark.parametrize(("modules", "others", "wanted"), [
    # Mixture of experts: a number stands between the name and its parent, so the bare name has to do.
    (["layers.0.mlp.up", "layers.1.experts.0.up", "layers.1.shared.up"], [], ["up", "mlp.up", "shared.up"]),
    # Another module outside the layers ends in the same: a longer name keeps it out.
    (["blocks.0.attn.proj"], ["patch.proj"], ["attn.proj"]),
    (["a.0.b.proj", "a.1.b.proj"], ["c.b.proj"], ["0.b.proj", "1.b.proj"]),
    # BART: fc1 lies directly in the layer. nn.Sequential: a number is the name.
    (["l.0.self.q", "l.0.cross.q", "l.0.fc1"], ["emb"], ["self.q", "cross.q", "fc1"]),
    (["l.0.mlp.0", "l.0.mlp.2"], ["merger.0"], ["mlp.0", "mlp.2"]),
])  # fmt: skip
def test_short_names_stand_for_the_modules_and_for_no_other(modules, others, wanted):
    found = naming.suffixes(modules, others)
    assert sorted(found) == sorted(wanted)
    hits = naming.matching([f"{name}.weight" for name in [*modules, *others]], found).values()
    assert {name for names in hits for name in names} == set(modules)


def test_projection_types_for_tables(tiny_model, tiny_gpt2, t5):
    def kinds(path):
        return naming.types(checkpoint.shapes(path, checkpoint.projections(path)))

    llama = kinds(tiny_model)
    assert llama["model.layers.1.self_attn.q_proj"] == "q_proj" and set(llama.values()) == set(LLAMA)
    gpt2 = kinds(tiny_gpt2["hub"])
    assert gpt2["h.1.mlp.c_proj"] == "mlp.c_proj" and set(gpt2.values()) == {
        "c_attn",
        "attn.c_proj",
        "c_fc",
        "mlp.c_proj",
    }
    assert set(kinds(t5["relu"]).values()) == {*ATTENTION, "wi", "wo"}
    assert naming.types(["decoder.layers.0.fc1", "x.0.experts.1.w1", "x.0.experts.0.w1"].__iter__()) == {
        "decoder.layers.0.fc1": "fc1", "x.0.experts.1.w1": "w1", "x.0.experts.0.w1": "w1"}  # fmt: skip


def test_shapes_and_dtypes_come_from_headers_alone(tiny_gpt2, monkeypatch):
    walked = {name: tuple(weight.shape) for name, weight in checkpoint.targets(tiny_gpt2["hub"], GPT2)}
    monkeypatch.setattr("safetensors.safe_open", None)
    found = checkpoint.shapes(tiny_gpt2["hub"], GPT2)
    assert found == walked and list(found) == list(walked) == list(checkpoint.weights(tiny_gpt2["hub"], GPT2))
    assert {w.dtype for w in checkpoint.weights(tiny_gpt2["hub"], GPT2).values()} == {"F32"}


def test_layer_10_comes_after_layer_2(folder):
    path = folder({f"layers.{n}.q.weight": torch.ones(2, 2) for n in (10, 2, 1)})
    assert list(checkpoint.shapes(path, ["q"])) == ["layers.1.q", "layers.2.q", "layers.10.q"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_half_precision_is_read_exactly(folder, dtype, model_type):
    """Every finite value of a 16-bit dtype, subnormals too, is a float32 value."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    stored = torch.where(every.isfinite(), every, 0).view(256, 256)
    path = folder({"h.0.c_attn.weight": stored}, model_type=model_type)
    ((_, weight),) = checkpoint.targets(path, ["c_attn"])
    wanted = stored.t() if model_type == "gpt2" else stored
    assert weight.dtype == torch.float32 and torch.equal(weight.double(), wanted.double())


class Results(TorchDispatchMode):
    """Collects what each operation makes: its dtype and bytes."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        inputs = {t.untyped_storage().data_ptr() for t in args if isinstance(t, torch.Tensor)}
        if isinstance(result, torch.Tensor) and result.untyped_storage().data_ptr() not in inputs:
            self.made.append((result.dtype, result.nbytes))
        return result


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_reading_makes_the_float32_copy_and_nothing_else_of_its_size(folder, model_type):
    path = folder({"h.0.c_attn.weight": torch.ones(512, 512, dtype=torch.bfloat16)}, model_type=model_type)
    with Results() as results:
        ((_, _),) = checkpoint.targets(path, ["c_attn"])
    large = sorted((size, dtype) for dtype, size in results.made if size > 1000)
    copy = [(512 * 512 * 4, torch.float32)]
    assert [entry for entry in large if entry[1] != torch.bfloat16] == copy


def test_the_walk_does_not_keep_the_weight_before(tiny_gpt2, monkeypatch):
    alive = []
    read = checkpoint._matrix

    def watched(*args):
        assert [ref for ref in alive if ref() is not None] == []
        weight = read(*args)
        alive.append(weakref.ref(weight))
        return weight

    monkeypatch.setattr(checkpoint, "_matrix", watched)
    for _, weight in checkpoint.targets(tiny_gpt2["hub"], GPT2):
        del weight
    assert len(alive) == 8


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), -float("inf")])
def test_the_check_for_numbers_is_exact(bad):
    weight = torch.full((300, 7), 3e38)  # its sum overflows
    assert not weight.sum().isfinite()
    if bad is not None:
        weight[299, 6] = bad
    assert checkpoint.all_finite(weight) == (bad is None)
    opposite = torch.tensor([[float("inf"), -float("inf")], [1.0, 2.0]])
    assert not checkpoint.all_finite(opposite)


def test_the_fingerprint_is_of_config_tokenizer_and_weights(tiny_model, tmp_path):
    copy = Path(shutil.copytree(tiny_model, tmp_path / "copy"))
    before = checkpoint.fingerprint(tiny_model)
    assert checkpoint.fingerprint(copy) == before
    (copy / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    assert checkpoint.fingerprint(copy) != before
