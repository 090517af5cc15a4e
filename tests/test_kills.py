"""A sweep that is killed at random moments, again and again, ends with the results of one that was left alone."""

import collections
import os
import random
import shutil
import subprocess
import sys

import pytest
from kills import MAKES, Hit, Sweep, kill

from pissa_repro.plan.config import ROOT

KILLS = int(os.environ.get("PISSA_REPRO_KILLS", "60"))
SEED = int(os.environ.get("PISSA_REPRO_KILLS_SEED", "20"))


def assert_the_same(whole: Sweep, killed: Sweep) -> None:
    """All weights, records, generations, samples and tables are equal, but for provenance."""
    command = [
        sys.executable,
        ROOT / "benchmarks" / "same.py",
        "--interrupted",
        whole.folder / "results",
        killed.folder / "results",
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr


def told(hits: list[Hit], rounds: int) -> str:
    """How often each stage was running when something was killed."""
    counts = collections.Counter((stage, hit.kind) for hit in hits for stage in hit.stages)
    lines = [f"{len(hits)} kills in {rounds} sweeps, seed {SEED}; {sum(h.mid for h in hits)} amid generations"]
    return "\n".join(lines + [f"{stage:10} {kind:10} {count}" for (stage, kind), count in sorted(counts.items())])


@pytest.mark.slow
def test_random_kills_change_no_result(tmp_path):
    """Case 20: SIGKILL to everything, to snakemake alone, and to a stage alone, at random moments."""
    dice, whole, hits, rounds = random.Random(SEED), Sweep(tmp_path / "whole"), [], 0
    spans = whole.times()
    while len(hits) < KILLS:
        rounds += 1
        killed = Sweep(tmp_path / f"killed-{rounds}")
        tries = 0
        while len(hits) < KILLS and killed.left(whole):
            tries += 1
            assert tries < 100, "no way to the end"
            if hit := kill(killed, whole, spans, dice):
                hits.append(hit)
                print(hit, flush=True)
        killed.go_on()
        assert_the_same(whole, killed)
        shutil.rmtree(killed.folder)
    print(told(hits, rounds))
    if KILLS >= 60:
        assert {stage for hit in hits for stage in hit.stages} >= set(MAKES) - {"collect"}
        assert any(hit.mid for hit in hits)
