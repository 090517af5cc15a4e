"""A later config says another way to find a model or rows: the earlier way goes, the other keys stay."""

import pytest
from stage import says
from test_workflow import ROOT, snakemake

from pissa_repro.plan.config import load

DEFAULT = ROOT / "config" / "config.yaml"
FIRST = """
models:
  ours: {path: somewhere, display: Ours, gpus: 2}
  theirs: {hub: owner/name, revision: main, gpus: 1}
datasets:
  file: {path: rows.jsonl, fields: {prompt: q, response: a}, rows: 100}
  remote: {hub: owner/rows, revision: v1, file: rows.jsonl, fields: {prompt: q, response: a}}
  part: {of: file, share: 0.1, seed: 3}
"""
OTHER_WAYS = [
    ("models", "ours", "{hub: owner/name, revision: v2}",
     {"hub": "owner/name", "revision": "v2", "display": "Ours", "gpus": 2}),
    ("models", "theirs", "{path: somewhere}", {"path": "somewhere", "gpus": 1}),
    ("datasets", "file", "{hub: owner/rows, revision: v1, file: rows.jsonl}",
     {"hub": "owner/rows", "revision": "v1", "file": "rows.jsonl", "rows": 100,
      "fields": {"prompt": "q", "response": "a"}}),
    ("datasets", "remote", "{path: rows.jsonl}", {"path": "rows.jsonl", "fields": {"prompt": "q", "response": "a"}}),
    ("datasets", "remote", "{of: file, share: 0.5}", {"of": "file", "share": 0.5}),
    ("datasets", "part", "{without: half}", {"of": "file", "without": "half"}),
    ("datasets", "part", "{path: x.txt, fields: {text: text}}", {"path": "x.txt", "fields": {"text": "text"}}),
]  # fmt: skip
HALF = "\n  half: {of: file, share: 0.5}"


@pytest.mark.parametrize(("section", "name", "later", "wanted"), OTHER_WAYS)
def test_a_later_way_replaces_the_earlier_one(written, section, name, later, wanted):
    files = [written(FIRST + HALF, "first.yaml"), written(f"{section}: {{{name}: {later}}}", "later.yaml")]
    assert load(DEFAULT, *files)[section][name] == wanted


def test_the_last_of_three_counts_and_keys_without_a_way_are_merged(written):
    files = [written(FIRST, "first.yaml"), written("models: {ours: {hub: owner/name, revision: v2}}", "second.yaml")]
    files.append(written("models: {ours: {path: there}, theirs: {revision: v3}}", "third.yaml"))
    models = load(DEFAULT, *files)["models"]
    assert models["ours"] == {"path": "there", "display": "Ours", "gpus": 2}
    assert models["theirs"] == {"hub": "owner/name", "revision": "v3", "gpus": 1}


def test_two_ways_in_one_file_are_refused(written):
    path = written("models: {ours: {path: x, hub: owner/name, revision: main}}")
    says(lambda: load(DEFAULT, path), "config.models.ours", "either 'path', or 'hub'", "path, hub, revision")
    path = written("models: {ours: {path: x, revision: main}}")
    says(lambda: load(DEFAULT, path), "config.models.ours", "either 'path', or 'hub'", "path, revision")


def test_a_dry_run_lays_files_and_its_option_over_the_default(written, tmp_path):
    """The default finds both by a path. A file puts the model on the hub, another file and --config the rows."""
    first = written("models: {mini-llama: {hub: owner/name, revision: v1}}", "first.yaml")
    second = written("datasets: {gsm-mini-test: {hub: owner/rows, revision: v2, file: rows.jsonl}}", "second.yaml")
    targets = ["results/fetch/models/mini-llama.json", "results/fetch/data/gsm-mini-test.json"]
    argv = ["-n", "-p", "--cores", "1", *targets, "--configfile", str(first), str(second), "--config"]
    done = snakemake(*argv, "datasets={gsm-mini-test: {path: 'embedded:test'}}", folder=tmp_path, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-2000:]
    assert '"hub":"owner/name"' in said and '"path":"embedded:test"' in said and "owner/rows" not in said
