"""A sweep computes without a network, once the model and the rows are in the hub's cache: compute nodes have none."""

import json
import os
import subprocess
import sys

from hub_server import Hub, running
from test_hub import Fetch, dataset, model

from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.record import read_json

# Every attempt is noted, for a library may go on without what it asked for.
CHILD = """
import json, shutil, socket, sys
from pathlib import Path
asked = []

def refuse(*place, **_):
    asked.append(str(place[-1]) if len(place) == 2 else str(place[:2]))
    raise OSError("no network here")

socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = socket.create_connection = refuse

from helpers import Run, scored_rows
from pissa_repro.runtime.record import read_json

folder, record, rows = map(Path, sys.argv[1:])
run = Run(folder, Path(read_json(record)["path"]), rows, "pissa", "nf4", steps=2, batch_size=2)
shutil.copy(record, run.model)  # it names the repository of the hub
run.init()
run.train()
run.rows = scored_rows(folder)
run.evaluate()
print(json.dumps(asked))
"""


def test_a_cell_of_a_model_of_the_hub_is_made_and_scored_without_a_network(tmp_path, tiny_model):
    with running(Hub()) as hub:
        commit = hub.add("models", "lab/tiny", {path.name: path.read_bytes() for path in tiny_model.iterdir()})
        lines = [json.dumps({"question": f"What is {n}?", "answer": str(n)}) + "\n" for n in range(6)]
        hub.add("datasets", "lab/sums", {"data/train.jsonl": "".join(lines).encode()})
        fetched = [Fetch(hub, tmp_path / kind) for kind in ("model", "data")]
        for one, kind, source in zip(fetched, ("model", "dataset"), (model("main"), dataset()), strict=True):
            one.folder.mkdir()
            one.cache = tmp_path / "cache"
            one.ok(source, kind)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "1"}
    environment |= {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, tmp_path / "cell", fetched[0].record, fetched[1].rows]
    done = subprocess.run([*map(str, command)], env=environment, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert read_json(tmp_path / "cell" / "train.json")["base"]["commit"] == commit
    assert "lab/tiny" in (tmp_path / "cell" / "trained" / "README.md").read_text(encoding="utf-8")
    assert read_json(tmp_path / "cell" / "task.json")["metrics"]
