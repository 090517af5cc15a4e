"""Results of PEFT's method_comparison: a JSON file for each experiment, in MetaMathQA/results.

Source: huggingface/peft, method_comparison/MetaMathQA/utils.py (log_results) and method_comparison/processing.py. Older
files say cuda_memory_max, newer ones accelerator_memory_max. The last of the metrics has the test accuracy.
"""

from pathlib import Path

from pissa_repro.exchange.found import Found, Read
from pissa_repro.exchange.strict import Fields, load

FORMAT = "a result of PEFT's method_comparison"
OWN = "pissa_repro"  # what our own files in this format say more: n and the standard error


def read(path: Path, metric: str | None, place: str) -> Read:
    """The run in a file; one that failed is skipped. metric: of no use here. Raises UserError for another format."""
    fields = Fields(load(path, place), path, place, FORMAT)
    name = fields.text("run_info", "experiment_name")
    if (status := fields.text("train_info", "status")) != "success":
        return Read((), (f"{name}: {status}",))
    metrics = fields.get("train_info", "metrics")
    if not isinstance(metrics, list) or not metrics or not isinstance(metrics[-1], dict):
        raise fields.wrong(("train_info", "metrics"), "is no list with a mapping at its end")
    last = Fields(metrics[-1], path, place, FORMAT)
    return Read((_run(fields, last, name),))


def _run(fields: Fields, last: Fields, name: str) -> Found:
    train = fields.sub("train_info")
    error = fields.get(OWN, "stderr")
    return Found(
        file=fields.file,
        method=name,
        scores=(last.fraction("test accuracy"),),
        base=fields.text("run_info", "train_config", "model_id"),
        rank=fields.count("run_info", "peft_config", "r"),
        learning_rate=_rate(fields),
        n=fields.count(OWN, "n"),
        stderr=None if error is None else fields.number(OWN, "stderr"),
        loss=last.number("train loss"),
        parameters=train.count("num_trainable_params"),
        train_seconds=train.number("train_time"),
        peak_bytes=train.count("accelerator_memory_max" if train.get("cuda_memory_max") is None else "cuda_memory_max"),
    )


def _rate(fields: Fields) -> float | None:
    place = ("run_info", "train_config", "optimizer_kwargs", "lr")
    return None if fields.get(*place) is None else fields.number(*place)
