"""Results of the study of learning rates, arXiv 2602.04998: one results.json for a model and a training task.

Source: github.com/yuang-lee/lr-matters-lora, run-lora/exp_record/get_record.py, which writes
{task: {method: [{"hyparam": {"lr", "batch_size", "rank", "epoch"}, "acc-<trial>": {metric: score}}]}}. The repository
has the script and no such file: the study's own numbers are in its paper.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pissa_repro.exchange.found import Found, Read
from pissa_repro.exchange.strict import Fields, load
from pissa_repro.runtime.errors import UserError, unknown

FORMAT = "a results.json of the study of learning rates"
TRIAL = re.compile(r"acc-(\d+)")
Setting = tuple[str, int | None, float, int | None, float]  # method, rank, rate, batch, epochs


def read(path: Path, metric: str | None, place: str) -> Read:
    """The runs in a file: one for each method, rank, rate, batch size and number of epochs, over its trials.

    metric: the key of its scores, such as "gsm8k". Raises UserError for another format, and for a trial that is there
    twice.
    """
    if metric is None:
        raise UserError(f"{place}: give 'metric', the name of the score in {path}, such as gsm8k or math.")
    trials: dict[Setting, dict[int, float]] = {}
    for setting, number, score in _trials(path, metric, place):
        if number in (known := trials.setdefault(setting, {})):
            raise UserError(f"{place}: {path}: trial {number} of {setting[0]} at rate {setting[2]:g} is there twice.")
        known[number] = score
    if not trials:
        raise UserError(f"{place}: {path} has no trial. Is it {FORMAT}?")
    return Read(tuple(_run(path, setting, scores) for setting, scores in trials.items()))


def _run(path: Path, setting: Setting, trials: dict[int, float]) -> Found:
    method, rank, rate, batch, epochs = setting
    words = [f"batch {batch}"] if batch else []
    name = ", ".join([method, *words, f"{epochs:g} epochs" if epochs != 1 else "1 epoch"])
    return Found(path, name, tuple(trials[number] for number in sorted(trials)), rank=rank, learning_rate=rate)


def _trials(path: Path, metric: str, place: str) -> Iterator[tuple[Setting, int, float]]:
    everything = Fields(load(path, place), path, place, FORMAT)
    for task in everything.values:
        methods = everything.sub(task)
        for method, records in methods.values.items():
            if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
                raise methods.wrong((task, method), "is no list of mappings")
            for record in records:
                yield from _of(method, Fields(record, path, place, FORMAT), metric)


def _of(method: str, fields: Fields, metric: str) -> Iterator[tuple[Setting, int, float]]:
    known = fields.sub("hyparam")
    setting = method, known.count("rank"), known.number("lr"), known.count("batch_size"), known.number("epoch")
    for key in fields.values:
        if found := TRIAL.fullmatch(key):
            scores = fields.sub(key)
            if metric not in scores.values:
                raise unknown("metric", metric, scores.values, f"{fields.place}.metric ({fields.file})")
            yield setting, int(found[1]), _score(scores, metric).fraction(metric)


def _score(scores: Fields, metric: str) -> Fields:
    """The same with the first of a list, which is how pass@1 is written there."""
    value: Any = scores.values[metric]
    first = value[0] if isinstance(value, list) and value else value
    return Fields({metric: first}, scores.file, scores.place, scores.format)
