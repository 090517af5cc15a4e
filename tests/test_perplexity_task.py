"""Perplexity on a text: its chunks, the numbers by hand, and the whole path through lm-eval."""

import gzip
import json
import math
from pathlib import Path

import pytest

from pissa_repro.runtime.errors import UserError
from pissa_repro.tasks.perplexity import CHUNK, chunks, corpus, dataset, process_results

TASKS = Path(__file__).resolve().parent.parent / "pissa_repro" / "tasks"


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("", []),
        ("\n", [1]),
        ("one line", [8]),
        ("a" * CHUNK, [CHUNK]),
        ("a" * CHUNK + "\n", [CHUNK, 1]),
        ("a" * (CHUNK - 1) + "\n", [CHUNK]),
        ("a" * (2 * CHUNK + 5), [CHUNK, CHUNK, 5]),
        # a line that does not fit starts the next chunk; it is not cut to fill this one
        ("a" * 5000 + "\n" + "b" * 5000 + "\n", [5001, 5001]),
        ("a" * 5000 + "\r\n" + "b" * 3000 + "\r\n" + "c\r\n", [8004 + 3]),
        ("ab\n" * 3000, [8190, 810]),
        # what is left of a long line shares its chunk with the lines after it
        ("a\n" + "b" * (CHUNK + 3) + "\nc\n", [2, CHUNK, 6]),
        ("\n" * (CHUNK + 1), [CHUNK, 1]),
    ],
)
def test_chunks(text, lengths):
    pieces = list(chunks(text))
    assert [len(piece) for piece in pieces] == lengths
    assert "".join(pieces) == text


def test_numbers_by_hand():
    """Chunks of 2 and 6 tokens, each token of the first with probability 1/2, of the second with 1/8."""
    found = [
        process_results({"text": "x"}, [{"loglikelihood": 2 * math.log(1 / 2), "tokens": 2}]),
        process_results({"text": "y"}, [{"loglikelihood": 6 * math.log(1 / 8), "tokens": 6}]),
    ]
    assert [one["paper"] for one in found] == pytest.approx([math.log(2), math.log(8)])
    # (2 ln 2 + 6 ln 8) / 8 = (2 + 18) / 8 ln 2, so the perplexity is 2^2.5; the chunks' mean is 2 ln 2
    assert corpus([one["perplexity"] for one in found]) == pytest.approx(2**2.5)


@pytest.mark.parametrize(("nats", "tokens"), [(math.nan, 5), (-math.inf, 5), (math.inf, 5), (0.0, 0)])
def test_no_number_is_no_result(nats, tokens):
    with pytest.raises(UserError, match="log-likelihood .* for the chunk 'some text'"):
        process_results({"text": "some text"}, [{"loglikelihood": nats, "tokens": tokens}])


def rows_file(folder, texts):
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def test_rows_without_text_stop_the_run(tmp_path):
    with pytest.raises(UserError, match="no text in"):
        dataset(str(rows_file(tmp_path, ["", ""])))


def test_every_rows_text_is_cut_on_its_own(tmp_path):
    path = rows_file(tmp_path, ["one\n", "", "{{text}} " + "b" * CHUNK])
    assert [row["text"] for row in dataset(str(path))["test"]] == ["one\n", "{{text}} " + "b" * (CHUNK - 9), "b" * 9]


def score(path, lm):
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"path": str(path)})
    return simple_evaluate(lm, tasks=["perplexity"], task_manager=manager, log_samples=True, bootstrap_iters=1)


def characters(chances):
    """A language model that gives every character of a chunk the chance that the chunk's first one has."""
    from lm_eval.api.model import LM

    class Characters(LM):
        def loglikelihood_rolling(self, requests, disable_tqdm=False):
            texts = [request.args[0] for request in requests]
            return [{"loglikelihood": len(t) * math.log(chances[t[0]]), "tokens": len(t)} for t in texts]

        def loglikelihood(self, requests, disable_tqdm=False):
            raise NotImplementedError

        generate_until = loglikelihood

    return Characters()


def test_through_lm_eval(tmp_path):
    """Chunks of 8000, 8000 and 4000 characters, of chance 1/2, 1/8 and 1/2: mean 5/3 ln 2, perplexity 2^1.8."""
    text = "a" * 7999 + "\n" + "b" * 7999 + "\n" + "a" * 4000
    found = score(rows_file(tmp_path, [text]), characters({"a": 1 / 2, "b": 1 / 8}))
    results, samples = found["results"]["perplexity"], found["samples"]["perplexity"]
    assert results["paper,none"] == pytest.approx(5 / 3 * math.log(2))
    # the standard deviation of 1, 3, 1 (n - 1) is sqrt(4/3); over the root of 3 chunks
    assert results["paper_stderr,none"] == pytest.approx(2 / 3 * math.log(2))
    assert results["perplexity,none"] == pytest.approx(2 ** ((1 * 12000 + 3 * 8000) / 20000))
    assert results["perplexity_stderr,none"] == "N/A"
    assert [sample["target"] for sample in samples] == list(chunks(text))
    assert [sample["perplexity"][1] for sample in samples] == [8000, 8000, 4000]


def test_our_task_files_load_and_no_stock_task_has_their_names():
    from lm_eval.tasks import TaskManager

    names = {"math", "commonsense", "perplexity"}
    assert names <= set(TaskManager(include_path=str(TASKS), include_defaults=False).all_tasks)
    assert not names & set(TaskManager().all_tasks)


def test_a_real_text_is_whole_in_its_chunks(shared_data):
    with gzip.open(shared_data / "text_small" / "wikitext2_test.txt.gz", "rt", encoding="utf-8") as file:
        text = file.read()
    pieces = list(chunks(text))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= CHUNK and piece.endswith("\n") for piece in pieces)
    assert len(pieces) == 161
