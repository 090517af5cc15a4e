"""Generate the answers of many trained cells of one model, in one process and one launch of the engine."""

import functools
import itertools
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pissa_repro.model import classes, tokens
from pissa_repro.model.architecture import architecture
from pissa_repro.model.merged import TrainedCell, merged_model
from pissa_repro.runtime import paths, walltime
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.progress import track
from pissa_repro.runtime.provenance import end, provenance
from pissa_repro.runtime.record import sha256
from pissa_repro.runtime.record_types import ModelRecord, Origin
from pissa_repro.runtime.specs import BatchSpec, GenerateSpec
from pissa_repro.scoring.engines import BACKENDS, EngineError, Options, check_architecture
from pissa_repro.scoring.generations import Journal, journal, place
from pissa_repro.sources.fetched import base_of
from pissa_repro.sources.prompt import Style, facts, make_style, named
from pissa_repro.training import diverged
from pissa_repro.training.cell import verified

if TYPE_CHECKING:
    from pissa_repro.model.merged import Merged
    from pissa_repro.model.merging import Streamed
    from pissa_repro.scoring.harness import Task

log = logging.getLogger(__name__)
CHECKED, CHECKED_TOKENS = 4, 256  # prompts of the checks, and tokens of each


@dataclass(frozen=True, eq=False)
class Job:
    """One cell on one task: the spec of its generations, and where its parts are."""

    name: str
    spec: GenerateSpec
    init: Path | None
    trained: Path
    rows: Path
    out: Path

    @property
    def cell(self) -> TrainedCell:
        """What generates."""
        return TrainedCell(self.spec["train"], self.init, self.trained)

    @property
    def task(self) -> "Task":
        """What is asked."""
        return _task(self.spec["task"], self.rows, self.spec["max_new_tokens"])

    @property
    def prompt(self) -> str:
        """The style in which the cell is asked."""
        return named(self.spec["train"])

    def left(self, kept: Journal) -> bool:
        """Whether anything is still to be generated."""
        return any(self.task.wants(kept.turns.get(i, [])) for i in self.task.ids)

    def origin(self, stored: ModelRecord) -> Origin:
        """What the generations are made from; kept on the first line of their file."""
        return {
            "spec": self.spec,
            "base": base_of(stored),
            "data_sha256": sha256(self.rows),
            "trained_sha256": _verified(self.trained, self.init),
        }


_verified = functools.cache(verified)  # once for all tasks of a cell


@functools.cache
def _task(name: str, rows: Path, max_new_tokens: int) -> "Task":
    from pissa_repro.scoring import harness

    return harness.Task(name, rows, max_new_tokens)


def jobs(batch: BatchSpec, results: Path) -> Iterator[Job]:
    """The jobs of a batch spec (batches.Batches.spec), cell by cell."""
    for cell, made in batch["cells"].items():
        home = paths.cell(cell, results)
        for task, asked in batch["tasks"].items():
            spec: GenerateSpec = {
                "stage": "generate", "version": batch["version"], "train": made["train"], **asked["spec"],
            }  # fmt: skip
            yield Job(
                name=f"{cell} {task}",
                spec=spec,
                init=paths.start(made["start"], results) if made["start"] else None,
                trained=home.trained,
                rows=paths.rows(asked["rows"], results),
                out=place(home, task, spec),
            )


class Prompts:
    """The first prompts of tasks in tokens, as styles ask them, and whether they and the answers fit the window."""

    def __init__(self, asked: Iterable[tuple["Task", Style]], window: int):
        self.window = window
        self.ids = {
            (task, style): dict(zip(task.ids, _ids(task, style), strict=True)) for task, style in dict.fromkeys(asked)
        }
        self.length = min(window, max(self._needed(*asked) for asked in self.ids))

    def _needed(self, task: "Task", style: Style) -> int:
        """Tokens of the longest prompt and answer. Raises UserError when an answer alone fills the window."""
        new = task.new_tokens
        if new >= self.window:
            raise UserError(f"config.tasks: max_new_tokens {new} fills the model's window of {self.window}.")
        longest = max(self.lengths(task, style).values())
        return longest + 2 + new if task.turns == 1 else self.window  # 2: bos, and vLLM's one token of a text

    def lengths(self, task: "Task", style: Style) -> dict[int, int]:
        """Tokens of each item's first prompt."""
        return {i: len(ids) for i, ids in self.ids[task, style].items()}

    def room(self, task: "Task", style: Style) -> int:
        """Tokens that a prompt may have."""
        return self.window if style.alone else self.window - task.new_tokens

    def cut(self, task: "Task", style: Style) -> int:
        """Prompts that are too long for the window; lm-eval cuts them on the left."""
        room = self.room(task, style)
        return 0 if task.predicts else sum(n > room for n in self.lengths(task, style).values())

    def some(self) -> list[list[int]]:
        """A few prompts to check weights with."""
        return [ids[: min(CHECKED_TOKENS, self.window - 1)] for ids in itertools.islice(self._first(), CHECKED)]

    def _first(self) -> Iterable[list[int]]:
        return next(iter(self.ids.values())).values()


def _ids(task: "Task", style: Style) -> list[list[int]]:
    """The ids of every item's first prompt; of a text to predict those that any text has, of two texts both."""
    if task.asks_classes:
        return tokens.encoded(style.tokenizer, task.rows())["input_ids"]
    texts = [task.prompt(i, style) for i in task.ids]
    return tokens.prompt_ids(style.tokenizer, texts) if task.predicts else style.ids(texts)


class Generator:
    """Generates jobs with one engine, which starts at the first job that has anything left to do.

    stop: what asks it to end before the next batch of prompts.
    """

    def __init__(
        self, stored: ModelRecord, batch_size: int, tensor_parallel: int = 1, stop: walltime.Stop | None = None
    ):
        self.stored, self.batch_size, self.tensor_parallel = stored, batch_size, tensor_parallel
        self.stop = stop or walltime.Stop()
        self.started = time.perf_counter()
        self.origin = provenance(self.started)
        self.engine: Any = None

    def run(self, work: list[Job]) -> dict[str, str]:
        """Generate what is missing, cell after cell: {job: reason} for those of cells that were refused.

        Of a cell whose training diverged it is noted that there is nothing to generate with. Raises EngineError when
        the engine itself fails, and Stopped when it was asked to stop with work left.
        """
        refused, work = {}, self._without_diverged(work)
        cells = [list(own) for _, own in itertools.groupby(work, key=lambda job: job.trained)]
        for own in cells:
            with ExitStack() as stack:
                kept = {job: stack.enter_context(journal(job.out, job.origin(self.stored))) for job in own}
                left = [job for job in own if job.left(kept[job])]
                if not left:
                    log.info("%s: nothing left to generate", own[0].trained)
                    continue
                self.stop.leave()
                if self.engine is None:
                    self._start(work)
                try:
                    self._cell(left, kept)
                except EngineError:
                    raise
                except UserError as error:
                    log.error("%s", error)
                    for job in left:
                        kept[job].refuse(str(error))
                        refused[job.name] = str(error)
        return refused

    def _without_diverged(self, work: list[Job]) -> list[Job]:
        """The jobs of cells with trained weights; in the files of the others it is noted that they have none."""
        lost = {job: step for job in work if (step := diverged.step_in(job.trained))}
        for job, step in lost.items():
            log.info("%s: the training diverged at step %d, nothing to generate", job.name, step)
            with journal(job.out, job.origin(self.stored)) as kept:
                kept.diverge(step)
        return [job for job in work if job not in lost]

    def _start(self, work: list[Job]) -> None:
        from pissa_repro.model.load import window
        from pissa_repro.model.skeleton import own_config

        spec = work[0].spec
        head = classes.head_of(work[0].trained, spec["train"])
        config = own_config(self.stored["path"], head)
        kind = architecture(config)
        for job in work:
            check_architecture(kind, spec["backend"], job.task, job.name)
        tokenizer = tokens.load_tokenizer(self.stored["path"], needs_end=head is None)
        self.styles = {name: make_style(name, tokenizer, kind) for name in dict.fromkeys(job.prompt for job in work)}
        self.prompts = Prompts(((job.task, self.styles[job.prompt]) for job in work), window(config, 10**9))
        options = Options(spec["dtype"], self.batch_size, self.prompts.length, self.tensor_parallel)
        self.engine = BACKENDS[spec["backend"]](tokenizer, options)

    def _merged(self, cell: TrainedCell) -> "Merged | Streamed":
        """The cell's model, in memory or as an engine reads it."""
        prompts, device = self.prompts.some(), self.engine.device
        if not self.engine.reads:
            return merged_model(cell, self.stored, prompts, device)
        from pissa_repro.model.merging import streamed_model

        return streamed_model(cell, self.stored, prompts, device)

    def _cell(self, left: list[Job], kept: dict[Job, Journal]) -> None:
        prompts, model = self.prompts.some(), self._merged(left[0].cell)
        lm, checks = self.engine.take(model, prompts)
        for job in left:
            asked = self.styles[job.prompt]
            run = {**self.origin, "checks": model.checks | checks, "prompts_cut": self.prompts.cut(job.task, asked)}
            kept[job].begin(run | facts(asked) | {"start_seconds": round(self.engine.start_seconds, 3)})
            lengths = self.prompts.lengths(job.task, asked)
            generate(job, asked, kept[job], lm, lengths, self.batch_size, self.stop)
            kept[job].finish(end(self.started))


def generate(
    job: Job, style: Style, kept: Journal, lm: Any, lengths: dict[int, int], batch_size: int, stop: walltime.Stop
) -> None:
    """Generate what each item lacks, turn by turn, long prompts first; a batch is kept when it is done.

    Batches are those of all items, not of the missing ones: who goes on gets the same batches. Raises Stopped between
    two of them where `stop` was asked.
    """
    lm.style = style
    order = sorted(job.task.ids, key=lambda i: (-lengths[i], i))
    batches = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    for turn in range(job.task.turns):
        todo = [group for group in (kept.pending(batch, turn) for batch in batches) if group]
        for group in track(todo, f"{job.name}, turn {turn + 1}" if turn else job.name, len(todo)):
            stop.leave()
            before = time.perf_counter()
            answers = job.task.ask(lm, [job.task.request(i, kept.turns.get(i, []), style) for i in group])
            seconds = (time.perf_counter() - before) / len(group)
            kept.add([_line(i, turn, answer, lm, seconds) for i, answer in zip(group, answers, strict=True)])


def _line(item: int, turn: int, answer: Any, lm: Any, seconds: float) -> dict[str, Any]:
    tokens = answer["tokens"] if isinstance(answer, dict) else len(lm.tok_encode(answer, add_special_tokens=False))
    return {"id": item, "turn": turn, "generated": answer, "tokens": tokens, "seconds": round(seconds, 6)}
