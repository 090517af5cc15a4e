"""What a task file's scores are measured in, read from the task files themselves."""

import subprocess
import sys

import pytest

from pissa_repro import tasks
from pissa_repro.results.measure import measure_of


@pytest.mark.parametrize(
    ("file", "symbol", "points", "scale", "higher", "second"),
    [
        ("gsm8k", "%", "points", 100, True, "strict, %"),
        ("math", "%", "points", 100, True, "math_verify, %"),
        ("humaneval", "%", "points", 100, True, "strict, %"),
        ("mbpp", "%", "points", 100, True, "strict, %"),
        ("commonsense", "%", "points", 100, True, "strict, %"),
        ("mt_bench", "points of 10", "points of 10", 1, True, "turn_1, points of 10"),
        ("perplexity", "nats per token", "nats per token", 1, False, "perplexity"),
    ],
)
def test_measures_of_the_task_files(file, symbol, points, scale, higher, second):
    found = measure_of(file)
    assert (found.symbol, found.points, found.scale, found.higher_is_better) == (symbol, points, scale, higher)
    assert found.second_head == second


def test_a_metric_that_is_no_mean_over_items_is_not_in_the_tasks_unit():
    found = measure_of("perplexity")
    assert (found.second_in_unit, found.second_scale, found.digits, found.second_digits) == (False, 1, 4, 2)


def test_better_is_lower_where_the_task_file_says_so():
    assert measure_of("gsm8k").better(0.5, 0.4) and not measure_of("gsm8k").better(0.4, 0.5)
    assert measure_of("perplexity").better(0.4, 0.5) and not measure_of("perplexity").better(0.5, 0.4)
    assert not measure_of("perplexity").better(0.5, 0.5)


@pytest.mark.parametrize("file", tasks.names())
def test_every_task_file_says_what_tables_need(file):
    """A unit; metrics in order with their aggregation and direction; the paper's metric a mean over items."""
    metrics = tasks.metrics(file)
    assert tasks.metadata(file)["unit"]
    assert metrics["paper"]["aggregation"] == "mean"
    assert {type(metric["higher_is_better"]) for metric in metrics.values()} == {bool}
    assert len({metric["higher_is_better"] for metric in metrics.values()}) == 1


def test_no_torch_and_no_lm_eval():
    code = "import sys; from pissa_repro.results.measure import measure_of; measure_of('mt_bench'); "
    code += "assert not {'torch', 'lm_eval'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
