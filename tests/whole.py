"""A sweep as it looks when all of it is done: its records, folders and files, with little in them. No torch."""

import subprocess
from pathlib import Path

import yaml

from pissa_repro.cli.status import exhibited
from pissa_repro.plan.batches import Batches
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.jobs import Job, jobs
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import write_json

SECONDS = 30.0
FOUND = "f" * 64


class Whole:
    """A folder with a finished sweep of the shipped config under changes, and its jobs by stage and name."""

    def __init__(self, folder: Path, **swept):
        self.folder, self.results, self.config = folder, folder / "results", folder / "mine.yaml"
        self.config.write_text(yaml.safe_dump({"sweep": {"seeds": [0], **swept}}), encoding="utf-8")
        self.sweep = Sweep(load(ROOT / "config/config.yaml", self.config))
        every = [*jobs(self.sweep, Batches(self.sweep)), *exhibited(self.sweep)]
        self.jobs = {(job.stage, job.name): job for job in every}
        for job in every:
            self.make(job)

    def at(self, path: Path) -> Path:
        return paths.at(path, self.results)

    def make(self, job: Job, **changes) -> None:
        """All that a job writes. changes: what its record says otherwise."""
        for path in (job.record, *job.beside):
            self.at(path).parent.mkdir(parents=True, exist_ok=True)
            self.at(path).touch() if path.suffix else self.at(path).mkdir(exist_ok=True)
        if job.stage == "exhibit":
            self.at(job.record.with_suffix({".csv": ".md"}.get(job.record.suffix, ".png"))).touch()
        if job.spec is not None:
            rows = {name: f"rows of {name}" for name in job.data}
            hashes = {"fingerprint": FOUND} if job.record.parent.name == "models" else {"sha256": f"rows of {job.name}"}
            record = {"spec": job.spec(), "base": {"fingerprint": FOUND}, "data_sha256": rows, **hashes}
            write_json(self.at(job.record), {**record, "provenance": {"seconds": SECONDS, "hardware": {}}, **changes})

    def job(self, stage: str, part: str = "") -> Job:
        """The first job of a stage whose name holds a part."""
        return next(job for (of, name), job in self.jobs.items() if of == stage and part in name)

    def unmake(self, job: Job) -> None:
        """As Snakemake leaves a job that failed: without its outputs."""
        for path in (job.record, *(path for path in job.beside if path.suffix)):
            self.at(path).unlink()

    def says(self, job: Job, text: str) -> Path:
        """The log of a job."""
        path = self.at(job.log)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path


def dead_process() -> int:
    """The number of a process that was."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid
