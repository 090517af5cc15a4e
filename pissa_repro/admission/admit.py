"""Check a model against all that a sweep wants of it: modules, tokenizer, training rows, tasks."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pissa_repro.admission.modules import measured, refuse_untrainable, refuse_whole, stacks
from pissa_repro.admission.tokenizer import check_ids, unused, whole_tokenizer
from pissa_repro.model import classes
from pissa_repro.model.architecture import CLASSIFICATION, Architecture, architecture
from pissa_repro.model.load import check_length, window
from pissa_repro.model.naming import types
from pissa_repro.model.skeleton import skeleton
from pissa_repro.model.tokens import encoded
from pissa_repro.runtime import paths
from pissa_repro.runtime.admit_specs import AdmitRows, AdmitSpec, AdmitTask
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_lines
from pissa_repro.runtime.record_types import Admitted, AdmittedRows
from pissa_repro.scoring.engines import check_architecture
from pissa_repro.scoring.generator import Prompts
from pissa_repro.scoring.harness import Task
from pissa_repro.sources.prompt import DEFAULT, Style, make_style
from pissa_repro.training.examples import RESPONSE, classified, tokenize, uncut

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)
NO_LIMIT = 10**9  # tokens that a model without a limit of its own sees


class Language(NamedTuple):
    """What is checked of a language model: the model without weights, and its tokenizer."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"

    @property
    def rows(self) -> int:
        """The rows of the embedding: ids below it have one."""
        return self.model.get_input_embeddings().weight.shape[0]  # type: ignore[return-value,index]

    @property
    def architecture(self) -> Architecture:
        """Whether it reads what it answers with an encoder of its own."""
        return architecture(self.model.config)

    @property
    def window(self) -> int:
        """Tokens that the model sees."""
        return window(self.model.config, NO_LIMIT)


def admit(folder: str, spec: AdmitSpec, results: Path) -> Admitted:
    """What was found of the model in a folder and of the rows below `results`; nothing costly is done.

    Raises UserError for what would end a later stage: see the functions called here. What is only cut is counted, and
    told as a warning.
    """
    found: Admitted = {
        "modules": {}, "architecture": None, "tokenizer": None, "training": [], "tasks": {}, "warnings": [],
    }  # fmt: skip
    targets = [(wanted, measured(folder, wanted)) for wanted in spec["targets"]]
    shapes = {name: shape for _, of_targets in targets for name, shape in of_targets.items()}
    found["modules"] = dict(Counter(types(shapes).values()))
    if spec["trained"]:
        heads = _heads(spec["training"], results)
        models = [skeleton(folder, head) for head in heads.values()] or [skeleton(folder)]
        language = Language(models[0], whole_tokenizer(folder, needs_end=not heads))
        refuse_untrainable(folder, shapes, language.model)
        found["architecture"] = language.architecture.name
        for wanted, of_targets in targets:
            refuse_whole(folder, of_targets, wanted.get("whole", {}), language.model)
        found["tokenizer"] = {
            "tokens": len(language.tokenizer),
            "unused": unused(language.tokenizer, language.rows),
            "embedding_rows": language.rows,
        }
        found["training"] = [_training(language, asked, results) for asked in spec["training"]]
        found["tasks"] = _tasks(language, spec["tasks"], heads, results)
        found["warnings"] = [*_warnings(found), *_stacked(language.model, bool(shapes))]
    for warning in found["warnings"]:
        log.warning("%s", warning)
    return found


def _heads(training: list[AdmitRows], results: Path) -> dict[str, classes.Head]:
    """The heads that training rows ask for, by the names of the datasets; none where words are trained."""
    found = {}
    for asked in training:
        if asked.get("task") == classes.TASK:
            rows = read_lines(paths.rows(asked["rows"], results))
            found[asked["rows"]] = classes.Head(classes.named(rows, f"config.datasets.{asked['rows']}"), 0)
    return found


def _training(language: Language, asked: AdmitRows, results: Path) -> AdmittedRows:
    """How training rows fit. Raises UserError when they are longer than the model sees, or leave nothing."""
    place = f"config.datasets.{asked['rows']}"
    check_length(asked["max_length"], language.model.config)
    rows = read_lines(paths.rows(asked["rows"], results))
    given, prompt, kind = language.tokenizer, asked.get("prompt", DEFAULT), language.architecture
    if kind is CLASSIFICATION:
        numbers = dict.fromkeys(classes.named(rows, place), 0)
        _, lengths = classified(list(rows), given, asked["max_length"], numbers)
        check_ids(encoded(given, rows)["input_ids"], language.rows, place)
        return {**asked, "lengths": lengths.as_dict()}
    examples, lengths = tokenize(rows, given, asked["max_length"], prompt, asked.get("loss", RESPONSE), kind)
    if any(max(example["input_ids"] + example["labels"]) >= language.rows for example in examples):
        check_ids(uncut(rows, given, prompt, kind)[1], language.rows, place)  # again: short rows were left out
    return {**asked, "lengths": lengths.as_dict()}


def _tasks(
    language: Language, asked: Mapping[str, AdmitTask], heads: Mapping[str, classes.Head], results: Path
) -> dict[str, dict[str, int]]:
    """How the prompts of each task fit, in the style of prompt with the longest.

    Raises UserError for a row that its task cannot score.
    """
    found = {}
    for name, wanted in asked.items():
        place = f"config.tasks.{name} ({wanted['rows']})"
        named, kind = wanted.get("prompts", [DEFAULT]), language.architecture
        styles = [make_style(prompt, language.tokenizer, kind) for prompt in named]
        try:
            task = Task(wanted["task"], paths.rows(wanted["rows"], results), wanted["max_new_tokens"])
            check_architecture(kind, wanted.get("backend", "hf"), task)
            for head in heads.values():
                classes.refuse_unseen(task.rows(), head.classes, "its rows")
            prompts = Prompts([(task, style) for style in styles], language.window)
        except UserError as error:
            raise UserError(f"{place}: {error}") from None
        fits = [_fit(language, task, style, prompts, place) for style in styles]
        found[name] = {
            "items": len(task.ids),
            "longest": max(fit[0] for fit in fits),
            "cut": max(fit[1] for fit in fits),
        }
    return found


def _fit(language: Language, task: Task, style: Style, prompts: Prompts, place: str) -> tuple[int, int]:
    """Tokens of the longest prompt of a task in one style, and how many prompts the window cuts."""
    first = prompts.ids[task, style]
    check_ids(first.values(), language.rows, place)
    if empty := [number for number, ids in first.items() if not ids]:
        raise UserError(f"{place}: item {empty[0]} has no tokens.")
    later = style.ids(task.later_prompts(style))
    check_ids(later, language.rows, f"{place}, later turns")
    lengths = [*map(len, first.values()), *map(len, later)]
    room = prompts.room(task, style)
    return max(lengths), 0 if task.predicts else sum(n > room for n in lengths)


def _warnings(found: Admitted) -> Iterator[str]:
    if found["tokenizer"] and (count := found["tokenizer"]["unused"]):
        yield f"{count} added tokens of the tokenizer have no row of the embedding; no row here has them."
    for asked in found["training"]:
        lengths, place = asked["lengths"], f"config.datasets.{asked['rows']}, max_length {asked['max_length']}"
        if count := lengths["truncated"]:
            yield f"{place}: {count} of {lengths['examples']} examples are cut."
        if count := lengths["dropped"]:
            yield f"{place}: {count} of {lengths['examples']} examples are dropped, no token of the response is left."
    for task, counts in found["tasks"].items():
        if counts["cut"]:
            yield f"config.tasks.{task}: {counts['cut']} of {counts['items']} prompts are cut to the model's window."


def _stacked(model: "PreTrainedModel", factors: bool) -> Iterator[str]:
    """Experts that train with no method but full fine-tuning."""
    if factors and (kept := stacks(model)):
        names = ", ".join(f"{name} {shape}" for name, shape in kept.items())
        yield f"config.train.target_modules: the experts ({names}) get no factors; they are no matrices."


def counts(found: Admitted) -> dict[str, int]:
    """How much was checked, for the log."""
    return {
        "modules": sum(found["modules"].values()),
        "examples": sum(asked["lengths"]["examples"] for asked in found["training"]),
        "items": sum(counts["items"] for counts in found["tasks"].values()),
    }
