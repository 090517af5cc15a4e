"""The blocks of code of the README and of every page: commands and configs are ones, and Python is run by a test.

Nothing is run here: WHOLE says which tests run Python. The targets of make are looked up by test_packaging.py.
"""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from blocks import blocks, commands
from snakemake.cli import get_argument_parser

from pissa_repro import exhibits
from pissa_repro.cli import main
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = {
    f"{page.relative_to(ROOT).with_suffix('')}-{n}": (page, *block)
    for page in PAGES
    for n, block in enumerate(blocks(page))
}
WHOLE = {  # the test that runs the Python of a page
    "add_a_method": "test_guide_methods.py",
    "add_a_quantizer": "test_plugins.py",
    "add_an_exhibit": "shown/test_exhibit_guide.py",
    "convert": "recipes/test_guides.py",
    "decompose": "recipes/test_guides.py",
    "faults": "test_faults.py",
    "recipes": "recipes/page.py",
    "sandbox": "test_concepts.py",
    "statistics": "test_concepts.py",
}
ADDED = {"results/extra/losses.csv"}  # what the reader of add_an_exhibit.md adds
PLUGGED = {"add_a_method"}  # its configs sweep the method that its reader adds: test_guide_methods.py
STANDS_FOR = {"whole-fine": "nf4-b32", "METHOD": "corda"}  # what a reader adds or chooses, and one that is there
# What a page may call beside our programs.
OTHERS = {"make", "pip", "docker", "apptainer", "tensorboard", "python", "git", "cd", "export", "."}
OWN = re.compile(r"(?:/pissa-repro/)?((?:config|profiles|tests|containers)/\S+)")  # a file of the checkout or an image
ROWS = {"path": "train.jsonl", "fields": {"prompt": "question", "response": "answer"}}
THEIRS = {  # what a page takes as already there: the reader's own model, rows and task
    "models": {name: {"path": "model"} for name in ("llama", "llama-3.2-3b")},
    "datasets": {"metamath": ROWS, "test": ROWS, "general": ROWS},
    "tasks": {"gsm8k": {"task": "gsm8k", "dataset": "test", "max_new_tokens": 256}},
    "sweep": {"models": ["llama", "llama-3.2-3b"], "datasets": ["metamath"], "tasks": ["gsm8k"]},
}
RULES = {name for path in (ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk"))
         for name in re.findall(r"^rule (\w+):", path.read_text(encoding="utf-8"), flags=re.MULTILINE)}  # fmt: skip
SCORE = re.compile(r"results/cells/[^/]+/[^/]+/[^/]+/eval/[^/]+\.json")


def of(language: str):
    """The blocks of a language, each a test."""
    return [pytest.param(page, text, id=name) for name, (page, kind, text) in BLOCKS.items() if kind == language]


@pytest.fixture
def swept(tmp_path, monkeypatch):
    """The sweep of configs of a page, laid over each other and over what the page takes as already there."""
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "peft/method_comparison/MetaMathQA/results"
    results.mkdir(parents=True)
    (results / "one.json").touch()

    def sweep(page: Path, *configs: str) -> Sweep:
        theirs = [yaml.safe_dump(THEIRS)] if page.stem in {"adopt", "exchange", "config"} else []
        files = []
        for n, text in enumerate([*theirs, *configs]):
            files.append(tmp_path / f"{n}.yaml")
            for written, there in STANDS_FOR.items():
                text = text.replace(written, there)
            files[-1].write_text(text, encoding="utf-8")
        return Sweep(load(ROOT / "config/config.yaml", *files))

    return sweep


def test_blocks_are_of_these_languages():
    assert {kind for _, kind, _ in BLOCKS.values()} == {"sh", "yaml", "python", "text"}
    assert len(BLOCKS) > 50


@pytest.mark.parametrize("name", WHOLE)
def test_the_test_of_a_page_reads_it(name):
    assert name in (ROOT / "tests" / WHOLE[name]).read_text(encoding="utf-8")


# Those of the faults are run, by test_faults.py.
@pytest.mark.parametrize(("page", "text"), [one for one in of("sh") if one.values[0].stem != "faults"])
def test_commands_are_ones(swept, page, text):
    check(swept, page, text)


@pytest.mark.parametrize(
    "wrong",
    [
        "pissa dekompose embedded --out x",
        "pissa decompose embedded --rnk 4 --out x",
        "pissa decompose embedded --rank four --out x",
        "pissa decompose embedded",
        "snakemake --cores all results/gsm8k_tabel.csv",
        "snakemake --cores all results/extra/two_rates.csv  # not of this config",
        "snakemake --cors all results/gsm8k_table.csv",
        "snakemake train_al",
        "snakemake all --configfile config/papr.yaml",
        "snakemake all --profile profiles/slrum",
        "snakemake all --set-resources trian:runtime=60",
        "python -m pytest tests/test_nothing.py",
        "conda install pissa",
    ],
)
def test_a_command_that_is_none_is_found(swept, wrong):
    with pytest.raises((Exception, SystemExit)):
        check(swept, ROOT / "README.md", wrong)


def check(swept, page: Path, text: str) -> None:
    """Check each command of a block as far as that is possible without running it."""
    checks = {"pissa": parse, "snakemake": lambda words: workflow(swept, page, words)}
    for words in commands(text):
        assert words[0] in checks.keys() | OTHERS, words
        if ours := checks.get(words[0]):
            ours(words[1:])
        for file in filter(None, map(OWN.fullmatch, words)):
            assert (ROOT / file[1]).exists(), file[1]


def parse(words: list[str]) -> None:
    """The words of `pissa`, without running it. Its parser raises what is wrong with them."""
    if words != ["--help"]:
        assert words[0] in main.names(), words
        main.load(words[0]).make_context(f"pissa {words[0]}", words[1:])


def workflow(swept, page: Path, words: list[str]) -> None:
    """The words of `snakemake`, without running it: options, files, rules and targets."""
    asked = get_argument_parser().parse_args(words)
    shipped = [ROOT / file for file in asked.configfile if (ROOT / file).is_file()]
    own = {str(file) for file in asked.configfile if ROOT / file not in shipped}
    assert own <= {"mine.yaml", "theirs.yaml"}
    configs = [file.read_text(encoding="utf-8") for file in shipped]
    if own and page.stem not in PLUGGED:
        configs += [text for kind, text in blocks(page) if kind == "yaml"]
    sweep = swept(page, *configs)
    made = {str(one.target) for one in exhibits.outputs(sweep) if one.possible} | ADDED
    assert all(target in made | RULES or SCORE.fullmatch(target) for target in asked.targets), asked.targets
    assert set(asked.set_resources) <= RULES
    assert all((ROOT / profile / "profile.yaml").is_file() for profile in asked.profile or ())


@pytest.mark.parametrize(("page", "text"), of("yaml"))
def test_configs_are_ones(swept, page, text):
    if page.stem not in PLUGGED:
        assert swept(page, text).cells
    for command in re.findall(r"^# \S+: (snakemake .*)$", text, flags=re.MULTILINE):
        workflow(swept, page, shlex.split(command)[1:])


@pytest.mark.parametrize(("page", "text"), of("python"))
def test_python_is_run_by_a_test(page, text):
    compile(text, str(page), "exec")
    assert page.stem in WHOLE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_text_are_there(page):
    assert set(re.findall(r"`pissa ([a-z-]+)", page.read_text(encoding="utf-8"))) <= set(main.names())
