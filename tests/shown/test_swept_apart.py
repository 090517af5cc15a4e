"""`exhibits` of a config: what single tables and figures sweep beside the sweep."""

import copy

import pytest

from pissa_repro import exhibits
from pissa_repro.plan.batches import Batches
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError

SEED_0 = {"cells": [{"method": "middle", "quant": "none"}], "ranks": [4, 8], "seeds": [0]}


def with_apart(**apart):
    config = load(ROOT / "config/config.yaml")
    config["exhibits"] = apart
    return config


def test_the_union_is_trained_and_every_exhibit_shows_its_own():
    plain, sweep = Sweep(load(ROOT / "config/config.yaml")), Sweep(with_apart(figure8=SEED_0))
    own = sweep.shown_in("figure8")
    assert [(cell.method, cell.rank, cell.seed) for cell in own.cells.values()] == [("middle", 4, 0), ("middle", 8, 0)]
    assert list(sweep.shown_in("figure4a").cells) == list(plain.cells)
    assert set(sweep.cells) == {*plain.cells, *own.cells}
    assert {cell for batch in Batches(sweep).by_name.values() for cell in batch.cells} == set(sweep.cells)
    for name, cell in plain.cells.items():
        assert sweep.train_spec(sweep.cells[name]) == plain.train_spec(cell)


def test_what_an_axis_leaves_out_is_the_sweeps():
    sweep = Sweep(with_apart(figure7={"ranks": [1, 2], "seeds": [5]}))
    own = sweep.shown_in("figure7").cells.values()
    assert {cell.seed for cell in own} == {5} and {cell.rank for cell in own} == {0, 1, 2}
    assert {(cell.method, cell.quant) for cell in own} == set(sweep.labels)


def test_only_keeps_the_given_cells_and_forgets_what_follows_from_the_others():
    sweep = Sweep(load(ROOT / "config/config.yaml"))
    assert len(sweep.starts) > 1  # made before
    name, cell = next((name, cell) for name, cell in sweep.cells.items() if cell.rank)
    part = sweep.only({name})
    assert list(part.cells) == [name] and list(part.starts) == [cell.start]
    assert len(sweep.cells) == 18


@pytest.mark.parametrize(
    ("apart", "words"),
    [
        ({"figure77": SEED_0}, ("config.exhibits: unknown exhibit 'figure77'", "'figure7'")),
        ({"figure8": {"rank": [1]}}, ("config.exhibits.figure8: unknown key 'rank'", "'ranks'")),
        ({"figure8": {}}, ("config.exhibits.figure8",)),
        ({"figure8": {"tasks": ["gsm-mini"]}}, ("config.exhibits.figure8: unknown key 'tasks'",)),
        (
            {"figure8": {"cells": [{"method": "middlee", "quant": "none"}]}},
            ("config.exhibits.figure8.cells[0].method: unknown method 'middlee'", "'middle'"),
        ),
        (
            {"figure8": {"cells": [{"method": "loftq", "quant": "none"}]}},
            ("config.exhibits.figure8.cells[0]: (loftq, none) makes no sense",),
        ),
        ({"figure8": {"models": ["mini"]}}, ("config.exhibits.figure8.models: unknown model 'mini'",)),
        ({"figure8": {"datasets": ["gsm"]}}, ("config.exhibits.figure8.datasets: unknown dataset 'gsm'",)),
        (
            {"figure8": {"seeds": list(range(900)), "ranks": list(range(1, 90))}},
            ("config.sweep: its lists multiply to",),
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(apart, words):
    with pytest.raises(UserError) as told:
        exhibits.outputs(Sweep(with_apart(**apart)))
    assert all(word in str(told.value) for word in words), told.value


def test_one_seed_beside_the_sweeps_three_in_the_shipped_overlay(swept):
    three = {name for name, cell in swept.shown_in("table2").cells.items() if cell.seed}
    assert len(swept.cells) == 48 and len(three) == 12
    assert not {name for name, cell in swept.cells.items() if cell.seed} - three


def test_an_exhibit_asks_for_its_own_cells_alone(swept):
    (table,) = [one for one in exhibits.outputs(swept) if exhibits.name_of(one.exhibit) == "table5"]
    folders = {path.parent for path in table.needs() if path.name == "train.json"}
    assert folders == {paths.cell(name).folder for name in swept.shown_in("table5").cells}


def test_the_target_paper_has_every_number_that_the_config_can_carry(swept):
    made = exhibits.targets(swept, "paper")
    numbered = {one.target: one for one in exhibits.outputs(swept) if one.exhibit.PAPER}
    assert set(made) == {target for target, one in numbered.items() if one.possible}
    left = {exhibits.name_of(one.exhibit) for target, one in numbered.items() if target not in made}
    assert left == {"figure12", "figure13"}
    for name in left:
        with pytest.raises(UserError, match=f"{name}.svg: this config has nothing .* It needs: cells of .*`paper: "):
            exhibits.output(swept, "figure", f"paper/{name}").needs()


def test_a_models_figure_is_its_own():
    sweep = Sweep(load(ROOT / "config/config.yaml", ROOT / "config/paper.yaml"))
    shown = {"figure4": "llama-2-7b", "figure5": "llama-3-8b", "figure12": "mistral-7b", "figure13": "gemma-7b"}
    for name, model in shown.items():
        needs = exhibits.output(sweep, "figure", f"paper/{name}").needs()
        assert {path.relative_to(paths.cells()).parts[0] for path in needs if paths.cells() in path.parents} == {model}


def test_a_config_without_the_section_stays_as_it_was():
    config = load(ROOT / "config/config.yaml")
    assert "exhibits" not in config
    sweep = Sweep(copy.deepcopy(config))
    assert sweep.shown_in("figure7") is sweep
