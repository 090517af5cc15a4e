"""A core between A and B, parts that do not train, and ranks of a module's own: from the start to a merged model."""

import pytest
import torch
from helpers import Run
from plugged import STARTS, plugged, text
from safetensors.torch import load_file
from stage import says
from starting import relative, spec_of, start_of

from pissa_repro import methods
from pissa_repro.model import factors
from pissa_repro.model.adapter import attach, parts
from pissa_repro.model.base import set_base
from pissa_repro.model.checkpoint import targets
from pissa_repro.model.checks import logits, relative_difference
from pissa_repro.model.load import load_base
from pissa_repro.runtime.record import read_json
from pissa_repro.stages import train
from pissa_repro.starts.error import measure_stored
from pissa_repro.training.trainer import Watch

pytestmark = pytest.mark.usefixtures("known_starts")
PROMPTS = [[3, 40, 17, 9], [250, 8, 77]]
LIMITS = {"steps": 5, "learning_rate": 1e-2, "batch_size": 4}
TRAINED = {  # the parts that train
    "square": ("core",), "diagonal": ("A", "B", "core"), "banded": ("core",), "some": ("A", "B", "core"),
    "held": ("B",), "ranked": ("A", "B"), "aside": ("A", "B"), "moving": ("A", "B"),
}  # fmt: skip


@pytest.fixture(scope="module")
def cells(tmp_path_factory, tiny_model, tiny_rows, known_starts):
    """A cell of each method, trained with weight decay."""
    made = {}
    for name in STARTS:
        run = Run(tmp_path_factory.mktemp(name), tiny_model, tiny_rows, name, alpha=8, weight_decay=0.1, **LIMITS)
        run.init()
        run.train()
        made[name] = run
    return made


def read(run):
    """The factors at the start, and after the training."""
    initial = factors.load(run.start, read_json(run.model))
    return initial, factors.load_trained(run.trained, initial)


def sides(found, module):
    return {"A": found.A[module], "B": found.B[module], "core": found.core.get(module)}


@pytest.mark.parametrize("name", STARTS)
def test_what_is_declared_trains_and_nothing_else(cells, name):
    initial, last = read(cells[name])
    assert initial.trained == last.trained == TRAINED[name]
    for module in initial.A:
        for part, before in sides(initial, module).items():
            after = sides(last, module)[part]
            assert before is None or torch.equal(before, after) == (part not in TRAINED[name]), (module, part)


@pytest.mark.parametrize("name", STARTS)
def test_the_trained_folder_holds_the_entries_that_can_change_and_no_more(cells, name):
    """Full bases U and V are in the start alone."""
    run = cells[name]
    stored = load_file(run.factors / factors.FACTORS)
    assert {key.rpartition(".lora_")[2].partition(".")[0] for key in stored} == set(TRAINED[name])
    entries = sum(tensor.numel() for tensor in stored.values())
    assert entries == read_json(run.record)["trainable_parameters"]
    if name == "banded":
        cores = [3 * min(shape) - 2 for shape in shapes(run).values()]
        assert entries == sum(cores)
    told = [factors.belongs_of(folder).get("trained") for folder in (run.start, run.factors)]
    assert told == [None if TRAINED[name] == ("A", "B") else list(TRAINED[name])] * 2


def shapes(run):
    initial, _ = read(run)
    return {name: (len(initial.B[name]), initial.A[name].shape[1]) for name in initial.A}


@pytest.mark.parametrize("name", ["banded", "some"])
def test_an_entry_that_may_not_change_stays_to_the_bit(cells, name):
    """No gradient, no momentum and no decay reaches it; the others move."""
    initial, last = read(cells[name])
    for module, free in initial.free.items():
        moved = initial.core[module] != last.core[module]
        assert not moved[~free].any() and moved[free].any()


@pytest.mark.parametrize("name", STARTS)
def test_the_merged_model_is_base_and_product_by_hand(cells, tiny_model, name):
    run = cells[name]
    initial, last = read(run)
    made = run.merged(PROMPTS)
    for module, weight in targets(tiny_model, list(initial.A)):
        s, c = 2.0, last.core.get(module)
        wide = last.B[module] if c is None else last.B[module] @ (torch.diag(c) if c.ndim == 1 else c)
        base = weight
        if name == "aside":
            base = weight - s * initial.offset_B[module] @ initial.offset_A[module]
        elif initial.offset == "start":
            first = initial.core.get(module)
            middle = torch.eye(len(initial.A[module])) if first is None else first
            base = weight - s * initial.B[module] @ (middle if middle.ndim > 1 else middle.diag()) @ initial.A[module]
        assert initial.scaling(module) == last.scaling(module) == s
        merged = made.model.get_parameter(f"{module}.weight")
        assert relative(merged, base + s * wide @ last.A[module]) < 1e-5
    assert made.checks["training_effect"] > 1e-4


def test_a_module_has_its_own_rank_and_the_usual_scaling(cells):
    run = cells["ranked"]
    initial, _ = read(run)
    ranks = {name: len(a) for name, a in initial.A.items()}
    assert ranks == {name: 2 if out > into else 8 for name, (out, into) in shapes(run).items()}
    record = read_json(run.start / "init.json")
    assert {name: facts["rank"] for name, facts in record["modules"].items()} == ranks
    assert factors.belongs_of(run.start)["scaling"] == 2


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("rank", [1, 3, 7, 48, 4096])
def test_an_alpha_gives_a_scaling_back(rank, rslora):
    for s in (2.0, 1 / 3, 0.7, 128 / 96**0.5):
        found = factors.scaling(factors.alpha_of(s, rank, rslora), rank, rslora)
        assert found == pytest.approx(s, rel=3e-16)


def test_a_start_that_moves_the_model_is_recorded_and_trains(cells):
    run = cells["moving"]
    record = read_json(run.start / "init.json")
    assert record["equality_error"] > 0.1 and record["moves"] == "W gets its first triples once more."
    assert read_json(run.record)["start_up"]["logits_difference"] > 1e-3
    assert "moves" not in read_json(cells["square"].start / "init.json")


def put(run, **lora):
    """The cell's start on its base, as it is trained, and the untouched model's logits."""
    base = load_base(read_json(run.model)["path"])
    untouched = logits(base, PROMPTS)
    set_base(base, factors.load(run.start, read_json(run.model)), run.spec["quant"], "float32", pack=True)
    return attach(base, run.start, lora), untouched


@pytest.mark.parametrize("name", ["square", "diagonal", "banded", "ranked"])
@pytest.mark.parametrize("lora", [{}, {"use_dora": True}], ids=["lora", "dora"])
def test_peft_starts_from_the_untouched_model(cells, name, lora):
    model, untouched = put(cells[name], **lora)
    assert relative_difference(logits(model, PROMPTS), untouched) < 1e-5


def test_parts_are_given_by_the_models_names(cells):
    run = cells["some"]
    initial, _ = read(run)
    model, _ = put(run)
    found = parts(model)
    assert set(found) == set(initial.A)
    for name, one in found.items():
        assert list(one.trained()) == ["A", "B", "core"] and one.scaling == 2
        assert torch.equal(one.core, initial.core[name][initial.free[name]])
    assert all(list(one.trained()) == ["core"] for one in parts(put(cells["square"])[0]).values())


def test_frozen_factors_stay_float32_on_a_base_of_bfloat16(tmp_path, tiny_model, tiny_rows):
    """Also after PEFT has made every parameter of the adapter trainable, as it does when it loads a checkpoint."""
    run = Run(tmp_path, tiny_model, tiny_rows, "square", "nf4", dtype="bfloat16", steps=2)
    run.init()
    model = run.prepare().model
    model.set_adapter("default")
    for one in parts(model).values():
        assert {part.dtype for part in (one.A, one.B, one.core)} == {torch.float32}
        assert list(one.trained()) == ["core"]
    record = run.train()
    assert record["dtypes"] == {"trained": ["float32"], "frozen": ["bfloat16", "uint8"]}
    assert run.merged(PROMPTS).checks["merge_error"] < 1e-3


@pytest.mark.parametrize("name", ["some", "held"])
def test_a_kill_changes_no_bit(cells, tmp_path, tiny_model, tiny_rows, monkeypatch, name):
    """A checkpoint holds what trains; the rest is the start's, and still does not train."""

    class KilledError(BaseException):
        pass

    def stop(self, args, state, control, **kwargs):
        if state.global_step == 4:
            raise KilledError
        return on_save(self, args, state, control, **kwargs)

    run = Run(tmp_path, tiny_model, tiny_rows, name, alpha=8, weight_decay=0.1, **LIMITS)
    run.init()
    on_save, every = Watch.on_save, ("--checkpoint-steps", "2")
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Watch, "on_save", stop)
        train.main(run.train_argv(*every))
    stored = load_file(run.scratch / "checkpoint-2/adapter_model.safetensors")
    whole = cells[name]
    assert sum(tensor.numel() for tensor in stored.values()) == read_json(whole.record)["trainable_parameters"]
    assert run.train(*every)["resumed_from"] == 2
    assert run.steps.read_text(encoding="utf-8") == whole.steps.read_text(encoding="utf-8")
    assert (run.factors / factors.FACTORS).read_bytes() == (whole.factors / factors.FACTORS).read_bytes()


def test_the_error_of_a_quantized_cell_is_that_of_the_product(tmp_path, tiny_model, tiny_rows):
    """As that of PiSSA's factors, of which U, S and V are the parts."""
    run = Run(tmp_path, tiny_model, tiny_rows, "diagonal", "nf4")
    run.init()
    found = measure_stored(read_json(run.model), run.start, None, ["nf4"])["nf4"]["reduction"]
    pissa = Run(tmp_path / "pissa", tiny_model, tiny_rows, "pissa", "nf4", options={"svd": "exact"})
    pissa.init()
    wanted = measure_stored(read_json(pissa.model), pissa.start, None, ["nf4"])["nf4"]["reduction"]
    assert found["avg"] > 1 and found == pytest.approx(wanted, abs=0.5)


@pytest.mark.parametrize("naming", ["saved", "hub"])
def test_layers_of_gpt2_have_cores(tmp_path, tiny_gpt2, tiny_rows, naming):
    """(in, out) weights, and files whose names lack the model's prefix."""
    run = Run(tmp_path, tiny_gpt2[naming], tiny_rows, "banded", target_modules=["c_attn", "c_fc"], **LIMITS)
    run.init()
    run.train()
    initial, last = read(run)
    assert all(not torch.equal(initial.core[name], last.core[name]) for name in initial.core)
    assert run.merged(PROMPTS).checks["training_effect"] > 1e-4


WRONG = {
    "Start(Vh, U * 0, core=zeros(3, 4))": "core is float32 of shape (3, 4); it must be float32 of shape (32, 32)",
    "Start(Vh, U, core=S * float('nan'))": "core holds NaN or infinities",
    "None": "it gives None; it must be a methods.Start",
    "Start(Vh, U, core=3.0)": "core is 3.0; it must be float32 of shape (32, 32)",
    "Start(Vh, U * 0, core=S, free=[True])": "free is [True]; it must be bool, of the core's shape (32,)",
    "Start(Vh, U * 0, trained=(['A'],))": "trained is (['A'],); it must be a tuple of A, B, core",
    "Start(Vh, U, offset=(None, None))": "A of the offset is None; it must be float32 of shape",
    "Start(Vh[:k], U)": "B is float32 of shape (48, 32); it must be float32 of shape (48, 4)",
    "Start(Vh.double(), U)": "A is float64 of shape (32, 32)",
    "Start(torch.cat((Vh, Vh)), torch.cat((U, U), 1))": "A has rank 64; ranks go from 1 to 32",
    "Start(Vh[:0], U[:, :0])": "A has rank 0",
    "Start(Vh, U * 0, trained=())": "trained is (): nothing of it is there",
    "Start(Vh, U * 0, trained=('core',))": "trained is ('core',): nothing of it is there",
    "Start(Vh, U * 0, trained=('a',))": "trained is ('a',); it must be a tuple of A, B, core",
    "Start(Vh, U * 0, free=S > 0)": "free marks entries of a core, and there is none",
    "Start(Vh, U * 0, core=S, free=S)": "free is float32 of shape (32,); it must be bool",
    "Start(Vh, U * 0, core=S, free=S < 0)": "free lets no entry of the core change",
    "Start(Vh, U * 0, core=S, free=S > 0, trained=('A',))": "free marks entries of a core that does not train",
    "Start(Vh, U, offset='all')": "offset is 'all'; it must be None, 'start' or a pair (A, B)",
    "Start(Vh, U * 0, offset=(Vh[:2], U))": "B of the offset is float32 of shape (48, 32); it must be float32 of shape",
}


@pytest.mark.parametrize("body", WRONG)
def test_a_start_that_is_not_whole_names_its_file(tmp_path, body):
    weight = torch.randn(48, 32, generator=torch.Generator().manual_seed(0))
    with plugged(tmp_path, {"wrong": text("wrong", f"return {body}")}):
        start = lambda: start_of("layers.0.q_proj", weight, spec_of("wrong", "none", 4, 4))  # noqa: E731
        says(start, "pissa_repro/methods/wrong.py: start of layers.0.q_proj (48, 32): ", WRONG[body])


MIXED = {
    "trained=('B',) if wide else ('A', 'B')": "trained ('B',), a core False, offset None",
    "core=zeros(k) if wide else None": "trained ('A', 'B', 'core'), a core True, offset None",
    "offset='start' if wide else None": "trained ('A', 'B'), a core False, offset 'start'",
    "offset=(Vh[:1], zeros(len(U), 1)) if wide else None": "trained ('A', 'B'), a core False, offset 'own'",
}


@pytest.mark.parametrize("rest", MIXED)
def test_modules_of_unlike_parts_are_refused(tmp_path, tiny_model, tiny_rows, rest):
    body = f"wide = len(U) > Vh.shape[1]\n    return Start(Vh[:k], zeros(len(U), k), {rest})"
    with plugged(tmp_path / "methods", {"mixed": text("mixed", body)}):
        run = Run(tmp_path, tiny_model, tiny_rows, "mixed")
        says(run.init, "methods/mixed.py: start of model.layers.0.mlp.", MIXED[rest], "in the modules before it")
    assert not run.start.exists()


def test_a_trained_part_that_is_not_there_is_refused(cells, tmp_path):
    """Factors of another start: their parts are not this one's."""
    initial, _ = read(cells["square"])
    says(lambda: factors.load_trained(cells["held"].trained, initial), "modules or parts are not those of the start")
    assert methods.wide(torch.ones(2, 1), None).shape == (2, 1)
