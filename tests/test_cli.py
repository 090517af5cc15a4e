"""The command `pissa`: its help, its examples, its errors; and that the workflow's stages keep no options by hand."""

import ast
import glob
import importlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from commands import pissa
from helpers import Run
from joining import save_results
from safetensors.torch import load_file, save_file
from stage import says

from pissa_repro.cli import main
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime.record import canonical, read_json, write_json, write_lines
from pissa_repro.sources.fetched import EMBEDDED, fetch_model, sha256
from pissa_repro.stages import statistics

CLI = ROOT / "pissa_repro" / "cli"
CONFIGS = sorted(path.name for path in (ROOT / "config").glob("*.yaml") if path.stem != "schema")
HEAVY = {"torch", "transformers", "datasets", "lm_eval", "matplotlib", "pandas", "scipy"}
STAGES = sorted(path.stem for path in (ROOT / "pissa_repro/stages").glob("[!_]*.py") if "options" not in path.stem)


def docstring(name: str) -> str:
    return ast.get_docstring(ast.parse((CLI / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")), clean=False)


def examples(name: str) -> list[str]:
    return [line.strip() for line in docstring(name).splitlines() if line.startswith("    pissa ")]


EXAMPLES = [example for name in main.names() for example in examples(name)]


def command(*words, folder: Path = ROOT, code: str | None = None, **options) -> subprocess.CompletedProcess:
    """`python -m pissa_repro` in a process of its own, on the package of a folder."""
    python = [sys.executable, *(["-c", code] if code else ["-m", "pissa_repro"]), *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "80"}
    return subprocess.run(python, cwd=folder, env=environment, capture_output=True, text=True, **options)


def test_every_file_is_a_command_with_its_first_line_and_an_example():
    files = {path.stem.replace("_", "-") for path in CLI.glob("[!_]*.py")} - {"main"}
    assert set(main.names()) == files
    shown = command("--help").stdout
    for name in main.names():
        first = docstring(name).splitlines()[0]
        assert main.summary(name) == first
        assert f"  {name}  " in shown and f"  {first}\n" in shown, "the first line is whole in 80 columns"
        assert examples(name) and all(example.startswith(f"pissa {name}") for example in examples(name))


def test_help_imports_no_command_and_the_help_of_a_command_no_torch():
    code = (
        "import sys; from pissa_repro.cli import main; call = main.group().main\n"
        "call(['--help'], prog_name='pissa', standalone_mode=False)\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('pissa_repro.')}\n"
        "assert rooms == {'cli', 'runtime'}, rooms\n"
        f"assert not {HEAVY | {'yaml', 'jsonschema', 'numpy', 'rich'}} & set(sys.modules)\n"
        "for name in main.names(): call([name, '--help'], prog_name='pissa', standalone_mode=False)\n"
        f"assert not {HEAVY} & set(sys.modules), {HEAVY} & set(sys.modules)"
    )
    done = command(code=code)
    assert done.returncode == 0, done.stderr
    assert all(f"      {example}\n" in done.stdout for example in EXAMPLES), "examples are not filled"


def test_a_new_file_is_a_new_command(tmp_path):
    for room in ("cli", "runtime"):
        shutil.copytree(ROOT / "pissa_repro" / room, tmp_path / "pissa_repro" / room)
    for name in ("__init__.py", "__main__.py"):
        shutil.copy(ROOT / "pissa_repro" / name, tmp_path / "pissa_repro")
    text = '"""Say a word."""\n\n\ndef throw_away(word: str):\n    print(word)\n'
    (tmp_path / "pissa_repro/cli/throw_away.py").write_text(text, encoding="utf-8")
    assert "  throw-away   Say a word.\n" in command("--help", folder=tmp_path).stdout
    assert command("throw-away", "thrown", folder=tmp_path).stdout == "thrown\n"


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """A folder in which the examples run: scores of two methods, a record of parity, starts of the embedded model."""
    folder = tmp_path_factory.mktemp("tried")
    (folder / "config").symlink_to(ROOT / "config")
    rows = folder / "results/fetch/data/gsm-mini-test.jsonl"
    write_lines(rows, [{"prompt": f"What is {n} + 1?", "response": f"#### {n + 1}"} for n in range(20)])
    sweep = Sweep(load(ROOT / "config/config.yaml"))
    for cell in sweep.cells.values():
        place = folder / "results/cells/M/D" / Path(cell.name).name
        score(place, sweep.evaluate_spec(cell, "gsm-mini"), sha256(rows), len(cell.method))
    agreed = {"backends": ["hf", "vllm"], "items": 9, "equal": 9, "parted": [], "widest_gap": 0.0, "agree": True}
    write_json(folder / "results/parity/M/D/lora/a~b.json", agreed)
    start = ("--quant", "nf4", "--rank", "2", "--target-module", "q_proj", "--scratch", folder / "kept")
    pissa("decompose", "embedded", *start, "--factors", "--out", folder / "START")
    weighing(folder)
    for place in ("first", "second"):
        save_results(folder / place / "results", [f"{place}-s0"])
    shutil.copytree(folder / "START", folder / "TRAINED/factors")
    pissa("decompose", "embedded", *start[2:], "--out", folder / "RESIDUAL")
    for name in ("INIT", "ADAPTER"):
        shutil.copytree(folder / "RESIDUAL/pissa_init", folder / name)
    factors = load_file(folder / "ADAPTER/adapter_model.safetensors")
    moved = {
        key: factor + 0.01 * factor.flip(0, 1) for key, factor in factors.items()
    }  # as by a training: no part of W
    save_file(moved, folder / "ADAPTER/adapter_model.safetensors")
    pissa("convert", folder / "ADAPTER", "--init", folder / "INIT", "--out", folder / "LORA")
    shutil.copytree(folder / "LORA", folder / "OTHER")
    (folder / "CELL").symlink_to(cell := trained(folder / "results"))
    score(cell, sweep.evaluate_spec(next(iter(sweep.cells.values())), "gsm-mini"), sha256(rows), 5)
    scored = cell / "eval/gsm-mini.json"
    write_json(scored, {**read_json(scored), "trained_sha256": read_json(cell / "train.json")["trained_sha256"]})
    return folder


def weighing(folder: Path) -> None:
    """COVARIANCE of the embedded model over ROWS.jsonl, of the modules of START."""
    write_lines(folder / "ROWS.jsonl", [{"prompt": f"What is {n} + 1?", "response": f" {n + 1}"} for n in range(8)])
    write_json(folder / "MODEL.json", fetch_model({"path": "embedded"}))
    spec = {
        "stage": "statistics", "version": 1, "kind": "covariance", "rows": 8, "seed": 0, "max_length": 64,
        "target_modules": ["q_proj"],
    }  # fmt: skip
    files = {"model": "MODEL.json", "data": "ROWS.jsonl", "out": "COVARIANCE"}
    places = (word for key, name in files.items() for word in (f"--{key}", str(folder / name)))
    statistics.main(["--spec", canonical(spec), *places])


def trained(results: Path) -> Path:
    """The folder of a small cell of the embedded model, with its start and the record of the model in `results`."""
    rows = results / "train.jsonl"
    write_lines(rows, [{"prompt": f"What is {n} + 1?", "response": f" {n + 1}"} for n in range(8)])
    run = Run(results / "cells/M/D/trained", EMBEDDED, rows, "pissa", rank=8, steps=3, target_modules=["q_proj"])
    run.init()
    run.train()
    for path, place in ((run.start, results / "init/M/trained"), (run.model, results / "fetch/models/M.json")):
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    return run.folder


def score(cell: Path, spec: dict, rows: str, right: int) -> None:
    """The record and the samples of a cell that has so many answers right."""
    origin = {"git": {"commit": "c0ffee", "dirty": False}, "versions": {}, "hardware": {}}
    origin |= {"finished": "2026-11-27T06:37:19Z"}
    samples = [
        {"id": n, "prompt": f"What is {n} + 1?", "target": f"#### {n + 1}", "paper": int(n < right), "strict": 0,
         "generated": f" The answer is: {n + 1 if n < right else 0}"}
        for n in range(20)
    ]  # fmt: skip
    metrics = {"paper": {"value": right / 20, "stderr": 0.1, "n": 20}, "strict": {"value": 0.0, "stderr": 0.0, "n": 20}}
    record = {
        "spec": spec, "base": {"name": "embedded", "commit": None, "fingerprint": "f"}, "data_sha256": rows,
        "metrics": metrics, "checks": {}, "provenance": origin,
        "generated": {"seconds": 1.0, "tokens": 9, "runs": [origin | {"prompts_cut": 0}]},
    }  # fmt: skip
    write_json(cell / "eval/gsm-mini.json", record)
    write_lines(cell / "eval/gsm-mini.samples.jsonl", samples)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(tried, example, monkeypatch, capsys):
    monkeypatch.chdir(tried)
    given = (sorted(glob.glob(word)) if "*" in word else [word] for word in shlex.split(example)[1:])
    words = [word for some in given for word in some]
    pissa(*words)
    assert (tried / words[words.index("--out") + 1]).exists() if "--out" in words else capsys.readouterr().out


def test_rescoring_says_what_has_changed(tried, capsys):
    record = tried / "results/cells/M/D/lora-none-r16-lr0.003-s0/eval/gsm-mini.json"
    pissa("rescore", record)
    capsys.readouterr()
    kept = record.with_suffix(".samples.jsonl")
    kept.write_text(kept.read_text(encoding="utf-8").replace('"paper": 1', '"paper": 0', 1), encoding="utf-8")
    pissa("rescore", record)
    assert capsys.readouterr().out.startswith(f"{record}: 1 of 20 items changed; paper 0.2000")


def test_back_ends_that_disagree_are_an_error(tmp_path, capsys):
    parted = {"parted": [{"gap": 2.0}], "widest_gap": 2.0, "near_tie_limit": 0.001, "agree": False}
    write_json(tmp_path / "a~b.json", {"backends": ["hf", "vllm"], "items": 9, "equal": 8, **parted})
    says(lambda: pissa("parity", tmp_path / "a~b.json"), "disagree in 1 of 1 records", "a~b.json")
    assert "8 of 9 texts equal" in capsys.readouterr().out


@pytest.mark.parametrize("name", CONFIGS)
def test_a_shipped_config_is_checked(name, capsys):
    pissa("check", ROOT / "config" / name)
    sweep = Sweep(load(ROOT / "config/config.yaml", ROOT / "config" / name))
    shown = capsys.readouterr().out
    assert shown.startswith(f"{len(sweep.cells)} cells") and f"{len(sweep.starts)} starts" in shown
    assert all(f"  {task}: " in shown for task in sweep.config["sweep"]["tasks"])


def test_a_config_is_refused_in_the_words_of_the_dry_run(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("sweep: {ranks: [8, 4], cells: [{method: pisa, quant: none}]}\n", encoding="utf-8")
    checked = command("check", path)
    assert checked.returncode == 1 and checked.stdout == "" and checked.stderr.count("\n") == 1
    assert checked.stderr.startswith("error: config.sweep.cells[0].method: unknown method 'pisa'. Did you mean 'pissa'")
    snakemake = [Path(sys.executable).parent / "snakemake", "-s", ROOT / "Snakefile", "-n", "--configfile", path]
    dry = subprocess.run([*snakemake, "-d", tmp_path], capture_output=True, encoding="utf-8")
    assert dry.returncode != 0 and checked.stderr.removeprefix("error: ").strip() in dry.stdout + dry.stderr


def test_errors_of_usage_and_the_version():
    wrong = command("compar", "a")
    assert wrong.returncode == 2 and "No such command 'compar'. Did you mean 'compare'" in wrong.stderr
    missing = command("decompose", "embedded")
    assert missing.returncode == 2 and "Missing option '--out'" in missing.stderr
    assert command("--version").stdout == f"pissa-repro {importlib.import_module('pissa_repro').__version__}\n"


def test_ctrl_c_ends_a_command_in_one_line(tmp_path):
    pipe = tmp_path / "config.yaml"
    os.mkfifo(pipe)
    words = [sys.executable, "-m", "pissa_repro", "check", str(pipe)]
    running = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, encoding="utf-8")
    with open(pipe, "w", encoding="utf-8"):  # opens when the command reads
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=60)
    assert running.returncode == 130 and told.startswith("interrupted: ") and told.count("\n") == 1


def test_the_script_is_the_command():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, name = project["scripts"]["pissa"].partition(":")
    assert getattr(importlib.import_module(module), name) is main.main


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_says_how_it_is_run_and_takes_what_the_workflow_passes(name, capsys):
    stage = importlib.import_module(f"pissa_repro.stages.{name}")
    with pytest.raises(SystemExit) as end:
        stage.main(["--help"])
    assert end.value.code == 0 and f"python -m pissa_repro.stages.{name} " in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        stage.main([])
    assert end.value.code == 2 and "the following arguments are required: --" in capsys.readouterr().err
