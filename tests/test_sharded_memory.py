"""What each process takes where two share the weights of a training: half of these and some blocks (Linux only)."""

import os

import pytest
from forked import trained
from large import cell_of, save_llama

from pissa_repro.runtime.record import read_json

CELLS = {"full": ("full", "none"), "pissa": ("pissa", "none")}
SIZES = {"full": (512, 8), "pissa": (512, 24)}  # side of the matrices, and layers of seven
BYTES = {"full": 12, "pissa": 4}  # of a shared weight: float32, and of full fine-tuning Adam's moments


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """What each process of a training takes, by cell and number of processes."""
    folder, jobs, places = tmp_path_factory.mktemp("memory"), [], {}
    models = {cell: save_llama(folder / cell, *size) for cell, size in SIZES.items()}
    for cell, asked in CELLS.items():
        for count in (1, 2):
            run = cell_of(folder / f"{cell}-{count}", models[cell], *asked, steps=2)
            place = places[cell, count] = run.folder / "memory"
            place.mkdir()
            argv = run.train_argv("--micro-batch-size", "2", "--sharding", "full" if count > 1 else "none")
            jobs.append({"count": count, "argv": argv, "memory": str(place)})
    trained(folder, *jobs)
    return {key: [read_json(place / f"{rank}.json") for rank in range(key[1])] for key, place in places.items()}


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peaks of memory are Linux's")
@pytest.mark.parametrize("cell", CELLS)
def test_two_processes_that_share_the_weights_take_half_each(taken, cell):
    (one,), (wide, layers) = taken[cell, 1], SIZES[cell]
    shared = BYTES[cell] * 7 * layers * wide**2
    for two in taken[cell, 2]:
        falls = {part: (one[part] - two[part]) / shared for part in one}
        print(cell, falls, one, two)
        assert 0.35 < falls["steady"] < 0.55, "of what is shared, half"
        assert falls["peak"] > 0.2, "some blocks are whole while one computes"
