"""Cells, paths and specs of the sweep."""

import itertools
from pathlib import Path

import pytest
from stage import says

from pissa_repro import methods
from pissa_repro.paper.published import CODE, MATHS, STEPS
from pissa_repro.plan import config, studies
from pissa_repro.plan.batches import Batches
from pissa_repro.plan.sweep import STAGE_VERSION, Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import canonical
from pissa_repro.scoring.generations import place
from pissa_repro.scoring.generator import jobs

ROOT = Path(__file__).resolve().parent.parent
DEFAULT, PAPER = ROOT / "config/config.yaml", ROOT / "config/paper.yaml"


def sweep(**changes) -> Sweep:
    raw = config.load(DEFAULT)
    raw["sweep"] |= changes
    return Sweep(raw)


def test_the_default_is_six_cells_and_three_seeds():
    found = sweep()
    assert len(found.cells) == 18
    assert len({(cell.method, cell.quant) for cell in found.cells.values()}) == 6


def test_a_start_that_is_not_random_is_shared_by_the_seeds():
    starts = sweep(ranks=[8]).starts
    assert len([name for name in starts if "/pissa-none-" in name]) == 1
    assert len([name for name in starts if "/lora-none-" in name]) == 3
    assert not any("/full-" in name for name in starts)


def test_full_fine_tuning_ignores_the_rank():
    cells = sweep(ranks=[2, 4, 8], seeds=[0]).cells
    assert sum(not methods.has_factors(cell.method) for cell in cells.values()) == 1
    assert len(cells) == 1 + 5 * 3


def test_an_option_of_quantized_starts_leaves_plain_ones_alone():
    found = sweep(seeds=[0])
    options = {(c.method, c.quant): found.init_spec(c)["options"] for c in found.cells.values() if found.has_factors(c)}
    assert options[("pissa", "none")] == {"svd": "fast"}
    assert options[("pissa", "nf4")] == {"svd": "fast", "alternations": 5}


def test_specs_are_canonical_json_and_hold_the_stages_before():
    found = sweep(seeds=[0])
    cell = found.cells["mini-llama/gsm-mini-train/pissa-nf4-r16-lr0.003-s0"]
    spec = found.evaluate_spec(cell, "gsm-mini")
    assert spec["generate"] == found.generate_spec(cell, "gsm-mini")
    train = spec["generate"]["train"]
    assert train == found.train_spec(cell) and train["init"] == found.init_spec(cell)
    assert canonical(spec) == canonical(Sweep(config.load(DEFAULT)).evaluate_spec(cell, "gsm-mini"))


def test_every_cell_and_task_is_in_one_batch():
    """A batch is one launch of an engine: one model, one back-end, no more cells than the config says."""
    raw = config.load(DEFAULT, ROOT / "config" / "parity.yaml")
    raw["scoring"] = {"cells_per_engine": 4}
    found = Sweep(raw)
    sizes = sorted((b.backend, len(b.cells)) for b in Batches(found).by_name.values())
    assert sizes == sorted([("hf", 4), ("hf", 2), ("vllm", 4), ("vllm", 2)] * 3)  # of six methods, for three seeds
    pairs = [(cell, task) for batch in Batches(found).by_name.values() for cell in batch.cells for task in batch.tasks]
    assert sorted(pairs) == sorted(itertools.product(found.cells, ("gsm-mini", "gsm-mini-vllm")))
    for cell, task in pairs:
        assert cell in Batches(found).named(Batches(found).name_of(cell, task)).cells
    assert Batches(found).pairs() == [("gsm-mini", "gsm-mini-vllm")]


def test_a_batch_keeps_its_name_and_its_cells_when_the_sweep_grows():
    small = Batches(sweep(seeds=[0], ranks=[8])).by_name
    for grown in ({"seeds": [0, 1]}, {"ranks": [8, 16]}, {"learning_rates": [3e-3, 1e-3]}):
        found = Batches(sweep(**({"seeds": [0], "ranks": [8]} | grown))).by_name
        assert {name: found[name] for name in small} == small
    (full,) = (batch for batch in small.values() if any("/full-" in name for name in batch.cells))
    assert len(full.cells) == 6, "full fine-tuning has no rank, and shares the engine of the first one"


def test_a_batch_spec_makes_the_specs_of_its_jobs():
    found = sweep()
    for name, batch in Batches(found).by_name.items():
        for job, cell in zip(jobs(Batches(found).spec(name), Path("results")), batch.cells, strict=True):
            assert job.spec == found.generate_spec(found.cell(cell), "gsm-mini")
            assert job.out == place(paths.cell(cell), "gsm-mini", job.spec)
            assert job.rows == Path("results/fetch/data/gsm-mini-test.jsonl")


def test_unknown_batches_and_tasks_are_refused():
    found = sweep()
    says(
        lambda: Batches(found).named("mini-llama/x"),
        "unknown batch",
        "mini-llama/gsm-mini-train/r16-lr0.003-s0-hf-float32-0",
    )
    says(lambda: Batches(found).name_of(next(iter(found.cells)), "gsm-mimi"), "unknown task", "Did you mean 'gsm-mini'")


def test_overrides_change_only_the_cells_they_name():
    found = Sweep(config.load(DEFAULT, PAPER))
    ranks = dict(sorted({(cell.model, cell.rank) for cell in found.cells.values() if found.has_factors(cell)}))
    assert ranks == {"llama-2-7b": 128, "mistral-7b": 64, "gemma-7b": 64, "llama-3-8b": 128}
    dtypes = {(cell.method, cell.quant): dict(cell.train)["dtype"] for cell in found.cells.values()}
    assert dtypes[("full", "none")] == dtypes[("pissa", "nf4")] == "bfloat16"
    assert dtypes[("pissa", "none")] == "float32"


def test_the_papers_recipe():
    """Section 5 of the paper; the rest from the released code (docs/paper_facts.md 3.1, 3.2)."""
    found = Sweep(config.load(DEFAULT, PAPER))
    cell = found.cell("llama-2-7b/metamath-100k/pissa-none-r128-lr2e-05-s0")
    spec, settings = found.train_spec(cell), found.train_spec(cell)["settings"]
    assert (spec["learning_rate"], settings["batch_size"], settings["steps"]) == (2e-5, 128, 781)
    assert (settings["schedule"], settings["warmup_ratio"], settings["weight_decay"]) == ("cosine", 0.03, 0)
    assert spec["init"]["alpha"] == spec["init"]["rank"] == 128 and len(spec["init"]["target_modules"]) == 7
    assert settings["max_length"] == 512 and settings["dropout"] == 0 and settings["max_grad_norm"] == 1
    assert found.data_spec(cell.data)["dataset"]["rows"] == 100_000


def test_the_papers_steps_leave_the_rest_of_the_last_batch_out():
    """Pitfall 17: of the rows of config/paper.yaml, and of the code data, which are used whole."""
    raw = config.load(DEFAULT, PAPER)
    rows = {MATHS: raw["datasets"][MATHS]["rows"], CODE: 104_848}
    assert {data: count // raw["train"]["batch_size"] for data, count in rows.items()} == STEPS
    assert raw["train"]["steps"] == STEPS[MATHS] == 781 and STEPS[CODE] == 819


def test_cells_that_would_share_a_start_but_differ_are_refused():
    raw = config.load(DEFAULT)
    raw["datasets"]["other"] = raw["datasets"]["gsm-mini-train"]
    raw["sweep"]["datasets"] = ["gsm-mini-train", "other"]
    raw["overrides"] = [{"where": {"dataset": "other"}, "set": {"alpha": 32}, "why": "a test of shared starts"}]
    with pytest.raises(UserError, match="would share results/init"):
        assert Sweep(raw).starts


def test_an_unknown_cell_names_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'mini-llama/gsm-mini-train/pissa-nf4-r16-lr0.003-s0'"):
        sweep().cell("mini-llama/gsm-mini-train/pisa-nf4-r16-lr0.003-s0")


def test_versions_of_all_stages_are_whole_numbers():
    assert all(isinstance(version, int) and version >= 1 for version in STAGE_VERSION.values())


def keys(spec):
    """The keys of a spec and of all within it."""
    return set(spec).union(*(keys(value) for value in spec.values() if isinstance(value, dict)))


def test_specs_after_fetch_name_no_place():
    """Case 20: what comes after fetch need not know where the model and the rows are, nor what they are called."""
    found = Sweep(config.load(DEFAULT, PAPER))
    cell = found.cell("llama-2-7b/metamath-100k/pissa-nf4-r128-lr2e-05-s0")
    grid = studies.errors_spec(found, "llama-2-7b", "ranks")
    for spec in (found.evaluate_spec(cell, "gsm8k"), found.quant_error_spec(cell), grid):
        assert not {"path", "hub", "revision", "file", "fields", "model", "data", "dataset"} & keys(spec)
        assert "llama" not in canonical(spec).lower() and "metamath" not in canonical(spec).lower()
    assert {"hub", "revision"} <= keys(found.model_spec("llama-2-7b"))
