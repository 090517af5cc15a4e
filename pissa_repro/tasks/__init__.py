"""The tasks: one lm-eval task file (`File`) for each benchmark, and the Python that holds its answer rules (`Rules`).

Imports no lm-eval: Snakemake reads this. What runs programs or asks a judge is in grading/.
"""

import inspect
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, Protocol

import yaml

from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.plugins import Room, fill, hold, imported, missing, own
from pissa_repro.sources.roles import KINDS, ROLES

TASKS = Path(__file__).parent
METRIC = "paper"  # the answer rule of the released code


class File(Protocol):
    """What a task's YAML file declares, in lm-eval's words. `!function module.name` names a function beside it."""

    task: str
    """The file's own name."""

    custom_dataset: str
    """A function (path, **metadata) -> {split: datasets.Dataset}; `rows.dataset` gives the fetched rows as they are."""

    test_split: str
    """The split that is scored."""

    output_type: str
    """`generate_until` (an answer is a text, or with a field `label` the name of a class), or `loglikelihood_rolling`
    (a text is predicted)."""

    doc_to_text: str
    """What the user asks; `rows.prompt` is the role `prompt`. The cell's prompt style is put around it, never here."""

    doc_to_target: str
    """The role that holds the reference, for the samples."""

    process_results: str
    """The answer rules; the module that it names is the task's Python (see `Rules`)."""

    metric_list: list[dict[str, Any]]
    """{metric, aggregation, higher_is_better} for each; one metric is `paper`: the published rule, faults and all."""

    metadata: dict[str, Any]
    """`version`: 1, raised when the answer rules change, so that what was generated is scored again. `fields`: {role:
    kind} of what it reads, with the kinds of sources/roles.py. `unit`: of scores (`percent` for fractions of 1)."""

    target_delimiter: str = " "
    """What lm-eval puts before a target."""

    generation_kwargs: Mapping[str, Any] = MappingProxyType({})
    """How to generate: greedy and without stop strings in all tasks so far."""


class Rules(Protocol):
    """What the Python of a task gives. Rows (`doc`) are mappings of the roles to texts, or what the dataset has.

    Functions raise UserError for what the user can mend. lm-eval loads the file by its path, apart from `import`, so
    that state which both share (a cache) belongs into a module of grading/.
    """

    TURNS: int = 1
    """How many answers an item needs; more than one in conversations."""

    @abstractmethod
    def process_results(self, doc: dict[str, Any], results: list[Any]) -> dict[str, Any]:
        """The value of every metric for one row; results[0] is its answer, or the list of its turns' answers."""

    def check(self, doc: dict[str, Any]) -> None:
        """Raise UserError for a row that cannot be scored; called before anything is generated."""

    def next_turn(self, doc: dict[str, Any], texts: list[str]) -> str | None:
        """In a conversation: what the user says after these answers; None when there is no further turn."""
        return None

    def prepare(self, docs: list[dict[str, Any]], answers: list[Any]) -> None:
        """Slow work for all rows at once, before scoring: running programs, asking a judge."""

    def keeping(self, path: Path) -> AbstractContextManager[Any]:
        """A context around scoring: `path` is a file beside the generations for what must not be asked twice."""
        return nullcontext()

    def ready(self) -> None:
        """Raise UserError where this machine lacks what scoring needs; called before the first job of a sweep here."""

    def facts(self) -> dict[str, Any]:
        """After scoring: what belongs into its record, such as the sandbox."""
        return {}

    def reread(self, target: str, generated: str) -> dict[str, float]:
        """What the form of a kept answer may hide, each 1 or 0: `last_number`, its last number is right, wherever that
        stands; `marker`, it has the words that the published rule looks for. No metrics: tables work them out from
        the samples, so that records stay as they are. target: the sample's, `doc_to_target`.
        """
        return {}

    def extracted(self, target: str, generated: str) -> str | None:
        """What the published rule reads from a kept answer, as the report page shows it; None where that is nothing."""
        return None


@dataclass(frozen=True)
class Task:
    """A task: its file, and the Python that `process_results` of the file names."""

    file: File
    rules: Rules


class _Function(str):
    """A function that a task file names."""


class _Loader(yaml.SafeLoader):
    """Reads a task file without running its functions: they stay names."""


def _as_name(loader: _Loader, node: yaml.ScalarNode) -> _Function:
    return _Function(loader.construct_scalar(node))


_Loader.add_constructor("!function", _as_name)


class _Tasks(Room[Task]):
    """The room of the tasks: a plug-in is a YAML file, and Python files may serve several."""

    def names(self) -> tuple[str, ...]:
        """The task files, without their ending."""
        return tuple(sorted(path.stem for path in TASKS.glob("*.yaml")))

    def file(self, name: str) -> str:
        """The path of a task file from the checkout's root, for messages."""
        return super().file(name).removesuffix(".py") + ".yaml"

    def _line(self, text: str) -> str:
        return text.partition("\n")[0].removeprefix("# ")

    def _whole(self, name: str) -> Any:
        place = self.file(name)
        try:
            content = yaml.load((TASKS / f"{name}.yaml").read_text(encoding="utf-8"), _Loader)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{place}: not valid YAML: {error}") from None
        if not isinstance(content, dict):
            raise UserError(f"{place}: a task file is a mapping, this is a {type(content).__name__}.")
        file = SimpleNamespace(**content)
        hold(file, content, File, self.kind, place)
        _check(file, name, self.kind, place)
        for function in _functions(content):
            _resolve(function, place)
        return Task(fill(file, File), _rules(file.process_results, self.kind, place))


def _rules(function: str, kind: str, place: str) -> Any:
    """The Python with the answer rules, whole."""
    module, _, name = function.partition(".")
    if name != "process_results":
        raise unknown("answer rule", function, [f"{module}.process_results"], f"{place}: process_results")
    rules = _python(module, place)
    hold(rules, own(rules), Rules, kind, rules.__name__.replace(".", "/") + ".py")
    return fill(rules, Rules)


def _check(task: Any, name: str, kind: str, place: str) -> None:
    """Raise UserError for values of a task file that cannot be."""
    if task.task != name:
        raise UserError(f"{place}: 'task' is {task.task!r}; it must be the file's name.")
    for key in ("version", "fields", "unit"):
        if key not in task.metadata:
            raise missing(f"metadata.{key}", [f"metadata.{word}" for word in task.metadata], kind, place)
    if type(version := task.metadata["version"]) not in (int, float):
        raise UserError(f"{place}: metadata.version is {version!r}; it must be a number, 1 at first.")
    _check_fields(task.metadata["fields"], f"{place}: metadata.fields")
    for metric in task.metric_list:
        for key in ("metric", "aggregation", "higher_is_better"):
            if key not in metric:
                raise missing(key, metric, "metric", f"{place}: metric_list")
    if METRIC not in (known := [metric["metric"] for metric in task.metric_list]):
        raise unknown("metric", METRIC, known, f"{place}: metric_list")


def _check_fields(fields: Any, place: str) -> None:
    """Raise UserError for roles that no dataset has, and for another kind than the one that rows are fetched with."""
    if not isinstance(fields, dict):
        raise UserError(f"{place}: a mapping of roles to {' or '.join(KINDS)}, this is a {type(fields).__name__}.")
    for role, kind in fields.items():
        if role not in ROLES:
            raise unknown("role", role, ROLES, place)
        if kind != ROLES[role]:
            raise UserError(f"{place}: {role} is {kind!r}; it is {ROLES[role]!r} for all tasks.")


def _functions(content: Any) -> list[_Function]:
    """All functions that a part of a task file names."""
    if isinstance(content, _Function):
        return [content]
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return [name for part in parts for name in _functions(part)]


def _python(module: str, place: str) -> Any:
    known = [path.stem for path in TASKS.glob("*.py") if not path.stem.startswith("_")]
    if module not in known:
        raise unknown("Python file", module, known, place)
    return imported(f"{__name__}.{module}", f"{__name__.replace('.', '/')}/{module}.py")


def _resolve(function: _Function, place: str) -> None:
    """Raise UserError for a function that is not there."""
    module, _, name = function.partition(".")
    loaded = _python(module, place)
    if not callable(getattr(loaded, name, None)):
        public = [key for key, value in vars(loaded).items() if inspect.isfunction(value) and not key.startswith("_")]
        raise unknown("function", name, public, f"{place}: {function}")


PLUGINS = _Tasks("pissa_repro.tasks", "task file", Task)
names, load = PLUGINS.names, PLUGINS.load


def metadata(name: str) -> dict[str, Any]:
    """`metadata` of a task file: version, `fields` (what it reads: {role: kind}) and the `unit` of scores."""
    return load(name).file.metadata


def check_ready(name: str, place: str) -> None:
    """Raise UserError, with its place in the config, where this machine lacks what scoring a task file needs."""
    try:
        load(name).rules.ready()
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


def rereads(name: str) -> bool:
    """Whether a task's Python has a `reread` of its own."""
    return inspect.isfunction(load(name).rules.reread)  # the contract's would be a method of the module


@cache
def metrics(name: str) -> dict[str, dict[str, Any]]:
    """The metrics of a task file in its order: {name: {"aggregation", "higher_is_better"}}."""
    return {metric["metric"]: metric for metric in load(name).file.metric_list}
