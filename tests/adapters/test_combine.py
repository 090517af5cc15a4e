"""pissa combine against stock PEFT: the same arithmetic without the base, and right where PEFT's folder is not."""

import json
import shutil

import pytest
import torch
from commands import pissa
from helpers import Run
from peer import changed, convert, loaded, logits, plain, train
from peft import PeftModel
from safetensors.torch import load_file
from stage import says

from pissa_repro.adapters.combine import BY_FACTOR, BY_SVD, HOW, SPARSE
from pissa_repro.model.checks import relative_difference
from pissa_repro.runtime.record import read_json, write_json

LORA = {"init_lora_weights": "gaussian"}
WEIGHTS = (0.7, -0.4)


def shuffled(seed):
    """Other factors of the same shapes."""
    generator = torch.Generator().manual_seed(seed)
    return lambda given: {k: torch.randn(t.shape, generator=generator) * 0.1 for k, t in given.items()}


@pytest.fixture(scope="module")
def first(tiny_model, tmp_path_factory):
    """A plain LoRA by stock PEFT: rank 4, alpha 8."""
    return train(tiny_model, tmp_path_factory.mktemp("first"), rate=1e-2, **LORA).adapter


@pytest.fixture(scope="module")
def second(first, tmp_path_factory):
    """Another of the same shapes, alpha 6."""
    return changed(first, tmp_path_factory.mktemp("second") / "adapter", shuffled(1), lora_alpha=6)


def combine(*adapters, out, how="svd", weights=WEIGHTS, options=()):
    given = [word for weight in weights for word in ("--weights", weight)]
    pruning = ("--density", 0.6) if how in SPARSE and "--density" not in options else ()
    pissa("combine", *adapters, *given, "--how", how, *pruning, *options, "--out", out)


def stock(base, *adapters, how, weights=WEIGHTS, rank=None, seed=0):
    """PEFT's own combination on the model, and its logits."""
    names = [f"number{n}" for n in range(len(adapters))]
    model = PeftModel.from_pretrained(plain(base), adapters[0], adapter_name=names[0])
    for name, adapter in zip(names[1:], adapters[1:], strict=True):
        model.load_adapter(adapter, adapter_name=name)
    torch.manual_seed(seed)
    density = 0.6 if how in SPARSE else None
    model.add_weighted_adapter(names, list(weights), "sum", combination_type=how, svd_rank=rank, density=density)
    model.set_adapter("sum")
    return model, logits(model)


@pytest.mark.parametrize("how", HOW)
def test_it_is_what_peft_combines(tiny_model, first, second, tmp_path, how):
    """dare too: its random numbers are those that PEFT draws on this model after the same seed."""
    rank = 5 if how in BY_SVD else None
    options = (*(("--rank", rank) if rank else ()), "--seed", 3)
    combine(first, second, out=tmp_path / "out", how=how, options=options)
    model, wanted = stock(tiny_model, first, second, how=how, rank=rank, seed=3)
    assert (wanted - logits(plain(tiny_model))).abs().max() > 1e-3, "the combination does something"
    assert (loaded(tiny_model, tmp_path / "out") - wanted).abs().max() < 1e-5
    model.save_pretrained(tmp_path / "peft", selected_adapters=["sum"])
    theirs, ours = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("peft/sum", "out"))
    assert theirs.keys() == ours.keys() and all(theirs[key].shape == ours[key].shape for key in ours)
    config = json.loads((tmp_path / "out/adapter_config.json").read_text(encoding="utf-8"))
    assert config["lora_alpha"] == config["r"] == {"cat": 8}.get(how, rank or 4)
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert f"{how}, weights 0.7, -0.4" in card and ("seed 3" in card) == how.startswith("dare")


def test_another_seed_draws_other_numbers(first, second, tmp_path):
    for seed in (0, 0, 1):
        out = tmp_path / f"{seed}{len(list(tmp_path.iterdir()))}"
        combine(first, second, out=out, how="dare_linear", options=("--seed", seed))
    one, same, other = (load_file(out / "adapter_model.safetensors") for out in sorted(tmp_path.iterdir()))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not any(torch.equal(one[key], other[key]) for key in one)


def updates(folder):
    """s B A of every module of a folder, by PEFT's rules."""
    from pissa_repro.adapters import folder as read

    adapter = read.read(folder, "ADAPTER")
    given = load_file(adapter.weights)
    return {name: m.scaling * given[m.b].double() @ given[m.a].double() for name, m in adapter.modules.items()}


MIXED = {  # of the second adapter: other ranks, modules and rules than the first's
    "rank": {"r": 6},
    "rslora": {"use_rslora": True},
    "patterns": {"rank_pattern": {"q_proj": 2, "v_proj": 5}, "alpha_pattern": {"v_proj": 3}},
    "rslora and patterns": {"use_rslora": True, "rank_pattern": {"q_proj": 7}, "alpha_pattern": {"up_proj": 1}},
    "other modules": {"target_modules": ["q_proj", "down_proj"]},
    "a regular expression": {"target_modules": r".*\.1\..*(q|down)_proj"},
    "some layers": {"layers_to_transform": [1], "layers_pattern": "layers"},
    "an embedding and the head": {"target_modules": ["embed_tokens", "q_proj", "lm_head"]},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("turned", [False, True], ids=["after", "before"])
@pytest.mark.parametrize("case", MIXED)
def test_adapters_that_differ_are_summed_right(tiny_model, first, tmp_path, case, turned):
    """cat is the weighted sum, and so is an SVD of enough rank: also where PEFT's own result is not."""
    other = train(tiny_model, tmp_path, steps=1, rate=1e-2, **LORA | MIXED[case]).adapter
    pair, weights = ((other, first), WEIGHTS[::-1]) if turned else ((first, other), WEIGHTS)
    parts = [updates(folder) for folder in pair]
    sums = {
        name: sum(weight * part[name] for weight, part in zip(weights, parts, strict=True) if name in part)
        for name in parts[0].keys() | parts[1].keys()
    }
    model = plain(tiny_model)
    for name, update in sums.items():
        weight = model.get_submodule(name).weight
        weight.data += update.T if weight.shape != update.shape else update
    wanted = logits(model)
    for how, options in (("cat", ()), ("svd", ("--rank", 14))):
        combine(*pair, out=tmp_path / how, how=how, weights=weights, options=options)
        found = updates(tmp_path / how)
        assert found.keys() == sums.keys()
        assert all(torch.allclose(found[name], sums[name], atol=1e-6) for name in sums)
        assert (loaded(tiny_model, tmp_path / how) - wanted).abs().max() < 1e-5


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="PEFT scales a combination of rsLoRA twice")
@pytest.mark.filterwarnings("ignore")
def test_peft_combines_rslora(tiny_model, first, tmp_path):
    rslora = changed(first, tmp_path / "rslora", use_rslora=True)
    combine(rslora, first, out=tmp_path / "out", how="cat", options=("--check", tiny_model))
    _, theirs = stock(tiny_model, rslora, first, how="cat")
    assert (loaded(tiny_model, tmp_path / "out") - theirs).abs().max() < 1e-5


def test_a_rank_above_a_side_loads_again(tiny_model, first, second, tmp_path):
    """PEFT stops there with an error of shapes. Nothing is pruned here, so that all three are the weighted sum."""
    whole = ("--rank", 100, "--density", 1)
    combine(first, second, out=tmp_path / "out", how="magnitude_prune_svd", options=whole)
    config = json.loads((tmp_path / "out/adapter_config.json").read_text(encoding="utf-8"))
    assert config["rank_pattern"] == config["alpha_pattern"] and updates(tmp_path / "out")
    combine(first, second, out=tmp_path / "svd", options=("--rank", 100))
    assert json.loads((tmp_path / "svd/adapter_config.json").read_text(encoding="utf-8"))["r"] == 8, "no more is in it"
    combine(first, second, out=tmp_path / "cat", how="cat")
    for name in ("out", "svd"):
        assert (loaded(tiny_model, tmp_path / name) - loaded(tiny_model, tmp_path / "cat")).abs().max() < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_converted_adapters_are_combined(pissa_trained, first, tiny_model, tmp_path, capsys):
    convert(pissa_trained, tmp_path / "lora")
    combine(tmp_path / "lora", first, out=tmp_path / "out", how="cat", weights=(1, 0), options=("--check", tiny_model))
    assert (loaded(tiny_model, tmp_path / "out") - pissa_trained.logits).abs().max() < 1e-5
    shown = capsys.readouterr().out
    assert "Checked: its logits are within" in shown and "is equal to the weighted sum" in shown


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["svd", "linear", "ties_svd"])
def test_layers_that_are_stored_the_other_way_round_are_combined(tiny_gpt2, tmp_path, how):
    """GPT-2's Conv1D; PEFT prunes its updates transposed, so that dare draws other numbers there."""
    fields = LORA | {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}
    pair = [train(tiny_gpt2["saved"], tmp_path / str(n), rate=10.0**-n, **fields).adapter for n in (1, 2)]
    combine(*pair, out=tmp_path / "out", how=how)
    found, (_, wanted) = loaded(tiny_gpt2["saved"], tmp_path / "out"), stock(tiny_gpt2["saved"], *pair, how=how)
    assert relative_difference(found, wanted) < 1e-5


def test_no_space_is_told_before_the_work(first, second, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 0, 9))
    says(lambda: combine(first, second, out=tmp_path / "out"), "9 are free")
    assert list(tmp_path.iterdir()) == []


REFUSED = {  # fields of the second adapter's config, what else is asked, and what is said
    "another base": ({"base_model_name_or_path": "lab/other"}, {}, ["different bases", "lab/tiny", "lab/other"]),
    "another revision": (
        {"base_model_name_or_path": "lab/tiny", "revision": "v2"}, {}, ["different bases", "lab/tiny at v2"]),
    "PiSSA": ({"init_lora_weights": "pissa_niter_4"}, {}, ["'pissa_niter_4'", "residual of its own", "pissa convert"]),
    "OLoRA": ({"init_lora_weights": "olora"}, {}, ["'olora'", "pissa convert"]),
    "LoftQ": ({"loftq_config": {"loftq_bits": 4}}, {}, ["loftq_config"]),
    "DoRA": ({"use_dora": True}, {}, ["use_dora"]),
    "tasks": ({"task_type": "SEQ_CLS"}, {}, ["task_type differs", "CAUSAL_LM, SEQ_CLS"]),
    "a word": ({}, {"how": "tie"}, ["--how", "'tie'", "Did you mean 'ties'"]),
    "weights": ({}, {"weights": (1,)}, ["--weights: 1 given for 2"]),
    "NaN": ({}, {"weights": (1, float("nan"))}, ["--weights 1.0, nan", "finite"]),
    "no density": ({}, {"how": "ties", "options": ("--density", 0)}, ["--density 0.0", "above 0"]),
    "a density": ({}, {"how": "cat", "options": ("--density", 0.5)}, ["--how cat", "takes no --density"]),
    "a rank": ({}, {"how": "cat", "options": ("--rank", 4)}, ["--rank 4", "svd"]),
    "a base": ({}, {"options": ("--base", "lab/other")}, ["different bases", "lab/other (--base)"]),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_combined_is_refused(first, second, tmp_path, case):
    fields, asked, words = REFUSED[case]
    named = changed(first, tmp_path / "named", base_model_name_or_path="lab/tiny", revision="v1")
    other = changed(second, tmp_path / "other", **{"base_model_name_or_path": "lab/tiny", "revision": "v1"} | fields)
    says(lambda: combine(named, other, out=tmp_path / "out", **asked), *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["named", "other"]


@pytest.mark.parametrize("how", BY_FACTOR)
@pytest.mark.filterwarnings("ignore")
def test_unequal_ranks_are_refused_before_the_work(tiny_model, first, tmp_path, how):
    """PEFT refuses them too, but not in a rank_pattern: there it stops in the middle."""
    other = train(tiny_model, tmp_path, steps=0, rank_pattern={"q_proj": 2}, **LORA).adapter
    says(lambda: combine(first, other, out=tmp_path / "out", how=how), f"--how {how}", "q_proj has rank 2", "cat")


def test_more_than_factors_and_other_shapes_are_refused(first, tmp_path):
    key = "base_model.model.lm_head.weight"
    more = changed(first, tmp_path / "a", lambda t: t | {key: torch.zeros(3, 3)}, modules_to_save=["lm_head"])
    says(lambda: combine(first, more, out=tmp_path / "out"), f"holds {key}", "without a word")
    wide = changed(first, tmp_path / "b", lambda t: {
        k: t.repeat(1, 2) if k.endswith("0.self_attn.q_proj.lora_A.weight") else t for k, t in t.items()})  # fmt: skip
    says(lambda: combine(first, wide, out=tmp_path / "out"), "q_proj: (128,", "not of one base")
    nan = changed(first, tmp_path / "c", lambda t: {k: v * float("nan") for k, v in t.items()})
    says(lambda: combine(first, nan, out=tmp_path / "out"), "NaN or infinities")
    (tmp_path / "here").mkdir()
    says(lambda: combine(first, first, out=tmp_path / "here"), "--out", "exists already")
    says(lambda: combine(first, out=tmp_path / "out", weights=(1,)), "two or more")


def test_an_adapter_whose_base_is_a_residual_here_is_refused(pissa_trained, first, tmp_path):
    """PEFT's folder says that the start is done; the model that it names has pissa_init/ inside."""
    (tmp_path / "residual/pissa_init").mkdir(parents=True)
    raw = changed(pissa_trained.adapter, tmp_path / "raw", base_model_name_or_path=str(tmp_path / "residual"))
    says(lambda: combine(raw, first, out=tmp_path / "out"), "pissa_init/", "pissa convert")


def test_a_check_on_another_model_leaves_nothing(first, second, tiny_gpt2, tmp_path):
    options = ("--check", tiny_gpt2["saved"])
    says(lambda: combine(first, second, out=tmp_path / "out", options=options), str(tiny_gpt2["saved"]))
    assert list(tmp_path.iterdir()) == []


def test_cells_are_combined_by_what_they_leave_for_others(tiny_model, tiny_rows, tmp_path):
    """Cells of other weights are not, whatever their base is called."""
    run = Run(tmp_path / "run", tiny_model, tiny_rows, "pissa", steps=2)
    run.init()
    run.train()
    shutil.copytree(run.trained, tmp_path / "other")
    combine(run.trained, tmp_path / "other", out=tmp_path / "out", how="cat", weights=(0.5, 0.5))
    assert (loaded(tiny_model, tmp_path / "out") - loaded(tiny_model, run.trained)).abs().max() < 1e-5
    says(lambda: combine(run.trained, run.factors, out=tmp_path / "no"), "factors of a cell")
    base = read_json(tmp_path / "other/factors/base.json") | {"fingerprint": "0" * 64}
    write_json(tmp_path / "other/factors/base.json", base)
    says(
        lambda: combine(run.trained, tmp_path / "other", out=tmp_path / "no"), "different bases", "weights 000000000000"
    )
