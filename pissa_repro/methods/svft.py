"""SVFT (arXiv 2405.19597): U and V of the whole SVD of W are frozen, and a sparse matrix between them trains.

The rank of a cell says nothing here: there are as many vectors as W's smaller side has entries. The start holds them
all, of twice the size of W; what is trained and stored of a cell is the sparse matrix alone.

Deviations: M is (k, k), k = min(out, in). The paper's is (out, in); what is beyond would pair the vectors of W's null
space.
"""

from collections.abc import Mapping
from typing import Any

from pissa_repro.methods import Matrix, Setting, Start
from pissa_repro.runtime.errors import UserError

DISPLAY, QUANTIZED_DISPLAY = "SVFT", "QSVFT"
RANDOM = False
LOOK = 11
OPTIONS = {"pattern": "plain", "off_diagonals": 16}  # 16 in the paper's Table 1, for Gemma
CHOICES = {"pattern": ("plain", "banded", "random", "top_k")}


def start(weight: Matrix, setting: Setting) -> Start:
    """h = (W + U M V^T) x, with M = 0 where it starts (paper, equation 1). U is divided by s, as the paper has no s."""
    from pissa_repro.linalg.spectrum import exact

    k = min(weight.shape)
    triples = exact(weight.double(), 0, k).float()  # not kept beside the start, which holds the same; W may lack rank
    free = _free(triples, setting)
    core = weight.new_zeros(k) if free is None else weight.new_zeros(k, k)
    return Start(triples.Vh.contiguous(), triples.U / setting.scaling, core=core, free=free, trained=("core",))


def entries(out: int, into: int, rank: int, options: Mapping[str, Any]) -> int:
    """The diagonal, or as many as a band has: other patterns have the same number (paper, section 5.4)."""
    k = min(out, into)
    beside = 0 if options["pattern"] == "plain" else min(options["off_diagonals"], k - 1)
    return k + beside * (2 * k - 1 - beside)


def _free(triples: Any, setting: Setting) -> "Matrix | None":
    """The entries of M that train, bool (k, k); None for the diagonal, which is stored as such (paper, section 3.1)."""
    import torch

    u, v, options = triples.U, triples.Vh, setting.options
    pattern, k, many = options["pattern"], len(v), entries(len(u), v.shape[1], setting.rank, options)
    if pattern == "plain":
        return None
    if pattern == "banded":
        ones = torch.ones(k, k, dtype=torch.bool, device=v.device)
        return ones.triu(-options["off_diagonals"]).tril(options["off_diagonals"])
    if pattern == "random":  # fixed beforehand: the same for all seeds
        chosen = torch.randperm(k * k, generator=setting.spectrum.generator())[:many]
    else:
        if len(u) != v.shape[1]:
            raise UserError(
                f"{setting.spectrum.name} {(len(u), v.shape[1])}: svft's pattern 'top_k' compares left with right "
                "singular vectors, so that the weight must be square. Take 'plain', 'banded' or 'random', or train "
                "square modules only (target_modules)."
            )
        chosen = (v @ u).mT.abs().flatten().topk(many).indices  # |u_i^T v_j|: the sign of a pair is arbitrary
    free = torch.zeros(k * k, dtype=torch.bool, device=v.device)
    free[chosen.to(v.device)] = True
    return free.view(k, k)
