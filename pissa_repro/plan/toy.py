"""The toy of the paper's Figure 2a: a two-layer network that learns odd digits, then even ones. Imports no torch.

`released`: as in the released folder loss_landscape. `printed`: as the caption's words read to one who has not seen
that code: the digits themselves and factors of low rank; what it does not print is as released. They differ in what
matters: after the released PCA rank 8 is full rank, so that nothing of W is frozen.
"""

from pathlib import Path

from pissa_repro import methods
from pissa_repro.plan.sections import Toy
from pissa_repro.plan.sweep import SOLVER_VERSION, Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.study_specs import ToySpec, ToyVariant

VERSION = 1  # raised when the code of the stage changes what comes out of it
SEEDS = 10
METHODS = ("full", "lora", "pissa")
VARIANTS: dict[str, ToyVariant] = {
    "released": {"pixels": "raw", "components": 8, "rank": 8},
    "printed": {"pixels": "standardised", "components": None, "rank": 4},  # the last layer's smaller side is 5
}
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")  # as MNIST is published, packed by gzip or not
PLACE = "config.studies.toy.data"


def asked(sweep: Sweep) -> Toy | None:
    """What the config says of the toy; None where it wants none."""
    default: Toy = {}
    return sweep.config["studies"].get("toy", default)


def records(sweep: Sweep) -> list[Path]:
    """The record that the figure is made from."""
    return [] if asked(sweep) is None else [paths.toy()]


def files(sweep: Sweep) -> list[Path]:
    """The files of the digits; none where they are scikit-learn's. Raises UserError for a folder without them."""
    folder = (asked(sweep) or {}).get("data")
    return [] if folder is None else [_file(Path(folder), name) for name in FILES]


def _file(folder: Path, name: str) -> Path:
    found = [path for path in (folder / f"{name}.gz", folder / name) if path.is_file()]
    if not found:
        raise UserError(f"{PLACE}: no file {name}.gz or {name} in {folder}. Give the folder of MNIST's files, or none.")
    return found[0]


def spec(sweep: Sweep) -> ToySpec:
    """Spec of training the toy. The rows are known by the hash in its record."""
    given = asked(sweep)
    if given is None:
        raise UserError("config.studies.toy: is null, so there is no toy.")
    return {
        "stage": "toy",
        "version": VERSION,
        "solver_version": SOLVER_VERSION,
        "method_versions": {name: methods.version(name) for name in METHODS},
        "data": "mnist" if "data" in given else "digits",
        "seeds": given.get("seeds", SEEDS),
        "variants": VARIANTS,
        "hidden": 128,
        "odd": 10_000,
        "even": 1_000,
        "pretrain_epochs": 200,
        "epochs": 100,
        "learning_rate": 5e-4,
    }
