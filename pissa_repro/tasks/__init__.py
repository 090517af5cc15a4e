"""What the lm-eval task files of the project say of themselves. Imports no lm-eval: Snakemake reads this."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

TASKS = Path(__file__).parent
METRIC = "paper"  # the answer rule of the released code


class _Loader(yaml.SafeLoader):
    """Reads a task file without running its functions: they stay names."""


def _as_text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_Loader.add_constructor("!function", _as_text)


def names() -> list[str]:
    """The task files that exist, without their ending."""
    return sorted(path.stem for path in TASKS.glob("*.yaml"))


@cache
def _read(name: str) -> dict[str, Any]:
    return yaml.load((TASKS / f"{name}.yaml").read_text(encoding="utf-8"), _Loader)


def metadata(name: str) -> dict[str, Any]:
    """`metadata` of a task file: version, the dataset `fields` that it reads, and the `unit` of its scores."""
    return _read(name)["metadata"]


def metrics(name: str) -> dict[str, dict[str, Any]]:
    """The metrics of a task file in its order: {name: {"aggregation", "higher_is_better"}}."""
    return {metric["metric"]: metric for metric in _read(name)["metric_list"]}


def module(name: str) -> str:
    """The Python file beside a task file that holds its answer rule."""
    return _read(name)["process_results"].partition(".")[0]
