"""The form of the Snakefile and its rules."""

import subprocess
import sys

from pissa_repro.plan.config import ROOT

RUN = [sys.executable, "-m"]


def test_snakemake_finds_nothing_to_mend(tmp_path):
    command = [*RUN, "snakemake", "-s", ROOT / "Snakefile", "-d", tmp_path, "--lint"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert "good condition" in done.stdout + done.stderr


def test_the_rules_are_formatted():
    files = [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]
    subprocess.run([*RUN, "snakefmt", "--check", "-l", "120", *files], check=True, capture_output=True)
