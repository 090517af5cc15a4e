"""Case 15: what a rule substitutes into its command is quoted, whatever the folders are called."""

import re
import subprocess

import pytest
from test_workflow import BIN, ROOT

from pissa_repro.runtime.record import read_json

RULES = [path for path in sorted((ROOT / "rules").glob("*.smk")) if "shell:" in path.read_text(encoding="utf-8")]
ODD = "a b'c $(touch X)"


def commands(text):
    """The shell commands of a file of rules, each with all of its lines."""
    found = re.findall(r"^    shell:\n((?:        f?\".*\n)+)", text, re.MULTILINE)
    assert len(found) == text.count("shell:\n")
    return found


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_everything_that_is_substituted_is_quoted(path):
    """Case 15: inputs, outputs, wildcards, logs, parameters and resources."""
    for command in commands(path.read_text(encoding="utf-8")):
        fields = re.findall(r"\{+([a-z][^{}]*)\}+", command)
        plain = [field for field in fields if not field.endswith(":q")]
        assert fields and plain in ([], ["paths.SCRATCH"]), command


def test_a_checkout_and_a_working_folder_may_have_any_name(tmp_path):
    """Case 15: a job runs in a folder whose name a shell would execute, from a checkout with such a name."""
    checkout, folder = tmp_path / ODD, tmp_path / f"run {ODD}"
    checkout.mkdir()
    for path in ROOT.iterdir():
        if path.name in ("Snakefile", "rules", "config", "pissa_repro", "profiles", "reference", "docs"):
            (checkout / path.name).symlink_to(path)
    command = [BIN / "snakemake", "-s", checkout / "Snakefile", "-d", folder, "--cores", "1", "--quiet", "all", "--"]
    target = "results/fetch/data/gsm-mini-test.jsonl"
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, target], cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert read_json((folder / target).with_suffix(".json"))["rows"] == 250
    assert not list(tmp_path.rglob("X"))
