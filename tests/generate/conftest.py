"""A trained cell."""

import pytest
from generated_cells import ITEMS
from helpers import Run, scored_rows

from pissa_repro.runtime.record import read_lines, write_lines


@pytest.fixture(scope="session")
def trained(tmp_path_factory, tiny_model, tiny_rows):
    """A trained cell that is scored on 24 rows of different lengths."""
    folder = tmp_path_factory.mktemp("cell")
    run = Run(folder, tiny_model, tiny_rows, "pissa", steps=6, learning_rate=5e-3, max_new_tokens=12)
    run.init()
    run.train()
    run.rows = scored_rows(folder, ITEMS)
    rows = read_lines(run.rows)
    write_lines(run.rows, [row | {"prompt": row["prompt"] * (1 + n % 5)} for n, row in enumerate(rows)])
    return run


@pytest.fixture
def fresh(trained, tmp_path):
    """The same cell with nothing generated yet."""
    trained.generated = tmp_path / "generated.jsonl"
    for path in (trained.folder / "task.json", trained.folder / "task.samples.jsonl"):
        path.unlink(missing_ok=True)
    return trained
