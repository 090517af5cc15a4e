"""Every task's files keep the contracts of tasks.File and tasks.Rules. Found by scanning, none is named."""

import re
import shutil
from types import SimpleNamespace

import pytest
from stage import says

from pissa_repro import tasks
from pissa_repro.runtime.plugins import fill

every_task = pytest.mark.parametrize("name", tasks.names())


def test_scan_finds_the_files_and_all_are_whole():
    tasks.PLUGINS.check()
    assert len(tasks.names()) > 1 and all(tasks.PLUGINS.lines().values())


@every_task
def test_a_task_says_what_it_reads_and_in_which_unit(name):
    file = tasks.load(name).file
    assert file.task == name and file.metadata["fields"] and file.metadata["unit"]
    assert isinstance(file.metadata["version"], int)
    assert tasks.METRIC in tasks.metrics(name)
    assert all(isinstance(metric["higher_is_better"], bool) for metric in tasks.metrics(name).values())


def test_what_the_rules_leave_out_does_nothing(tmp_path):
    rest = fill(SimpleNamespace(process_results=None), tasks.Rules)
    assert (rest.TURNS, rest.facts(), rest.next_turn({}, []), rest.check({}), rest.prepare([], [])) == (
        1, {}, None, None, None,
    )  # fmt: skip
    with rest.keeping(tmp_path / "none"):
        assert not (tmp_path / "none").exists()


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """A function that changes one task file in a copy of the folder and reads all."""
    folder = tmp_path / "tasks"
    shutil.copytree(tasks.TASKS, folder)
    monkeypatch.setattr(tasks, "TASKS", folder)
    path = next(path for path in sorted(folder.glob("*.yaml")) if "rows.prompt" in path.read_text(encoding="utf-8"))

    def load(old, new):
        text, count = re.subn(old, new, path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        assert count
        path.write_text(text, encoding="utf-8")
        tasks._Tasks("pissa_repro.tasks", "task file", tasks.Task).check()

    return load


WRONG = {  # what is replaced (a pattern), by what, and the words of the refusal
    "a misspelt key": ("test_split", "test_splits", ["'test_splits'", "mean 'test_split'?"]),
    "a missing key": ("^doc_to_target.*?\n", "", ["no 'doc_to_target'"]),
    "another name": ("^task: ", "task: x", ["'task'", "the file's name"]),
    "no unit": ("  unit:", "  units:", ["no 'metadata.unit'", "'metadata.units'"]),
    "a version in words": ("version: 1", "version: one", ["metadata.version is 'one'", "a number"]),
    "no published rule": ("metric: paper", "metric: papers", ["'paper'", "mean 'papers'?"]),
    "no direction": ("higher_is_better", "higher_is_beter", ["no 'higher_is_better'", "'higher_is_beter'"]),
    "another rule": ("^process_results.*?$", "process_results: !function rows.prompt", ["answer rule 'rows.prompt'"]),
    "no such function": ("rows.dataset", "rows.datasets", ["function 'datasets'", "mean 'dataset'?"]),
    "no such Python": ("rows.dataset", "row.dataset", ["Python file 'row'", "mean 'rows'?"]),
    "an unknown role": ("{prompt: text", "{prompts: text", ["role 'prompts'", "mean 'prompt'?"]),
    "another kind of a role": ("{prompt: text", "{prompt: texts", ["prompt is 'texts'", "'text' for all tasks"]),
    "roles without kinds": ("fields: {[^}]*}", "fields: [prompt]", ["a mapping of roles", "this is a list"]),
    "no mapping": (".*", "- a\n", ["a task file is a mapping"]),
    "no YAML": (".*", "a: [", ["not valid YAML"]),
}


@pytest.mark.parametrize(("old", "new", "words"), WRONG.values(), ids=WRONG)
def test_a_task_file_that_is_not_whole_is_refused(changed, old, new, words):
    says(lambda: changed(old, new), "pissa_repro/tasks/", ".yaml", *words)


def test_rows_gives_the_users_words():
    """What stands around them is the cell's prompt (sources/prompt.py), never the task's."""
    from pissa_repro.tasks import rows

    assert rows.prompt({"prompt": "Why?"}) == "Why?"
