"""`pissa plan` and `pissa exhibits`: what a config can make, what the rest needs, and what it takes."""

import copy
import re
from pathlib import Path

import pytest
from commands import pissa
from recorded import ORIGIN, record

from pissa_repro.exhibits import outputs
from pissa_repro.paper.published import printed
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.fitting import ways
from pissa_repro.results.forecast import Forecast
from pissa_repro.results.sizes import size_of
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json, write_json
from pissa_repro.training.memory import packs

PAPER = ROOT / "config/paper.yaml"
EMBEDDED = ROOT / "config/paper_embedded.yaml"


@pytest.fixture(scope="module")
def real() -> Sweep:
    """The paper's grid on real models."""
    return Sweep(load(ROOT / "config/config.yaml", PAPER))


def test_shapes_give_the_published_numbers_of_parameters(real, tmp_path):
    sizes = {
        real.config["models"][name]["paper"]: size_of(real, name, tmp_path) for name in real.config["sweep"]["models"]
    }
    for row in printed("nlg_v1_v3")["rows"]:
        if row["method"] == "full_ft":
            assert round(sizes[row["model"]].parameters / 1e6) == row["trainable_params_M"]
    targets = real.config["train"]["target_modules"]
    derived = {row["model"]: row for row in printed("adapter_params_derived")["rows"]}
    for model, size in sizes.items():
        assert size.factors(derived[model]["rank"], targets) == derived[model]["params"]


def test_the_embedded_model_is_counted_by_its_files(swept, tmp_path):
    size = size_of(swept, "mini-llama", tmp_path)
    assert size.parameters == 1967808  # docs/reproduction/embedded/scores.csv, full fine-tuning
    assert size.factors(16, swept.config["train"]["target_modules"]) == 233472


def test_a_plan_of_7b_models_needs_no_files(real, tmp_path, capsys):
    pissa("plan", "table2", "--configfile", PAPER, "--results", tmp_path)
    shown = capsys.readouterr().out
    assert (
        shown.startswith("results/paper/table2.csv\n") and "Sum: 36 cells, 0 made; " in shown and " GPU hours" in shown
    )
    items = Forecast(real, tmp_path).items(real, [paths.cell(name).train for name in real.cells])
    assert {item.source for item in items} == {"arithmetic"} and {item.device for item in items} == {"GPU"}
    memory = {(item.model, item.what): item.memory for item in items}
    # config/paper.yaml: 16 bytes a parameter, 108 GB for 7B in full; nf4 holds less than float32
    assert memory["llama-2-7b", "full FT"] * 2**30 == pytest.approx(108e9, rel=0.01)
    assert memory["llama-2-7b", "QLoRA"] < memory["llama-2-7b", "LoRA"] / 2


def test_cells_larger_than_a_card_are_marked_with_what_would_fit(tmp_path, capsys):
    pissa("plan", "table2", "--configfile", PAPER, "--results", tmp_path)
    shown = capsys.readouterr().out
    marked = [line for line in shown.splitlines() if " *  " in line]
    assert len(marked) == 4 and all(" full FT " in line for line in marked)
    assert "\n* LLaMA-2-7B: more than one card of 80 GiB: full FT (100 GiB); LoRA, PiSSA" in shown
    assert "full FT fits with sharding: full and gpus: 2 (54 GiB each). Else take" in shown
    assert "full FT fits with sharding: full and gpus: 4 (41 GiB each)" in shown, "Gemma on 2: 73, no room for more"
    pissa("plan", "table2", "--configfile", PAPER, "--results", tmp_path, "--card", "141")
    assert "*" not in capsys.readouterr().out


def test_cards_that_share_the_weights_hold_a_part_each(real, tmp_path):
    """What trains of an adapter is whole on each: 16 bytes a parameter, and 4 to average its gradients.

    So are three blocks at a time, the embedding and the head, their gradients in full fine-tuning, and nf4's scales.
    """
    config = copy.deepcopy(real.config)
    for model in config["models"].values():
        model |= {"gpus": 4, "sharding": "full"}
    shared, memory = Sweep(config), {}
    for name, sweep in (("one", real), ("four", shared)):
        for item in Forecast(sweep, tmp_path).items(sweep, [paths.cell(cell).train for cell in sweep.cells]):
            memory[name, item.model, item.what] = item.memory * 2**30
    size = size_of(real, "llama-2-7b", tmp_path)
    outside, block = 2 * 32000 * 4096 + 4096, size.linear() / 32 + 2 * 4096
    assert size.parameters == outside + 32 * block
    used = 4 * (3 * block + 2 * outside)
    assert memory["four", "llama-2-7b", "full FT"] == pytest.approx(memory["one", "llama-2-7b", "full FT"] / 4 + used)
    factors = size.factors(128, real.config["train"]["target_modules"])
    bases = (("one", 16), ("four", 20))
    one, four = (memory[name, "llama-2-7b", "QLoRA"] - each * factors for name, each in bases)
    each, scales = 2, size.linear() / 16  # bytes of what is not quantized: bfloat16
    used = 3 * (size.linear() / 64 + each * 2 * 4096) + each * outside
    assert four == pytest.approx((one - scales) / 4 + scales + used)


def large(given, cell: str, card: float) -> list[str]:
    """What would let a cell of the paper's Mistral fit a card of so many GiB, by the names that tables show."""
    sweep, place = Sweep(given), Path("nowhere")
    (one,) = (one for one in sweep.cells.values() if (one.model, sweep.display(one)) == ("mistral-7b", cell))
    return ways(sweep, one, size_of(sweep, one.model, place), card)


def test_what_would_let_a_cell_fit_is_computed(real):
    """Cards that share the weights, of a number that divides the batch; few bits; a lower rank."""
    config = copy.deepcopy(real.config)
    config["sweep"] |= {"seeds": [0], "models": ["mistral-7b"]}
    assert large(config, "full FT", 40) == ["sharding: full and gpus: 4 (31 GiB each)"]
    assert large(config, "full FT", 38) == ["sharding: full and gpus: 8 (18 GiB each)"], "31 leave no fifth of 38"
    assert large(config, "PiSSA", 12) == ["sharding: full and gpus: 16 (8.2 GiB each)", "nf4 (7.1 GiB)"]
    assert large(config, "full FT", 1) == [] and large(config, "PiSSA", 2) == ["a lower rank"]
    config["models"]["mistral-7b"] |= {"gpus": 4}
    assert large(config, "full FT", 40) == ["sharding: full on its 4 cards (31 GiB each)"]
    config["models"]["mistral-7b"] |= {"sharding": "full"}
    assert large(config, "full FT", 30) == ["sharding: full and gpus: 8 (18 GiB each)"]
    assert large(config, "full FT", 32) == ["a lower micro_batch_size"]


def test_a_plan_shares_where_auto_would(real, tmp_path, capsys):
    """On cards of the size that is asked about."""
    config = copy.deepcopy(real.config)
    config["sweep"] |= {"seeds": [0], "models": ["llama-2-7b", "mistral-7b"]}
    for model in config["models"].values():
        model |= {"gpus": 4, "sharding": "auto"}
    auto, memory = Sweep(config), {}
    for card in (80, 200):
        for item in Forecast(auto, tmp_path, card).items(auto, [paths.cell(name).train for name in auto.cells]):
            memory[card, item.model, item.what] = item.memory
    full, lora = (("llama-2-7b", what) for what in ("full FT", "LoRA"))
    assert memory[80, *full] == pytest.approx(29.3, rel=0.01) and memory[200, *full] == pytest.approx(126, rel=0.01)
    assert memory[80, *lora] == memory[200, *lora], "it has room on either"
    assert large(config, "full FT", 30) == ["sharding: full and gpus: 8 (18 GiB each)"]
    assert large(config, "full FT", 32) == ["a lower micro_batch_size"]


def test_a_check_warns_of_what_no_card_holds(capsys):
    pissa("check", PAPER)
    (warned,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: LLaMA-2-7B")]
    assert "more than one card of 80 GiB: full FT (100 GiB); " in warned and "sharding: full and gpus: 2" in warned
    pissa("check", EMBEDDED)
    assert "more than one card" not in capsys.readouterr().out


@pytest.mark.parametrize(("backend", "card", "said"), [("hf", 24, True), ("hf", 28, False), ("vllm", 24, False)])
def test_a_model_that_one_card_cannot_score_is_said(tmp_path, capsys, backend, card, said):
    """Else its trainings would all end first."""
    (tmp_path / "own.yaml").write_text(f"tasks: {{gsm8k: {{backend: {backend}}}}}", encoding="utf-8")
    given = ["--configfile", PAPER, "--configfile", tmp_path / "own.yaml"]
    pissa("plan", "table2", *given, "--results", tmp_path, "--card", str(card))
    shown = capsys.readouterr().out
    text = "LLaMA-2-7B: the backend hf scores it whole in float32, 25 GiB, and a card has 24: give gsm8k backend: vllm."
    assert (text in shown.splitlines()) is said


def test_measured_records_come_before_arithmetic(swept, recorded, tmp_path):
    own = swept.shown_in("figure8")
    (pissa_cell,) = [cell for cell in own.cells.values() if cell.method == "pissa"]
    needs = [paths.cell(name).train for name in own.cells]
    before = {item.what: item for item in Forecast(swept, tmp_path).items(own, needs)}
    assert {item.source for item in before.values()} == {"arithmetic"}
    record(own.only({pissa_cell.name}), tmp_path)
    after = {item.what: item for item in Forecast(swept, tmp_path).items(own, needs)}
    assert after["PiSSA"].made == 1 and after["middle"].made == 0
    assert after["middle"].source == "measured, 1 records"  # of another method with factors
    steps = 3520 / 16
    assert after["middle"].hours == pytest.approx(24.0 / 24 * steps / 3600)
    assert after["PiSSA"].memory == ORIGIN["memory_bytes"] / 2**30
    assert after["middle"].scoring == pytest.approx(5.0 / 3600) and before["middle"].scoring is None


def test_a_record_of_another_kind_of_machine_is_no_measurement(swept, tmp_path):
    own = swept.shown_in("figure8")
    record(own, tmp_path)
    for path in paths.cells(tmp_path).rglob("train.json"):
        facts = read_json(path)
        facts["provenance"]["hardware"]["gpus"] = ["a card"]
        write_json(path, facts)
    items = Forecast(swept, tmp_path).items(own, [paths.cell(name).train for name in own.cells])
    assert {item.source for item in items} == {"arithmetic"}


def test_lines_that_differ_in_the_rate_or_the_data_say_so(tmp_path, capsys):
    """And others have no such column: config/rates.yaml sweeps five rates over several seeds."""
    both = load(ROOT / "config/config.yaml", ROOT / "config/rates.yaml")["sweep"]
    pissa("plan", "two_rates", "--configfile", ROOT / "config/rates.yaml", "--results", tmp_path)
    _, heads, *lines = capsys.readouterr().out.splitlines()
    assert "  rate  " in heads and "  data  " not in heads
    of_lora = [line for line in lines if re.search(r"\) +LoRA  ", line)]
    assert len(of_lora) == len(both["learning_rates"])
    for rate in both["learning_rates"]:
        (line,) = [line for line in of_lora if f"  {rate:g}  " in line]
        assert line[heads.index("cells") :].split()[0] == str(len(both["seeds"]))
    more = tmp_path / "more.yaml"
    more.write_text("sweep: {datasets: [gsm-mini-train, gsm-mini-test]}", encoding="utf-8")
    pissa("plan", "gsm8k_table", "--configfile", more, "--results", tmp_path)
    heads = capsys.readouterr().out.splitlines()[1]
    assert "  data  " in heads and "  rate  " not in heads


def test_every_cell_is_in_one_line_of_the_whole_plan(swept, tmp_path, capsys):
    pissa("plan", "--configfile", EMBEDDED, "--results", tmp_path)
    shown = capsys.readouterr().out
    assert f"Sum: {len(swept.cells)} cells, 0 made; " in shown and "study errors_ranks" in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("tabel2",), "pissa plan: unknown exhibit 'tabel2'. Did you mean 'table2'"),
        (("figure12",), "figures/paper/figure12.svg: this config has nothing to show .* It needs: .*`paper: mistral"),
        (("table5",), "It needs: cells of DoRA or AdaLoRA"),
        (("table2", "--configfile", "none.yaml"), "none.yaml"),
    ],
)
def test_what_cannot_be_planned_is_said_in_one_message(words, told):
    with pytest.raises(UserError, match=told):
        pissa("plan", *words)


def test_the_list_says_what_a_config_can_make_and_what_the_rest_needs(swept, capsys):
    pissa("exhibits", "--configfile", EMBEDDED)
    shown = capsys.readouterr().out
    listed, _, needed = shown.partition("What the others need:")
    for one in outputs(swept):
        (line,) = [line for line in listed.splitlines() if line.split()[:1] == [str(one.target)]]
        assert f" {'yes' if one.possible else 'no'} " in line
        assert (f"  {one.target}: {one.exhibit.NEEDS}" in needed) is not one.possible


def test_packed_quantizations_are_those_that_training_packs():
    assert packs("nf4") and packs("fp4") and not packs("int8") and not packs("hqq")
