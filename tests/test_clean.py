"""`pissa clean`: only what no table needs goes, only by --yes, and never from under a process that works on it."""

import shutil

import pytest
from commands import pissa
from stage import says
from whole import Whole

from pissa_repro.cli import clean as command
from pissa_repro.results import unneeded
from pissa_repro.runtime import paths
from pissa_repro.runtime.lock import alone, lock_of
from pissa_repro.scoring import generations

OPTIONS = ("--weights", "--decompositions", "--yes")


class Left(Whole):
    """A finished sweep with all that may lie about: `needed` has to stay, the others are named by kind."""

    def __init__(self, folder):
        super().__init__(folder)
        self.cell, self.full = (self.job("train", part).name for part in ("pissa-none", "full"))
        home, scratch = paths.cell(self.cell, self.results), self.at(paths.SCRATCH)
        spec = self.sweep.generate_spec(self.sweep.cell(self.cell), "gsm-mini")
        needed = [generations.place(home, "gsm-mini", spec), home.generated / "other-task-00000000.jsonl"]
        self.unfinished = self.job("train", "lora-none").name
        self.unmake(self.job("train", "lora-none"))
        needed.append(scratch / self.unfinished / "checkpoint-5/weights")
        self.paths = {
            "scratch": scratch / self.cell,
            "leftovers": home.folder / ".trained",
            "generations": home.generated / "gsm-mini-00000000.jsonl",
            "weights": paths.cell(self.full, self.results).trained,
            "decompositions": self.at(paths.DECOMPOSED),
            "other cells": paths.cell("mini-llama/gsm-mini-train/pissa-none-r99-lr1-s0", self.results).folder,
        }
        for path in (*needed, *(self.paths[kind] / "a/b" for kind in self.paths if kind != "generations")):
            self.fill(path)
        self.fill(self.paths["generations"])
        self.before = self.files()

    @staticmethod
    def fill(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(2048 * b"x")

    def files(self) -> set:
        return {path for path in self.folder.rglob("*") if path.is_file()}

    def clean(self, *options) -> None:
        pissa("clean", "--configfile", self.config, "--results", self.results, *options)

    def gone(self) -> set:
        """The kinds of which nothing is there any more; nothing else may have gone, or come."""
        lost = self.before - self.files()
        assert self.files() <= self.before, "something was left behind"
        kinds = {kind for kind, path in self.paths.items() if not path.exists()}
        allowed = {path for path in self.before for kind in kinds if path.is_relative_to(self.paths[kind])}
        assert lost == allowed
        return kinds


@pytest.fixture
def left(tmp_path) -> Left:
    return Left(tmp_path)


def test_a_list_has_sizes_and_removes_nothing(left, capsys):
    left.clean(*OPTIONS[:2])
    shown = capsys.readouterr().out
    assert left.gone() == set()
    for kind, path in left.paths.items():
        (line,) = (line for line in shown.splitlines() if line.endswith(str(path)))
        assert line.split() == [kind.split()[0], *kind.split()[1:], "2", "KiB", str(path)]
    assert "Nothing was removed. --yes removes 5 of these, 10 KiB." in shown and left.unfinished not in shown


@pytest.mark.parametrize("options", [(), ("--weights",), ("--decompositions",)])
def test_only_what_was_asked_for_goes(left, options):
    left.clean("--yes", *options)
    assert left.gone() == {"scratch", "leftovers", "generations", *(option.removeprefix("--") for option in options)}
    left.clean("--yes", *options)  # there is nothing left to do


def test_what_is_locked_stays(left, capsys):
    """A training, and a generation of the cell whose weights it reads."""
    busy = paths.cell(left.full, left.results).generated / "gsm-mini-11111111.jsonl"
    lock = lock_of(busy)
    lock.parent.mkdir()
    lock.write_text("pid 1 on another-machine", encoding="utf-8")
    left.before = left.files()
    with alone(left.paths["scratch"], "training in"), alone(left.paths["generations"], "generating into"):
        before = left.files()
        left.clean(*OPTIONS)
        assert before - left.files() == {left.paths["decompositions"] / "a/b"}
    assert str(left.paths["scratch"]) not in capsys.readouterr().out


def test_a_lock_that_was_taken_since_is_told_and_the_others_go(left, capsys):
    found = command.unneeded(left.sweep, left.results)
    (one,) = (one for one in found if one.kind == "scratch")
    with alone(one.place, "training in"):
        says(lambda: unneeded.remove(one, left.results), str(one.path), "another process is working in it")
        assert one.path.exists() and command.removed([one], left.results) == 0
    assert capsys.readouterr().out.startswith(f"left: {one.path}: another process")
    assert command.removed([one], left.results) == 2048 and not one.path.exists()


def test_nothing_goes_while_snakemake_runs(left):
    left.fill(left.folder / ".snakemake/locks/0.output.lock")
    left.before = left.files()
    left.clean()
    says(lambda: left.clean(*OPTIONS), "snakemake", "--unlock")
    assert left.gone() == set()


@pytest.mark.parametrize("kind", ["scratch", "generations", "weights", "leftovers", "decompositions"])
def test_what_a_link_leads_to_stays(left, kind, tmp_path_factory):
    """The folder itself, or one above it."""
    for depth in range(2):
        elsewhere = tmp_path_factory.mktemp("elsewhere") / "moved"
        linked = left.paths[kind] if depth == 0 else left.paths[kind].parent
        if linked in (left.at(paths.SCRATCH), left.results):
            continue  # a whole scratch/ may lie on another disk
        shutil.move(linked, elsewhere)
        linked.symlink_to(elsewhere)
        count = sum(path.is_file() for path in elsewhere.parent.rglob("*"))
        left.clean(*OPTIONS)
        assert linked.is_symlink() and sum(path.is_file() for path in elsewhere.parent.rglob("*")) == count
        linked.unlink()
        shutil.move(elsewhere, linked)
        for one, path in left.paths.items():
            left.fill(path if one == "generations" else path / "a/b")


def test_weights_stay_until_all_is_made_from_them(left):
    left.unmake(left.job("evaluate", "full"))
    left.before = left.files()
    left.clean(*OPTIONS)
    assert "weights" not in left.gone()


def test_a_kill_leaves_nothing_that_looks_whole(left, monkeypatch):
    found = command.unneeded(left.sweep, left.results)
    weights, scratch = (next(one for one in found if one.kind == kind) for kind in ("weights", "scratch"))

    def killed(path, ignore_errors=False):
        if not ignore_errors:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(unneeded.shutil, "rmtree", killed)
        for one in (weights, scratch):
            with pytest.raises(KeyboardInterrupt):
                unneeded.remove(one, left.results)
    assert not weights.path.exists() and not scratch.path.exists()
    left.clean("--yes")
    assert not list(left.results.rglob(".trained*")) and not list(left.at(paths.SCRATCH).glob("*/*/.pissa*"))


def test_a_record_of_another_config_is_no_reason_to_remove(left):
    """Nothing of a cell goes that is not trained as this config says."""
    job = left.job("train", "pissa-none")
    left.make(job, spec={**job.spec(), "learning_rate": 0.5})
    left.before = left.files()
    left.clean("--yes")
    assert left.gone() == set()
