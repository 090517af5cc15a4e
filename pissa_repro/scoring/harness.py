"""lm-eval, used in two halves: what a task asks of a model, and what the answers score."""

import math
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from pissa_repro import tasks
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record_types import MetricValue, Sample
from pissa_repro.sources.prompt import DEFAULT, Style, written

ROLLING = "loglikelihood_rolling"


class Task:
    """One of the project's task files (never lm-eval's beside them) on the rows of a file.

    Rows that the task's `check(doc)` refuses end here, before anything is generated for them.
    ids: the numbers of its items, in the data's order. kind: lm-eval's output type. turns: of a
    conversation, how many answers an item needs; the task's next_turn(doc, texts) gives the user's words after these.
    new_tokens: room that an answer takes; 0 where a text is predicted, or a class is asked for.
    """

    def __init__(self, name: str, rows: Path, max_new_tokens: int):
        manager = TaskManager(include_path=str(tasks.TASKS), include_defaults=False, metadata={"path": str(rows)})
        self.name, self._task = name, manager.load(name)["tasks"][name]
        self.rules = tasks.load(name).rules
        self.kind = self._task.OUTPUT_TYPE
        self.turns = self.rules.TURNS
        self.asks_classes = "label" in tasks.metadata(name)["fields"]
        self.new_tokens = 0 if self.kind == ROLLING or self.asks_classes else max_new_tokens
        if self.kind != ROLLING:
            self._task.set_config("generation_kwargs", {"max_gen_toks": max_new_tokens}, update=True)
        for number, doc in enumerate(self._task.test_docs()):
            self._check(number, doc)
        self._task.build_all_requests()
        self._first = {instance.doc_id: instance for instance in self._task.instances}
        self.ids = sorted(self._first)

    def _check(self, number: int, doc: dict[str, Any]) -> None:
        try:
            self.rules.check(doc)
        except UserError as error:
            raise UserError(f"row {number}: {error}") from None

    @property
    def predicts(self) -> bool:
        """Whether a text is predicted, and none generated."""
        return self.kind == ROLLING

    def rows(self) -> list[dict[str, Any]]:
        """The rows of its items, in their order."""
        return [self._first[item].doc for item in self.ids]

    def prompt(self, item: int, style: Style) -> str:
        """The first prompt of an item; of a text to predict the text."""
        return self.request(item, [], style).args[0]

    def later_prompts(self, style: Style) -> list[str]:
        """The prompts after the first of each item, as long as they are before anything is answered."""
        turns = [(item, [""] * count) for item in self.ids for count in range(1, self.turns)]
        return [self.request(item, texts, style).args[0] for item, texts in turns]

    def wants(self, texts: list[Any]) -> bool:
        """Whether an item with these answers needs another one."""
        return len(texts) < self.turns

    def request(self, item: int, texts: list[Any], style: Style) -> Instance:
        """What to ask after these answers, in the style that the cell was trained with. A text to predict has none."""
        first = self._first[item]
        if self.kind == ROLLING:
            return first
        words = [first.args[0], *(self.rules.next_turn(first.doc, texts[: n + 1]) for n in range(len(texts)))]
        return Instance(self.kind, first.doc, (style.prompt(words, texts), first.args[1]), first.idx, first.metadata)

    def ask(self, lm: LM, instances: list[Instance]) -> list[Any]:
        """The model's answers: texts, or of a text to predict {"loglikelihood" (nats), "tokens"}."""
        if self.kind != ROLLING:
            return lm.generate_until(instances, disable_tqdm=True)
        nats = lm.loglikelihood_rolling(instances, disable_tqdm=True)
        counts = [len(lm.tok_encode(instance.args[0], add_special_tokens=False)) for instance in instances]
        if not all(math.isfinite(value) for value in nats):
            raise UserError(f"{self.name}: the log-likelihood of a text is not finite.")
        return [{"loglikelihood": value, "tokens": n} for value, n in zip(nats, counts, strict=True)]

    def score(self, turns: dict[int, list[Any]], prompt: str = DEFAULT) -> tuple[dict[str, MetricValue], list[Sample]]:
        """The metrics by name, as the task gives them, and a sample per item, in order.

        turns: what was generated for each item. prompt: the style that asked, for the samples' texts. A standard error
        is None where lm-eval has none.
        """
        self.rules.prepare([self._first[i].doc for i in self.ids], [answer(turns[i]) for i in self.ids])
        # bootstrap_iters 0 would also drop the standard error of a mean, which needs no bootstrap
        evaluated = evaluate(Stored(turns), {self.name: self._task}, log_samples=True, bootstrap_iters=1)
        scores, samples = evaluated["results"][self.name], evaluated["samples"][self.name]
        names = [key.removesuffix(",none") for key in scores if key.endswith(",none") and "_stderr" not in key]
        metrics = {name: _metric(scores, name, len(samples)) for name in names}
        in_order = sorted(samples, key=lambda logged: logged["doc_id"])
        return metrics, [_sample(logged, self._shown(logged, prompt), names) for logged in in_order]

    def _shown(self, logged: dict[str, Any], prompt: str) -> str:
        """The prompt that a sample shows: a row's own, else its first one in fixed words."""
        words = logged["arguments"][0][0]
        return logged["doc"].get("prompt") or (words if self.kind == ROLLING else written(prompt, [words]))


class Stored(LM):
    """A language model that answers what was generated before: {item: its turns}."""

    def __init__(self, turns: dict[int, list[Any]]):
        super().__init__()
        self.turns = turns

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Any]:
        """The kept answer of each request's item."""
        return [answer(self.turns[request.doc_id]) for request in requests]

    loglikelihood = loglikelihood_rolling = generate_until


def answer(turns: list[Any]) -> Any:
    """What an answer rule gets as results[0]: the one generation, or the list of all turns."""
    return turns[0] if len(turns) == 1 else turns


def _metric(scores: dict[str, Any], name: str, n: int) -> MetricValue:
    stderr = scores[f"{name}_stderr,none"]  # "N/A" where lm-eval knows no way
    return {"value": scores[f"{name},none"], "stderr": stderr if isinstance(stderr, float) else None, "n": n}


def _sample(logged: dict[str, Any], prompt: str, metrics: list[str]) -> Sample:
    return {
        "id": logged["doc_id"],
        "prompt": prompt,
        "target": logged["target"],
        "generated": logged["resps"][0][0],
        **{name: logged[name] for name in metrics},
    }
