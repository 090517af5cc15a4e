"""Records and samples as the scoring stage writes them, all answers invented; and the command on them."""

import copy

import numpy as np
from commands import pissa

from pissa_repro.runtime.record import read_json, write_json, write_lines

ITEMS = 200
SHARE = {"lora": 0.40, "pissa": 0.60}  # of right answers
ORIGIN = {
    "git": {"commit": "c0ffee" + "0" * 34, "dirty": False},
    "versions": {"python": "3.11.9", "torch": "2.13.0", "vllm": "0.32.0", "lm-eval": "0.4.13"},
    "hardware": {"processor": "a processor", "cores": 2},
}


def answers(method, seed):
    """Scores (items,): item i is right if its difficulty is below the method's share, with noise by seed."""
    rng = np.random.default_rng([seed, *method.encode()])
    return (np.arange(ITEMS) / ITEMS + rng.normal(0, 0.05, ITEMS) < SHARE[method]).astype(int)


def samples(scores, **metrics):
    """The lines of a samples file; what is generated says whether the answer is right."""
    return [
        {
            "id": i,
            "prompt": f"Ann has {i} apples and buys 3 more. How many apples are there?",
            "target": f"{i} + 3 = {i + 3}\n#### {i + 3}",
            "generated": f" {i} + 3 = {i + 3 if score else i + 4}\nThe answer is: {i + 3 if score else i + 4}",
            "paper": score,
            **{name: np.asarray(values)[i].item() for name, values in metrics.items()},
        }
        for i, score in enumerate(np.asarray(scores).tolist())
    ]


def write(folder, spec, rows, metrics=("paper",), task="gsm-mini", **changes):
    """A cell's score as the stage leaves it: the record and the samples. Returns the record's path."""
    values = {name: [row[name] for row in rows] for name in metrics}
    record = {
        "spec": spec,
        "base": {"name": "embedded", "commit": None, "fingerprint": "f" * 64},
        "data_sha256": "d" * 64,
        "metrics": {
            name: {"value": float(np.mean(v)), "stderr": float(np.std(v, ddof=1) / len(v) ** 0.5), "n": len(v)}
            for name, v in values.items()
        },
        "checks": {"training_effect": 0.5, "merge_error": 1e-7},
        "generated": {"seconds": 1.0, "tokens": 9, "runs": [ORIGIN | {"prompts_cut": 0}]},
        "provenance": ORIGIN,
    }
    path = folder / "eval" / f"{task}.json"
    write_json(path, copy.deepcopy(record) | changes)
    write_lines(folder / "eval" / f"{task}.samples.jsonl", rows)
    return path


def at(path, seed):
    """The folder of one seed."""
    return path.with_name(f"{path.name}-s{seed}")


def change(path, seed, task="gsm-mini", **changes):
    """Change the record of one seed: values at dotted places, __ for a dot."""
    record_path = at(path, seed) / "eval" / f"{task}.json"
    record = read_json(record_path)
    for place, value in changes.items():
        *way, last = place.split("__")
        target = record
        for key in way:
            target = target[key]
        target[last] = value
    write_json(record_path, record)


def run(capsys, *argv):
    """What the command prints; it fits 100 columns apart from paths, and holds nothing that is missing."""
    pissa("compare", *argv)
    text = capsys.readouterr().out
    assert all(len(line) <= 100 or " " not in line.strip() or "/cells/" in line for line in text.splitlines())
    assert not {"None", "nan", "inf"} & set(text.replace(",", " ").split())
    assert "\x1b" not in text
    return text


def long_texts(cells, a, b):
    """Give item 150 of seed 0 these texts; right in A, wrong in B."""
    for method, text, score in (("pissa", a, 1), ("lora", b, 0)):
        rows = samples(answers(method, 0))
        rows[150] |= {"generated": text, "paper": score}
        write(at(cells[method], 0), read_json(at(cells[method], 0) / "eval" / "gsm-mini.json")["spec"], rows)
    ids = np.flatnonzero(answers("pissa", 0) > answers("lora", 0)).tolist()
    return [at(cells["pissa"], 0), at(cells["lora"], 0), "--examples", str(len(ids) + 1)]


def run_full(capsys, argv):
    pissa("compare", *argv, "--full")
    return capsys.readouterr().out
