"""Sweeps that are killed at random moments: how they are started, watched, killed and gone on with."""

import collections
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from pissa_repro.plan.config import ROOT

CONFIG = """
datasets: {gsm-mini-train: {rows: 96}, gsm-mini-test: {rows: 24}}
train: {batch_size: 8}
tasks: {gsm-mini: {max_new_tokens: 24}}
sweep: {ranks: [4], seeds: [0], cells: [{method: lora, quant: none}, {method: pissa, quant: nf4}]}
"""
# What a stage makes, in the order in which the stages are worked on. Figures of a training need no scores.
MAKES = {
    "fetch": ["results/fetch/*/*.json"],
    "init": ["results/init/*/*/init.json"],
    "train": ["results/cells/*/*/*/train.json"],
    "generate": ["results/generated/*/*/*.json"],
    "evaluate": ["results/cells/*/*/*/eval/*.json"],
    "collect": ["results/scores.csv"],
    "table": ["results/*_table.csv"],
    "figure": ["figures/*/*.png"],
}
AHEAD = 3  # a kill is aimed at one of so many stages that are still to come: a sweep takes many kills, and gets on
KINDS = ("all", "snakemake", "stage")  # everything, as when a machine dies; snakemake alone; a stage alone
PATIENCE = 600.0  # seconds that nothing here may take


class Stage(NamedTuple):
    """A running process of a stage."""

    name: str
    process: int


def stages(folder: Path) -> list[Stage]:
    """The stages that run in this folder now, whoever has started them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            room, _, name = (words[2] if words[1:2] == [b"-m"] else b"").decode().rpartition(".")
            if room == "pissa_repro.stages" and os.readlink(entry / "cwd") == str(folder):
                found.append(Stage(name, int(entry.name)))
    return found


def until(condition) -> bool:
    """Wait until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not (held := condition()) and time.monotonic() < deadline:
        time.sleep(0.03)
    assert held, "waited in vain"
    return held


class Sweep:
    """The sweep in a folder of its own."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self.folder.mkdir()
        (self.folder / "kills.yaml").write_text(CONFIG, encoding="utf-8")

    def start(self, *more: str) -> subprocess.Popen:
        """Start snakemake on one core, in a process group of its own; `more` instead of the target."""
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "-s",
            ROOT / "Snakefile",
            "-d",
            self.folder,
            *(more or ["all"]),
            "--cores",
            "1",
        ]
        command += ["--profile", ROOT / "profiles" / "default", "--configfile", self.folder / "kills.yaml"]
        command += ["--set-resources", "train:checkpoint_steps=3", "generate:batch_size=4"]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with open(self.folder / "snakemake.log", "ab") as log:
            return subprocess.Popen(
                [*map(str, command)], stdout=log, stderr=log, start_new_session=True,
                env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    def go_on(self) -> None:
        """Run to the end, as the README says after a kill: wait for the stages that are left, unlock, run again."""
        until(lambda: not stages(self.folder))
        for more in (["--unlock"], []):
            code = self.start(*more).wait(PATIENCE)
            assert code == 0, (self.folder / "snakemake.log").read_text("utf-8")[-6000:]

    def left(self, whole: "Sweep") -> list[str]:
        """The stages that have not made everything yet that they made in a whole sweep."""
        return [stage for stage in MAKES if self.made(stage) < whole.made(stage)]

    def made(self, stage: str) -> int:
        """How many files of this stage are there."""
        return sum(len(list(self.folder.glob(pattern))) for pattern in MAKES[stage])

    def items(self) -> int:
        """How many generations are kept."""
        journals = self.folder.glob("results/cells/*/*/*/generated/*.jsonl")
        return sum(path.read_bytes().count(b'"generated"') for path in journals)

    def times(self) -> dict[str, float]:
        """Run to the end without a break; the longest time that a process of each stage took, in seconds."""
        running, seen = self.start(), {}
        spans: dict[str, float] = collections.defaultdict(float)
        while running.poll() is None:
            now = time.monotonic()
            for stage in stages(self.folder):
                spans[stage.name] = max(spans[stage.name], now - seen.setdefault(stage.process, now))
            time.sleep(0.03)
        assert running.returncode == 0, (self.folder / "snakemake.log").read_text("utf-8")[-6000:]
        return spans


class Hit(NamedTuple):
    """A kill: what was killed, and the stages that were running then. mid: generations were there, and more missing."""

    kind: str
    stages: tuple[str, ...]
    mid: bool


def kill(sweep: Sweep, whole: Sweep, spans: dict[str, float], dice: random.Random) -> Hit | None:
    """Start the sweep and kill it at a random moment, mostly of a stage that is still to come.

    None: it ended before, such as by the lock of a stage that an earlier kill has left running.
    """
    aim = dice.choice([*sweep.left(whole)[:AHEAD], "any"])
    kind, items = dice.choice(KINDS), sweep.items()
    midway = aim == "generate" and dice.random() < 0.7
    pause = dice.uniform(0, 1 if midway else spans.get(aim, 10))
    running = sweep.start()

    def reached() -> bool:
        names = {stage.name for stage in stages(sweep.folder)}
        there = aim in names or bool(aim == "any" and names)
        return running.poll() is not None or (there and (not midway or sweep.items() > items))

    until(reached)
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.wait(pause)
        return None
    return _strike(running, sweep, whole, kind, dice)


def _strike(running: subprocess.Popen, sweep: Sweep, whole: Sweep, kind: str, dice: random.Random) -> Hit | None:
    found, mid = stages(sweep.folder), 0 < sweep.items() < whole.items()
    kind = kind if found else "all"
    with contextlib.suppress(ProcessLookupError):
        if kind == "stage":
            os.kill(dice.choice(found).process, signal.SIGKILL)
            running.wait(PATIENCE)  # snakemake goes on with what does not need it
        elif kind == "snakemake":
            running.kill()
        else:
            os.killpg(running.pid, signal.SIGKILL)
        running.wait(PATIENCE)
        if kind != "stage":
            assert sweep.start("--unlock").wait(PATIENCE) == 0
        return Hit(kind, tuple(sorted({stage.name for stage in found})) or ("between",), mid)
    running.wait(PATIENCE)
    return None
