"""Trainings in several processes on the CPU, one after the other, with one import of torch for all.

python tests/forked.py JOBS.json, a list of {"count": processes, "argv": of the train stage, "fail_at": a step or null,
"copy": a folder to copy before and its new place, or null, "memory": a folder, or null}. Into this each process writes
what it takes at the end of its last step, and at most within it: {"steady", "peak"}, bytes beside what it began with.
Each of several processes has the variables that torchrun sets. It prints what a process ended with that did not end
well, and how many graphs one that ended well has compiled, where these are any.
"""

import ctypes
import gc
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path

from pissa_repro.plan.config import ROOT


def trained(folder: Path, *jobs: dict) -> str:
    """Run the jobs in a process of their own, and return what they log; all end well, those told to fail do so."""
    listed = folder / "jobs.json"
    listed.write_text(
        json.dumps([{"fail_at": None, "copy": None, "memory": None, **job} for job in jobs]), encoding="utf-8"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    if any(job.get("memory") for job in jobs):
        environment["MALLOC_MMAP_THRESHOLD_"] = "262144"  # freed memory goes back to the system at once
    command = [sys.executable, str(Path(__file__)), str(listed)]
    with open(folder / "jobs.log", "w+", encoding="utf-8") as said:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=said, stderr=said, timeout=1800)
        said.seek(0)
        text = said.read()
    assert done.returncode == 0, text[-6000:]
    return text


def _work(rank: int, job: dict, port: int) -> int:
    """One process of a job; the code that it ends with."""
    from torch._dynamo.utils import counters

    from pissa_repro.runtime.errors import UserError
    from pissa_repro.stages import train
    from pissa_repro.training.trainer import Watch

    if job["count"] > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(job["count"])}
        os.environ |= {"LOCAL_WORLD_SIZE": str(job["count"]), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}

    def fail(watch, args, state, control, **_):
        if state.global_step == job["fail_at"]:
            raise UserError("stopped")

    if job["fail_at"]:
        Watch.on_step_end = fail
    if job["memory"]:
        _measure(Watch, Path(job["memory"], f"{rank}.json"))
    try:
        train.main(job["argv"])
    except BaseException as error:
        if job["fail_at"] and str(error) == "stopped":
            return 0
        traceback.print_exc()
        return 1
    if graphs := counters["stats"]["unique_graphs"]:
        print(f"graphs: {graphs}")
    return 1 if job["fail_at"] else 0


def _measure(watch: type, place: Path) -> None:
    """Let a training say what it takes. Linux's VmHWM is a peak that can be begun anew."""
    before, honest = _now("VmRSS"), watch.on_step_end

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == state.max_steps - 1:
            _let_go()
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")

    def on_step_end(self, args, state, control, **given):
        if state.global_step == state.max_steps:
            peak = _now("VmHWM") - before
            _let_go()
            found = {"steady": _now("VmRSS") - before, "peak": peak}
            place.write_text(json.dumps(found), encoding="utf-8")
        return honest(self, args, state, control, **given)

    watch.on_step_begin, watch.on_step_end = on_step_begin, on_step_end


def _let_go() -> None:
    """Give the system what nothing uses: how much glibc keeps of it is chance."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)


def _now(what: str) -> int:
    """Bytes, of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


def _run(job: dict) -> bool:
    """Whether all processes of a job ended well."""
    if job["copy"]:
        shutil.copytree(*job["copy"])
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port = made.getsockname()[1]
    children = set()
    for rank in range(job["count"]):
        child = os.fork()
        if child == 0:
            code = _work(rank, job, port)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        children.add(child)
    while children:
        child, status = os.wait()
        children.remove(child)
        if status:
            for other in children:  # it would wait for the one that failed
                os.kill(other, signal.SIGKILL)
            return False
    return True


def main() -> None:
    import torch

    from pissa_repro.adapters.trained import finish  # noqa: F401
    from pissa_repro.training import trainer  # noqa: F401

    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(1)
    for number, job in enumerate(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))):
        print(f"job {number}: {job['count']} processes", flush=True)
        if not _run(job):
            sys.exit(1)


if __name__ == "__main__":
    main()
