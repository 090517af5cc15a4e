"""fetch from a hub: a real client against a local server; no network beyond 127.0.0.1."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy
import pytest
from hub_server import Hub, running
from safetensors.numpy import save

from pissa_repro.model import checkpoint

ROOT = Path(__file__).resolve().parent.parent
CONFIG = json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}).encode()
WEIGHTS = save({"model.layers.0.self_attn.q_proj.weight": numpy.ones((4, 4), numpy.float32)})
MODEL = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "pytorch_model.bin": b"pickle", "README.md": b"readme"}
MODEL |= {"consolidated.safetensors": WEIGHTS, "onnx/model.safetensors": WEIGHTS}  # other copies, as Mistral's has
ROWS = [{"question": f"q{i}", "answer": f"a{i}", "extra": i} for i in range(5)]
DATA = {"data/train.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(), "other.bin": b"x" * 1000}
TOKEN = "hf_" + "Secret" * 6


@pytest.fixture
def hub():
    with running(Hub()) as server:
        yield server


class Fetch:
    """Runs the fetch stage as its rule does, with a cache of its own."""

    def __init__(self, hub: Hub, folder: Path):
        self.hub, self.folder = hub, folder
        self.record, self.rows, self.cache = folder / "out.json", folder / "out.jsonl", folder / "hf"

    def start(self, source: dict, kind: str = "model", **env) -> subprocess.Popen:
        spec = {"stage": "fetch", "version": 1, kind: source}
        command = [
            sys.executable,
            "-m",
            "pissa_repro.stages.fetch",
            "--spec",
            json.dumps(spec),
            "--out",
            str(self.record),
        ]
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        clean |= {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.cache), "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [*command, "--rows", str(self.rows)], env=clean | env, cwd=self.folder, encoding="utf-8",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def ok(self, source: dict, kind: str = "model", **env) -> dict:
        """The record of a run that works."""
        process = self.start(source, kind, **env)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        return json.loads(self.record.read_text(encoding="utf-8"))

    def refused(self, source: dict, kind: str = "model", **env) -> str:
        """The one message of a run that fails, which leaves no output."""
        process = self.start(source, kind, **env)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 1, (process.returncode, err)
        assert "Traceback" not in err, err
        assert not self.record.exists() and not self.rows.exists()
        assert TOKEN not in out + err
        return err.split("error: ", 1)[1]


@pytest.fixture
def fetch(hub, tmp_path):
    return Fetch(hub, tmp_path)


def model(revision: str = "main", **more) -> dict:
    return {"hub": "lab/tiny", "revision": revision, **more}


def dataset(**more) -> dict:
    fields = {"prompt": "question", "response": "answer"}
    return {"hub": "lab/sums", "revision": "v1", "file": "data/train.jsonl", "fields": fields, **more}


@pytest.mark.parametrize("revision", ["main", "v1", "commit"])
def test_model_record_names_the_commit(hub, fetch, revision):
    commit = hub.add("models", "lab/tiny", MODEL)
    record = fetch.ok(model(commit if revision == "commit" else revision))
    assert record["commit"] == commit and record["name"] == "lab/tiny"
    folder = Path(record["path"])
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert record["fingerprint"] == checkpoint.fingerprint(folder)
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors"}, "weights that can run code, or the same ones twice"


def test_a_moved_branch_is_another_commit(hub, fetch):
    first = fetch.hub.add("models", "lab/tiny", MODEL)
    before = fetch.ok(model())
    second = hub.add("models", "lab/tiny", MODEL | {"config.json": CONFIG + b"\n"})
    after = fetch.ok(model())
    assert (before["commit"], after["commit"]) == (first, second) and first != second
    assert before["fingerprint"] != after["fingerprint"]


def test_a_residual_on_the_hub_is_no_base(hub, fetch):
    """Case 17: its adapter's config is fetched with it and gives it away."""
    adapter = json.dumps({"base_model_name_or_path": "lab/whole"}).encode()
    hub.add("models", "lab/tiny", MODEL | {"pissa_init/adapter_config.json": adapter})
    message = fetch.refused(model())
    assert "residual" in message and "pissa_init/" in message and "(lab/whole)" in message


def test_a_fetched_model_loads(hub, fetch, tiny_model):
    from pissa_repro.model.load import load_base
    from pissa_repro.model.tokens import load_tokenizer

    hub.add("models", "lab/tiny", {path.name: path.read_bytes() for path in tiny_model.iterdir()})
    record = fetch.ok(model())
    assert record["fingerprint"] == checkpoint.fingerprint(tiny_model)
    assert load_tokenizer(record["path"])("Ann")["input_ids"]
    assert load_base(record["path"]).config.hidden_size == 64


def test_dataset_rows_and_record(hub, fetch):
    commit = hub.add("datasets", "lab/sums", DATA)
    record = fetch.ok(dataset(rows=3), "dataset")
    rows = [json.loads(line) for line in fetch.rows.read_text(encoding="utf-8").splitlines()]
    assert rows == [{"prompt": f"q{i}", "response": f"a{i}"} for i in range(3)]
    assert record["rows"] == 3 and record["commit"] == commit
    assert record["sha256"] == hashlib.sha256(fetch.rows.read_bytes()).hexdigest()
    assert {r.path.split("/")[-1] for r in hub.files_sent()} == {"train.jsonl"}


def test_dataset_file_that_does_not_exist(hub, fetch):
    commit = hub.add("datasets", "lab/sums", DATA)
    message = fetch.refused(dataset(file="data/trian.jsonl"), "dataset")
    assert "data/trian.jsonl" in message and commit in message and "lab/sums" in message


def test_second_fetch_uses_the_cache(hub, fetch):
    commit = hub.add("models", "lab/tiny", MODEL)
    first = fetch.ok(model(commit))
    sent = len(hub.files_sent())
    assert sent == 2
    hub.requests.clear()
    assert fetch.ok(model(commit))["fingerprint"] == first["fingerprint"]
    assert hub.asked() == [], "a pinned commit in the cache needs no request at all"
    fetch.ok(model("main"))
    assert hub.files_sent() == []


def test_cache_serves_when_the_hub_is_gone(tmp_path):
    with running(Hub()) as hub:
        commit = hub.add("models", "lab/tiny", MODEL)
        Fetch(hub, tmp_path).ok(model("v1"))
    assert Fetch(hub, tmp_path).ok(model("v1"))["commit"] == commit


@pytest.mark.parametrize("token", [None, TOKEN])
def test_gated_says_what_to_accept_and_where_the_token_goes(hub, fetch, token):
    hub.add("models", "lab/tiny", MODEL, gated=True)
    env = {"HF_TOKEN": token} if token else {}
    message = fetch.refused(model(gated="Accept the Tiny licence"), **env)
    for part in ("Accept the Tiny licence", "/lab/tiny", "hf auth login", "HF_TOKEN"):
        assert part in message, message
    assert {r.token for r in hub.asked()} == {token}


def test_gated_dataset_names_the_datasets_page(hub, fetch):
    hub.add("datasets", "lab/sums", DATA, gated=True)
    assert "/datasets/lab/sums" in fetch.refused(dataset(), "dataset")


def test_token_opens_a_gated_model_and_is_written_nowhere(hub, fetch):
    hub.add("models", "lab/tiny", MODEL, gated=True, allowed=TOKEN)
    process = fetch.start(model(gated="Accept"), HF_TOKEN=TOKEN)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert TOKEN not in out + err
    for path in fetch.folder.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("token", [None, TOKEN])
def test_unknown_repository(fetch, token):
    message = fetch.refused({"hub": "lab/tinny", "revision": "main"}, **({"HF_TOKEN": token} if token else {}))
    assert "lab/tinny" in message and "no such model" in message and "config" in message


def test_unknown_revision(hub, fetch):
    hub.add("models", "lab/tiny", MODEL)
    message = fetch.refused(model("v2"))
    assert "lab/tiny" in message and "'v2'" in message


def test_unknown_commit(hub, fetch):
    hub.add("models", "lab/tiny", MODEL)
    message = fetch.refused(model("0" * 40))
    assert "0" * 40 in message


def test_server_down(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        hub = Hub(url=f"http://127.0.0.1:{free.getsockname()[1]}")
    message = Fetch(hub, tmp_path).refused(model())
    assert "lab/tiny" in message and "cannot be reached" in message and "HF_ENDPOINT" in message


@pytest.mark.parametrize("revision", ["main", "0" * 40])
def test_offline_without_a_cache(hub, fetch, revision):
    hub.add("models", "lab/tiny", MODEL)
    message = fetch.refused(model(revision), HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE" in message and hub.asked() == []


def test_an_endpoint_that_is_no_hub(hub, fetch):
    with running(Hub(page=b"<html>Log in to the network</html>")) as portal:
        message = fetch.refused(model(), HF_ENDPOINT=portal.url)
    assert "lab/tiny" in message and "HF_ENDPOINT" in message


@pytest.mark.parametrize("status", [403, 500])
def test_a_hub_that_answers_with_an_error(hub, fetch, status):
    hub.add("models", "lab/tiny", MODEL)
    hub.status = status
    message = fetch.refused(model())
    assert "lab/tiny" in message and "HF_ENDPOINT" in message


def test_only_pickled_weights_are_refused(hub, fetch):
    hub.add("models", "lab/tiny", {"config.json": CONFIG, "pytorch_model.bin": b"pickle"})
    message = fetch.refused(model())
    assert "safetensors" in message and "refused" in message
    assert all(not r.path.endswith(".bin") for r in hub.files_sent())


# 24 MB: the client writes in steps of 10 MB, and what it has not written it asks for again
BIG = save({"w.weight": numpy.arange(6_000_000, dtype=numpy.float32).reshape(2000, 3000)})
CUT = 15_000_000


def test_a_cut_connection_is_resumed(hub, fetch):
    hub.add("models", "lab/tiny", {"config.json": CONFIG, "model.safetensors": BIG})
    hub.cuts["model.safetensors"] = [CUT]
    record = fetch.ok(model())
    assert (Path(record["path"]) / "model.safetensors").read_bytes() == BIG
    asked = [r.range for r in hub.files_sent() if r.path.endswith(".safetensors")]
    assert len(asked) == 2 and asked[0] is None and asked[1].startswith("bytes=1"), asked


def test_a_connection_that_is_always_cut(hub, fetch):
    hub.add("models", "lab/tiny", MODEL)
    hub.cuts["model.safetensors"] = [0] * 20
    message = fetch.refused(model())
    assert "lab/tiny" in message and "again" in message
    hub.cuts.clear()
    assert (Path(fetch.ok(model())["path"]) / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(("kill", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_killed_download_leaves_no_output_and_runs_again(hub, fetch, kill, code):
    hub.add("models", "lab/tiny", {"config.json": CONFIG, "model.safetensors": BIG})
    hub.cuts["model.safetensors"], hub.stall = [CUT], threading.Event()
    process = fetch.start(model())
    assert hub.stalled.wait(30)
    process.send_signal(kill)
    _, err = process.communicate(timeout=10)  # at once, with most of the file still to come
    assert process.returncode == code and "Traceback" not in err
    assert ("interrupted" in err) == (kill == signal.SIGINT)
    assert not fetch.record.exists()
    assert not list(fetch.cache.rglob("snapshots/*/model.safetensors"))
    hub.stall.set()
    assert (Path(fetch.ok(model())["path"]) / "model.safetensors").read_bytes() == BIG
