"""pissa push: what would be public is listed, what must not be is found, and nothing is sent unasked."""

import base64
import json
import shutil

import pytest
from commands import pissa
from helpers import Run
from huggingface_hub import constants
from local_server import SilentHandler, serving
from peer import changed, convert
from safetensors.torch import load_file, save_file
from stage import says

TOKEN = "hf_" + "Secret" * 6


class Hub(SilentHandler):
    """The part of a hub that takes small files: requests are kept, and refused with `status` where that is set."""

    sent: list
    status: int | None

    def do_GET(self):
        self.answer({"error": "not found"}, 404)

    def do_POST(self):
        body = b"".join(self.chunks()) if self.headers.get("Transfer-Encoding") else self.rfile.read(self.length())
        self.sent.append((self.path, body, self.headers.get("Authorization")))
        here = f"http://{self.headers['Host']}/owner/name"
        if self.status:
            self.answer({"error": "You have no write access"}, self.status)
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            self.answer({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif "/commit/" in self.path:
            self.answer({"commitUrl": f"{here}/commit/1", "commitOid": "1", "pullRequestUrl": None, "success": True})
        else:
            self.answer({"url": here, "name": "owner/name", "id": "1"})

    def length(self):
        return int(self.headers.get("Content-Length") or 0)

    def chunks(self):
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()

    def answer(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch):
    """Serve with a status for all requests, or None; what was sent."""

    def serve(status=None):
        sent: list = []
        url = stack.enter_context(serving(Hub, sent=sent, status=status))
        monkeypatch.setattr(constants, "ENDPOINT", url)
        return sent

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield serve


@pytest.fixture
def lora(pissa_trained, tmp_path):
    """A converted adapter with a card, without a licence."""
    convert(pissa_trained, tmp_path / "lora", "--base", "lab/tiny")
    return tmp_path / "lora"


def shown(capsys, *words):
    capsys.readouterr()
    pissa("push", *words)
    return capsys.readouterr().out


def test_a_dry_run_lists_what_would_be_public_and_sends_nothing(lora, hub, capsys):
    sent = hub()
    text = shown(capsys, lora, "owner/name")
    for path in lora.iterdir():
        assert f"{path.stat().st_size:,}  {path.name}\n" in text
    total = sum(path.stat().st_size for path in lora.iterdir())
    assert f"Public in owner/name: 3 files, {total:,} bytes" in text
    assert "missing: license in the header of README.md" in text and "missing: base_model" not in text
    assert "MUST NOT" not in text and text.endswith(f"    hf upload owner/name {lora} .\n") and not sent


def test_really_sends_these_files_and_no_others(lora, hub, capsys):
    sent = hub()
    (lora / "notes.txt").write_text("mine", encoding="utf-8")
    text = shown(capsys, lora, "owner/name", "--really", "--private", "--exclude", "*.txt")
    assert "Sent: http://127.0.0.1" in text and "To owner/name: 3 files" in text
    created, commit = sent[0], sent[-1]
    assert json.loads(created[1])["visibility"] == "private" and created[2] == f"Bearer {TOKEN}"
    files = [line["value"] for line in map(json.loads, commit[1].splitlines()) if line["key"] == "file"]
    given = {file["path"]: base64.b64decode(file["content"]) for file in files}
    assert given == {path.name: path.read_bytes() for path in lora.iterdir() if path.suffix != ".txt"}


@pytest.mark.parametrize("status", [401, 403])
def test_a_hub_that_refuses_is_one_message(lora, hub, status):
    sent = hub(status)
    says(lambda: pissa("push", lora, "owner/name", "--really"), "owner/name", "hub refused the upload", "HF_TOKEN")
    assert len(sent) == 1


def test_no_hub_is_one_message(lora, hub, monkeypatch):
    hub()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    says(lambda: pissa("push", lora, "owner/name", "--really"), "hub refused the upload", "HF_ENDPOINT")


def written(name, text):
    def write(folder):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")

    return write


def metadata(folder):
    path = folder / "adapter_model.safetensors"
    save_file(load_file(path), path, {"format": "pt", "data_dir": "/mnt/people/me"})


def link(folder):
    (folder.parent / "diary.txt").write_text("mine", encoding="utf-8")
    (folder / "notes.txt").symlink_to(folder.parent / "diary.txt")


PRIVATE = {  # what is done to the folder, and what is said
    "a path": (written("notes.md", "see\n/home/me/data/x.jsonl"), ["notes.md line 2: a path of a machine, /home/me"]),
    "a path in JSON": (written("a.json", '{"name_or_path": "/home/al/x"}'), ["a.json line 1", "/home/al/x"]),
    "a path behind a colon": (written("notes.md", "data:/home/me/x"), ["line 1: a path of a machine, /home/me"]),
    "a file's address": (written("notes.md", "file:///home/me/x"), ["line 1: a path of a machine, file:///home/me/x"]),
    "a Windows path": (written("a.json", r'{"path": "C:\\Users\\me"}'), ["a.json line 1: a path of a machine, C:"]),
    "metadata": (metadata, ["adapter_model.safetensors (its metadata): a path of a machine, /mnt/people/me"]),
    "a token": (written("a.yaml", f"token: {TOKEN}"), ["a.yaml line 1: a token, hf_S…"]),
    "a key": (written("k.txt", "-----BEGIN OPENSSH PRIVATE KEY-----"), ["k.txt line 1: a private key"]),
    "a machine": (written("r.json", '{"host": "gpu7"}'), ["r.json line 1: a field that names a machine"]),
    "a script": (written("run.sh", f"export HF={TOKEN}"), ["run.sh line 1: a token, hf_S…"]),
    "a notebook": (written("n.ipynb", '{"out": "/home/alice/x"}'), ["n.ipynb line 1", "/home/alice/x"]),
    "no suffix": (written("Makefile", "x:\n\tls /home/alice/x"), ["Makefile line 2", "/home/alice/x"]),
    "a name": (written("r.json", '{"by": "clara.s"}'), ["r.json line 1: this machine's or user's name, clara.s"]),
    "an optimizer": (written("optimizer.pt", "x"), ["optimizer.pt: the state of a training"]),
    "a checkpoint": (written("checkpoint-20/a.json", "{}"), ["checkpoint-20/a.json: the state of a training"]),
    "a pickle": (written("pytorch_model.bin", "x"), ["pytorch_model.bin: a pickle"]),
    "an event log": (written("runs/events.out.tfevents.1.me", "x"), ["runs/events.out.tfevents.1.me: a log"]),
    "a hidden file": (written(".env", "x"), [".env: secrets"]),
    "a link": (link, ["notes.txt: a link to", "diary.txt"]),
}  # fmt: skip


@pytest.mark.parametrize("case", PRIVATE)
def test_what_must_not_be_public_is_told_and_not_sent(lora, hub, capsys, monkeypatch, case):
    change, words = PRIVATE[case]
    monkeypatch.setenv("USER", "clara.s")
    sent = hub()
    change(lora)
    text = shown(capsys, lora, "owner/name")
    assert text.count("MUST NOT be public") == 1 and all(word in text for word in words), text
    assert TOKEN not in text
    says(lambda: pissa("push", lora, "owner/name", "--really"), "1 things must not be public", "--exclude")
    assert not sent


def test_web_addresses_and_vocabularies_are_no_paths(lora, capsys):
    written("tokenizer.json", '{"model": {"vocab": {"/home/me/x": 5}}}')(lora)
    written("notes.md", "https://example.org/data/x, s3://data/x/y, localhost:80/data/x and a/b, s B A / r")(lora)
    written(".gitattributes", "*.safetensors filter=lfs")(lora)
    assert "MUST NOT" not in shown(capsys, lora, "owner/name")


def test_a_folder_of_peft_with_a_path_as_its_base_is_found(pissa_trained, tmp_path, capsys):
    """PEFT writes the path of the base into the config, and into its card."""
    raw = changed(pissa_trained.adapter, tmp_path / "raw", base_model_name_or_path="/scratch/me/llama")
    shutil.copy(pissa_trained.adapter / "README.md", raw)
    text = shown(capsys, raw, "owner/name")
    assert "MUST NOT be public: adapter_config.json" in text and "/scratch/me/llama" in text
    assert "missing: a hub id in base_model_name_or_path" in text


def test_a_cell_is_pushed_by_its_trained_folder(tiny_model, tiny_rows, tmp_path, capsys):
    run = Run(tmp_path / "run", tiny_model, tiny_rows, "pissa", steps=1)
    run.init()
    run.train()
    says(lambda: pissa("push", run.folder, "owner/name"), "records of this machine", "trained/")
    text = shown(capsys, run.trained, "owner/name")
    assert "base_model_name_or_path of adapter_config.json (it is 'model')" in text, (
        "the config's name of a local model"
    )
    assert "MUST NOT" not in text, "a base that is a folder is named without its path"
    text = shown(capsys, run.trained, "owner/name", "--exclude", "factors/*")
    assert "MUST NOT" not in text and "hf upload owner/name" in text and "--exclude 'factors/*'" in text


def test_a_wrong_name_and_an_empty_choice_are_refused(lora):
    says(lambda: pissa("push", lora, "name"), "REPO name", "owner/name")
    says(lambda: pissa("push", lora, "owner/name", "--exclude", "*"), "no file is left")
    says(lambda: pissa("push", lora.parent / "none", "owner/name"), "no such folder")
