"""A machine whose locale knows ASCII only: text files are UTF-8 all the same, and nothing that is printed crashes."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from encodings_used import bare

from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.record import canonical, read_lines

SOURCES = sorted(
    path for room in ("pissa_repro", "benchmarks", "docs", "tests") for path in (ROOT / room).rglob("*.py")
)
ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
TEXT = "Zoë paid 3 € \u2212 1 €: 答え ±2 \U0001d538"


def in_ascii(folder, *command) -> subprocess.CompletedProcess:
    """Run a command of the environment there, in an ASCII locale; its output as bytes."""
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    environment = os.environ | ASCII | {"PATH": path, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *map(str, command)], cwd=folder, capture_output=True, env=environment)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_text_is_opened_with_its_encoding(path):
    """Case 20: for Python too, the locale says it otherwise."""
    assert [node.lineno for node in bare(path.read_text(encoding="utf-8"))] == []


def test_the_rules_open_no_file():
    """Case 20: Python belongs in the package."""
    for path in (ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")):
        words = path.read_text(encoding="utf-8")
        assert not any(f"{name}(" in words for name in ("open", "read_text", "write_text")), path


FOUND = ["open(p)", "open(p, 'w')", "p.open()", "p.open('a')", "p.read_text()", "p.write_text(t)",
         "os.fdopen(1, 'w')", "gzip.open(p, 'rt')", "tempfile.NamedTemporaryFile('w')", "subprocess.run(c, text=True)",
         "a.b.open(mode='r')"]  # fmt: skip
LEFT = ["open(p, 'rb')", "p.open('rb')", "p.open('w', -1, 'utf-8')", "p.read_text('utf-8')", "gzip.open(p)",
        "p.write_text(t, 'utf-8')", "open(p, encoding='utf-8')", "os.open(p, 0)", "tempfile.NamedTemporaryFile()",
        "f(text='x')", "open(p, 'w', -1, 'utf-8')", "subprocess.run(c)", "p.read_bytes()"]  # fmt: skip


@pytest.mark.parametrize(("line", "found"), [(line, True) for line in FOUND] + [(line, False) for line in LEFT])
def test_the_search_for_missing_encodings_finds_them(line, found):
    """Case 20."""
    assert bool(bare(line)) == found


def test_a_spec_is_plain_ascii_on_the_command_line():
    """Case 20: an argument in another encoding than the locale's cannot be handed over."""
    spec = {"display": TEXT, "é": [TEXT]}
    assert canonical(spec).isascii() and json.loads(canonical(spec)) == spec


def test_what_a_stage_prints_reaches_an_ascii_terminal(tmp_path):
    """Case 20: as tables do, with their ±."""
    code = "from pissa_repro.runtime.errors import run_stage, UserError\ndef main(): "
    done = in_ascii(tmp_path, "-c", f"{code} print({TEXT!a})\nrun_stage(main)")
    assert done.returncode == 0 and b"\\xb12" in done.stdout, done.stderr
    done = in_ascii(tmp_path, "-c", f"{code} raise UserError({TEXT!a})\nrun_stage(main)")
    assert done.returncode == 1 and done.stderr.startswith(b"error: Zo\\xeb paid"), done.stderr


@pytest.fixture
def mine(tmp_path):
    """A config whose rows, names in tables and fields are not ASCII."""
    (tmp_path / "rows.jsonl").write_text(json.dumps({"frage": TEXT, "größe": "2"}) + "\n", encoding="utf-8")
    dataset = {"path": "rows.jsonl", "fields": {"prompt": "frage", "response": "größe"}, "display": TEXT}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"datasets": {"mine": dataset}}, allow_unicode=True), encoding="utf-8")
    return path


def test_the_workflow_fetches_rows_in_an_ascii_locale(mine, tmp_path):
    """Case 20: rows as they are, read by a stage that snakemake starts."""
    target = "results/fetch/data/mine.jsonl"
    command = ["-m", "snakemake", "-s", ROOT / "Snakefile", "--cores", "1", target, "--configfile", mine]
    done = in_ascii(tmp_path, *command)
    log = (tmp_path / "logs" / "fetch" / "data" / "mine.log").read_text(encoding="utf-8")
    assert done.returncode == 0, done.stderr.decode() + log
    assert read_lines(tmp_path / target) == [{"prompt": TEXT, "response": "2"}]


def test_a_config_is_checked_in_an_ascii_locale(mine, tmp_path):
    """Case 20."""
    done = in_ascii(tmp_path, "-m", "pissa_repro", "check", mine)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr


ASK = """
rule ask:
    shell: "python -c 'import sys; print(sys.flags.utf8_mode, sys.stdout.encoding); input()' > said 2>&1"
"""


def test_stages_are_started_in_utf8_and_without_an_input(tmp_path):
    """Case 20: nothing can ask a question in the middle of a sweep, whatever the terminal."""
    rules = (ROOT / "rules" / "common.smk").read_text(encoding="utf-8")
    prefix = rules[rules.index("PREFIX = (") : rules.index("from pissa_repro")]
    prefix = f"import shlex\nBASE = {str(ROOT)!r}\n" + prefix.replace("workflow.basedir", "BASE")
    (tmp_path / "Snakefile").write_text(prefix + ASK, encoding="utf-8")
    environment = os.environ | ASCII | {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "ask"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, input=b"yes\n", capture_output=True)
    said = (tmp_path / "said").read_text(encoding="utf-8")
    assert done.returncode and said.startswith("1 utf-8\n") and "EOFError" in said, said
