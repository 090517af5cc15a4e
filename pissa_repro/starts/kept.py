"""Decompositions kept on disk, so that every weight of a model is decomposed once for a whole sweep.

One file a weight and slice below scratch/: an init that was killed goes on where it stopped, and
ranks, methods, alternations and studies share what is there. The folder may be deleted at any time.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pissa_repro.linalg.spectrum import Store, Triples
from pissa_repro.plan.sweep import SOLVER_VERSION
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.lock import acquire
from pissa_repro.runtime.record import atomic


class Kept:
    """The slices of one model, by the fingerprint of its weights."""

    def __init__(self, folder: Path, fingerprint: str):
        self.folder = folder / f"{fingerprint[:16]}-v{SOLVER_VERSION}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def of(self, module: str, device: torch.device) -> Store:
        """What a `Spectrum` of this module takes as `keep`."""

        def keep(part: str, compute: Callable[[], Triples]) -> Triples:
            path = self.folder / f"{module}.{part}.safetensors"
            with open(self.folder / f"{module}.lock", "wb") as lock:
                acquire(lock.fileno(), path, wait=True)  # a job beside this one waits instead of doing the same
                if not path.is_file():
                    _write(path, compute())
            try:
                return _read(path, device)
            except SafetensorError as error:
                raise UserError(f"{path}: damaged ({error}). Delete it and run again.") from None

        return keep


def _write(path: Path, triples: Triples) -> None:
    tensors = {key: getattr(triples, key).cpu().contiguous() for key in ("U", "S", "Vh")}
    with atomic(path, "wb") as file:
        file.write(save(tensors, {"excess": json.dumps(triples.excess)}))


def _read(path: Path, device: torch.device) -> Triples:
    with safe_open(path, framework="pt", device=str(device)) as file:
        tensors = {key: file.get_tensor(key) for key in ("U", "S", "Vh")}
        return Triples(**tensors, excess=json.loads(file.metadata()["excess"]))
