"""A folder of results made by hand, of a small sweep; every number in it is invented."""

from pathlib import Path

import yaml
from recorded import record

from pissa_repro.plan.batches import Batches
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.jobs import jobs
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import write_json

SWEPT = {
    "sweep": {
        "cells": [{"method": method, "quant": "none"} for method in ("full", "lora", "pissa")],
        "ranks": [4, 16], "seeds": [0, 1],
    }
}  # fmt: skip

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\"> \u202eabc אבג"


class Made:
    """The sweep, its config file, and its folder of records. over: a shipped config below that file."""

    def __init__(self, folder: Path, skip=(), over: str = "config.yaml", **swept):
        self.results, self.config = folder / "results", folder / "mine.yaml"
        self.config.write_text(yaml.safe_dump({"sweep": SWEPT["sweep"] | swept}), encoding="utf-8")
        self.sweep = Sweep(load(ROOT / "config/config.yaml", ROOT / "config" / over, self.config))
        self.results.mkdir()
        record(self.sweep, self.results, skip)
        for job in jobs(self.sweep, Batches(self.sweep)):
            if job.stage in ("admit", "init", "generate", "fetch"):
                self._mark(job)

    def _mark(self, job) -> None:
        """The record of a stage that the page takes no number from."""
        path, origin = paths.at(job.record, self.results), {"provenance": {"seconds": 1.0}}
        rows = dict(zip(job.data, job.data, strict=True))
        here = {"spec": job.spec(), "base": {"fingerprint": "f" * 64}, "data_sha256": rows, **origin}
        hashes = {"fingerprint": "f" * 64} if path.parent.name == "models" else {"sha256": job.name}
        write_json(path, here | hashes)


def drawn(tab) -> None:
    """Wait until the page in a browser has its charts."""
    tab.wait_for_selector("#scatter svg .mark-symbol path")
    tab.wait_for_selector("#curves svg .mark-line path")
