"""Every exhibit of trained cells is made where a training diverged: it says so, and shows no number that is none."""

import re

import pytest
from diverging import record, swept
from matplotlib.text import Text

from pissa_repro import exhibits
from pissa_repro.cli import reproduce
from pissa_repro.report.figures import style
from pissa_repro.report.tables.table import Table, save
from pissa_repro.runtime import paths

SWEEP = swept()
LOST = {  # which trainings diverge
    "one seed of PiSSA": lambda cell: cell.method in ("pissa", "pissa-dora", "full-bf16") and cell.seed == 1,
    "all of LoRA": lambda cell: cell.method == "lora",
}
NO_NUMBER = re.compile(r"\bnan\b", re.IGNORECASE)


def of_cells(lost):
    """The outputs that are made from a record of a training that diverged."""
    for one in exhibits.outputs(SWEEP):
        own = {paths.cell(name).folder for name, cell in one.sweep.cells.items() if lost(cell)}
        needed = one.needs() if own and one.possible else []
        if any(path == paths.scores() or own & {*path.parents} for path in needed):
            yield one


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of records for each of LOST."""
    places = {name: tmp_path_factory.mktemp("lost") for name in LOST}
    for name, folder in places.items():
        record(SWEEP, folder, LOST[name])
    return places


def made(one, results):
    """A table, or a figure as it is drawn."""
    with style.context():
        found = one.exhibit.make(one.sweep, results)
        if one.exhibit.KIND == "figure":
            found.draw_without_rendering()
    return found


def words(shown, folder):
    """All that a reader sees of a table or figure."""
    if isinstance(shown, Table):
        save(shown, folder / "out.csv")
        return [shown.markdown, (folder / "out.csv").read_text(encoding="utf-8")]
    return [text.get_text() for text in shown.findobj(Text) if text.get_visible()]


@pytest.mark.filterwarnings("error::RuntimeWarning", "error::UserWarning")
@pytest.mark.parametrize(
    ("lost", "one"),
    [
        pytest.param(name, one, id=f"{name}-{one.place}-{one.exhibit.KIND}")
        for name in LOST
        for one in of_cells(LOST[name])
    ],
)
def test_it_is_made_and_says_so(lost, one, folders, tmp_path):
    text = words(made(one, folders[lost]), tmp_path)
    assert any("diverged" in part for part in text)
    assert not [part for part in text if NO_NUMBER.search(part)]


@pytest.fixture
def one_seed(folders):
    """Makes an exhibit from the folder in which one seed of PiSSA diverged."""
    return lambda kind, place: made(exhibits.output(SWEEP, kind, place), folders["one seed of PiSSA"])


def test_what_diverged_is_in_no_pair_and_has_a_row_of_its_own(one_seed):
    rows = one_seed("table", "extra/wins").rows
    alone = [row for row in rows if not row.get("b")]
    assert {row["config_a"] for row in alone} == {"pissa", "pissa-dora", "full-bf16"}
    assert {row["verdict"] for row in alone} == {"diverged (1 of 2 seeds)"}
    assert not {"pissa", "pissa-dora", "full-bf16"} & {row[f"config_{x}"] for row in rows if row.get("b") for x in "ab"}


def test_a_square_of_the_map_says_diverged_and_has_no_colour(one_seed):
    score, loss, *_ = (axes for axes in one_seed("figure", "extra/ranks").axes if axes.images)
    names = [label.get_text() for label in score.get_yticklabels()]
    for axes in (score, loss):
        places = {text.get_position() for text in axes.texts if text.get_text() == "diverged"}
        lost = {(x, names.index(name)) for name in ("PiSSA", "PiSSA + DoRA", "QPiSSA") for x in (0, 1)}
        assert places == lost | {(2, names.index("full FT (bfloat16)"))}
        assert all(axes.images[0].get_array().mask[int(y), int(x)] for x, y in places)


def test_what_diverged_is_no_point_and_is_last_among_the_rows(one_seed):
    for axes in one_seed("figure", "extra/pareto").axes:
        assert len([line for line in axes.lines if line.get_marker() != "None" and len(line.get_xdata())]) == 13
    labels = [label.get_text() for label in one_seed("figure", "extra/baselines").axes[0].get_yticklabels()]
    nf4 = labels.index("base: nf4")
    assert labels[nf4 - 5 : nf4] == [
        "full FT (bfloat16)",
        *(f"{x}, r {r}" for x in ("PiSSA", "PiSSA + DoRA") for r in (4, 16)),
    ]


def test_a_lost_reference_is_told_where_the_comparison_would_stand(folders):
    for place in ("extra/answers", "extra/reach"):
        rows = made(exhibits.output(SWEEP, "table", place), folders["all of LoRA"]).rows
        lost, others = ([row for row in rows if (row["config_method"] == "lora") is way] for way in (True, False))
        assert {row.get("reference") for row in others} == {"the reference diverged"}
        assert {row["diverged"] for row in lost} == {2} and not any(row.get("final_loss") for row in lost)


def test_reproduce_says_how_many_diverged(folders, tmp_path, monkeypatch):
    (tmp_path / paths.RESULTS).symlink_to(folders["one seed of PiSSA"])
    monkeypatch.chdir(tmp_path)
    task, _ = SWEEP.config["sweep"]["tasks"]
    part = SWEEP.narrowed(cells=[{"method": "pissa", "quant": "none"}], ranks=[4], tasks=[task])
    assert "ours: diverged (1 of 2 seeds)" in reproduce._verdict(part)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_where_all_diverged_no_item_is_counted(tmp_path):
    record(SWEEP, tmp_path, lambda cell: True)
    for place in ("gsm8k_table", "extra/wins", "extra/baselines", "paper/table2"):
        text = made(exhibits.output(SWEEP, "table", place), tmp_path).markdown
        assert "diverged (2 of 2 seeds)" in text and " 0 items" not in text and "one item" not in text, place
