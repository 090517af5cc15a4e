"""What every table and figure keeps to, by the room's contract; none is named here."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pissa_repro import exhibits
from pissa_repro.cli.exhibits import exhibits as listing
from pissa_repro.exhibits import PLUGINS
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError

BIN = Path(sys.executable).parent
HEAVY = {"torch", "matplotlib", "pandas", "numpy", "transformers", "lm_eval"}
THROW_AWAY = '''"""How many weights' files a model has."""

from pathlib import Path

from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths

PAPER, KIND, TARGET = "Figure 99", "figure", "studies"


def needs(sweep: Sweep) -> list[Path]:
    return [paths.model(model) for model in sweep.config["studies"]["models"]]


def make(sweep: Sweep, results: Path):
    from matplotlib.figure import Figure

    figure = Figure()
    figure.suptitle("thrown away")
    return figure
'''


PLAIN = [{"method": "lora", "quant": "none"}, {"method": "pissa", "quant": "none"}]


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    """The shipped config with everything that an exhibit may show."""
    more = ("baselines.yaml", "errors.yaml", "paper_embedded.yaml")
    config = load(*(ROOT / "config" / name for name in ("config.yaml", *more)))
    for model in ("mistral-7b-v0.1", "gemma-7b"):  # Figures 12 and 13 are of these
        config["models"][model] = config["models"]["mini-llama"] | {"paper": model}
        config["exhibits"] |= {f"figure{12 + (model == 'gemma-7b')}": {"models": [model], "cells": PLAIN}}
    for name in ("table2", "figure4", "figure5", "figure6"):
        config["exhibits"][name] = {"cells": [*PLAIN, {"method": "pissa", "quant": "nf4"}]}
    config["sweep"]["tasks"] = [*config["tasks"]]
    config["studies"]["trained"] = True
    config["sweep"]["learning_rates"] = [1e-3, 3e-3]
    config["sweep"]["ranks"] = [8, 16]
    return Sweep(config)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of what the workflow reads."""
    folder = tmp_path / "checkout"
    for name in ("pissa_repro", "rules", "config", "profiles", "reference", "docs/report"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "environment.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def run(checkout: Path, *command: str) -> subprocess.CompletedProcess:
    """Run in a folder beside the copy, with the copy's package."""
    (checkout.parent / "run").mkdir(exist_ok=True)
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "PYTHONPATH": str(checkout), "HOME": str(checkout.parent)}
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=checkout.parent / "run",
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )


def snakemake(checkout: Path, *arguments: str) -> str:
    done = run(checkout, "snakemake", "-s", str(checkout / "Snakefile"), "--cores", "1", *arguments)
    return f"{done.stdout}{done.stderr}exit {done.returncode}"


@pytest.mark.parametrize("name", PLUGINS.names())
def test_an_exhibit_says_what_it_is(name):
    exhibit = PLUGINS.load(name)
    assert exhibit.PAPER is None or re.fullmatch(r"(Table|Figure) \d+[a-z]?", exhibit.PAPER)
    assert (exhibit.__doc__ or "").strip().splitlines()[0].endswith(".")


def test_names_and_needs_load_nothing_heavy():
    code = f"""
import sys
from pissa_repro import exhibits
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
sweep = Sweep(load(ROOT / "config" / "config.yaml"))
for one in exhibits.outputs(sweep):
    one.exhibit.needs(one.sweep)
assert not {HEAVY!r} & set(sys.modules), {HEAVY!r} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_needs_are_records_and_no_two_exhibits_share_a_place(sweep):
    found = exhibits.outputs(sweep)
    assert len({one.target for one in found}) == len(found) >= len(PLUGINS.names())
    for one in found:
        assert one.needs() or one.exhibit.PUBLISHED_ALONE, one.target
        assert all(path.parts[0] == paths.RESULTS.name for path in one.needs())


@pytest.mark.parametrize("name", PLUGINS.names())
def test_a_missing_record_stops_an_exhibit(name, sweep, tmp_path):
    exhibit = PLUGINS.load(name)
    for part in () if exhibit.PUBLISHED_ALONE else exhibit.parts(sweep.shown_in(name)).values():
        with pytest.raises(UserError, match="no such (record|file)"):
            exhibit.make(part, tmp_path)


def test_every_exhibit_belongs_to_a_target(sweep):
    made = {*exhibits.targets(sweep, "all"), *exhibits.targets(sweep, "studies"), *exhibits.targets(sweep, "paper")}
    assert made == {one.target for one in exhibits.outputs(sweep)}
    numbered = {one.target for one in exhibits.outputs(sweep) if one.exhibit.PAPER}
    assert numbered == {*exhibits.targets(sweep, "paper")}


def test_what_a_config_has_nothing_for_is_left_out_of_targets_and_refused_by_name(sweep):
    bare = Sweep(sweep.config | {"studies": sweep.config["studies"] | {"trained": False}})
    made = {*exhibits.targets(bare, "all"), *exhibits.targets(bare, "studies"), *exhibits.targets(bare, "paper")}
    left_out = [one for one in exhibits.outputs(bare) if one.target not in made]
    assert left_out
    for one in left_out:
        with pytest.raises(UserError, match=f"{one.target}: this config has nothing to show in it .* It needs: "):
            one.needs()


def test_an_unknown_place_names_the_nearest(sweep):
    for kind, where in exhibits.WHERE.items():
        known = next(one.place for one in exhibits.outputs(sweep) if kind == one.exhibit.KIND)
        with pytest.raises(UserError, match=f"{where(known + 'x')}: unknown {kind} .* Did you mean '.*'.* Choices: "):
            exhibits.output(sweep, kind, known + "x")


def test_the_list_has_every_target_and_paper_reference(capsys):
    listing()
    lines = capsys.readouterr().out.partition("\n\n")[0].splitlines()[1:]  # after the headings
    found = exhibits.outputs(Sweep(load(ROOT / "config" / "config.yaml")))
    assert [line.split()[0] for line in lines] == sorted(str(one.target) for one in found)
    for one in found:
        (line,) = [line for line in lines if line.split()[0] == str(one.target)]
        assert (one.exhibit.PAPER or "ours") in line


def test_a_further_exhibit_is_one_file(checkout):
    """It is listed, made by the target that it belongs to, and drawn; nothing else is edited."""
    (checkout / "pissa_repro/exhibits/figure99.py").write_text(THROW_AWAY, encoding="utf-8")
    listed = run(checkout, "python", "-c", "from pissa_repro.cli.exhibits import exhibits; exhibits()").stdout
    assert re.search(
        r"^figures/paper/figure99.svg +Figure 99 +yes +How many weights' files a model has.$", listed, re.MULTILINE
    )
    assert "figures/paper/figure99.svg" in snakemake(checkout, "-n", "studies")
    said = snakemake(checkout, "figures/paper/figure99.svg")
    assert said.endswith("exit 0"), said
    assert "thrown away" not in said and (checkout.parent / "run/figures/paper/figure99.png").is_file()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("def needs(", "def nedes(", ("unknown name 'nedes'", "'needs'")),
        (
            "def make(sweep: Sweep, results: Path)",
            "def make(sweep: Sweep)",
            ("'make' takes (sweep)", "(sweep, results)"),
        ),
        ("TARGET = ", "TARGT = ", ("unknown name 'TARGT'", "'TARGET'")),
        (
            '"Figure 99", "figure", "studies"',
            '"Figure 99", "picture", "studies"',
            ("KIND is 'picture'", "table, figure"),
        ),
        ('"Figure 99"', '"Fig. 99"', ("PAPER is 'Fig. 99'", "'Figure 2b'")),
        ('"Figure 99"', '"Figure 98"', ("PAPER is 'Figure 98'", "figure98.py")),
    ],
)
def test_an_exhibit_that_is_not_whole_is_refused(checkout, old, new, words):
    text = THROW_AWAY.replace(old, new)
    assert text != THROW_AWAY
    (checkout / "pissa_repro/exhibits/figure99.py").write_text(text, encoding="utf-8")
    said = run(checkout, "python", "-c", "from pissa_repro.exhibits import PLUGINS; PLUGINS.check()").stderr
    assert all(word in said for word in ("pissa_repro/exhibits/figure99.py", *words)), said


def test_the_dry_run_refuses_an_exhibit_that_is_not_whole_whatever_is_asked(checkout):
    (checkout / "pissa_repro/exhibits/figure99.py").write_text(
        THROW_AWAY.replace("def needs(", "def nedes("), encoding="utf-8"
    )
    said = snakemake(checkout, "-n", "results/scores.csv")
    assert "pissa_repro/exhibits/figure99.py: unknown name 'nedes'" in said and not said.endswith("exit 0")


@pytest.mark.parametrize("target", ["results/paper/table88.csv", "figures/paper/fig14.svg", "figures/loss.svg"])
def test_a_target_that_is_no_exhibit_is_told_with_the_nearest(target, checkout):
    said = snakemake(checkout, "-n", target)
    assert re.search(rf"{target}: unknown (table|figure) '.*'. (Did you mean '.*'. )?Choices: ", said), said
