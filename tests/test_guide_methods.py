"""docs/guides/add_a_method.md: its first example trains as it says, its configs are ones, its tables are whole."""

import re

import pytest
import scipy.fft
import torch
from blocks import BLOCK
from helpers import Run
from plugged import plugged
from safetensors.torch import load_file
from starting import sides, spec_of, start_of

from pissa_repro import methods
from pissa_repro.linalg.spectrum import Spectrum
from pissa_repro.methods._contract import KINDS, Method
from pissa_repro.model import factors
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep

GUIDE = (ROOT / "docs/guides/add_a_method.md").read_text(encoding="utf-8")
PYTHON, YAML = ([code for kind, code in BLOCK.findall(GUIDE) if kind == wanted] for wanted in ("python", "yaml"))


@pytest.fixture(scope="module", autouse=True)
def example(tmp_path_factory):
    """The guide's first method, put among the others."""
    with plugged(tmp_path_factory.mktemp("guide") / "methods", {"dct": PYTHON[0]}):
        yield


def test_the_first_example_is_the_cosine_transform():
    weight = torch.randn(20, 12, generator=torch.Generator().manual_seed(0))
    wanted = torch.from_numpy(scipy.fft.dct(torch.eye(12, dtype=torch.float64).numpy(), norm="ortho", axis=0)).float()
    for rank in (1, 12):
        start, facts = start_of("layer", weight, spec_of("dct", "none", rank, rank))
        assert torch.allclose(start.A, wanted[:rank], atol=1e-6) and start.trains == ("B",)
        base, product = sides(start, weight, 1.0, "none")
        assert torch.equal(base, weight) and not product.any() and facts["equality_error"] == 0


def test_the_first_example_trains_b_alone(tmp_path, tiny_model, tiny_rows):
    run = Run(tmp_path, tiny_model, tiny_rows, "dct", steps=3)
    run.init()
    record = run.train()
    trained = load_file(run.factors / factors.FACTORS)
    assert trained and all("lora_B" in name and tensor.any() for name, tensor in trained.items())
    assert record["trainable_parameters"] == sum(tensor.numel() for tensor in trained.values())


def test_its_configs_are_whole(tmp_path):
    """On top of config/config.yaml: cells of the new method, 40 steps; a name of its own with its own rate."""
    sweeps = []
    for text in YAML:
        (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
        sweeps.append(Sweep(load(ROOT / "config/config.yaml", tmp_path / "mine.yaml")))
    first, second = sweeps
    cells = [(cell.method, cell.quant, cell.seed) for cell in first.cells.values()]
    assert cells == [("lora", "none", 0), ("dct", "none", 0), ("dct", "nf4", 0)]
    assert all(first.train_spec(cell)["settings"]["steps"] == 40 for cell in first.cells.values())
    assert {(cell.method, cell.learning_rate) for cell in second.cells.values()} == {("mine", 1e-2)}


def rows(heading: str) -> set[str]:
    """The names in the first column of the tables of a section, without its heading ("of ...")."""
    section = GUIDE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    first = re.findall(r"^\| (?!of )(.*?) \|", section, re.MULTILINE)
    return {name for row in first for name in re.findall(r"`(\w+)", row)}


def public(names) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def test_its_tables_hold_every_name_of_the_contract():
    declared = public([*vars(Method), *Method.__annotations__])
    assert rows("What the file declares") == declared
    assert rows("What `start` gives") == set(methods.Start.__dataclass_fields__)
    assert rows("A start that sees data") == set(KINDS)
    assert rows("What a method adds to the training") == public(vars(methods.Training))
    given, inner = rows("What `start` is given"), {"solve", "check"}  # of linalg itself
    assert given == {
        *methods.Setting.__dataclass_fields__,
        "remainder",
        *public(vars(Spectrum)) - inner,
        "weight",
        "name",
    }
