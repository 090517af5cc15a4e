"""What invented results at the published values give: the tables of docs/reproduction/verdicts.md.

`python tests/paper/synthetic.py` from the root writes them there anew, with the root on the path.
"""

import copy
from collections.abc import Iterator

from verdicts import PAPER, at, cell_of

from pissa_repro import methods
from pissa_repro.paper import published, verdict
from pissa_repro.paper.words import Ours
from pissa_repro.plan.config import ROOT, load

DOC = ROOT / "docs/reproduction/verdicts.md"
BEGIN, END = "<!-- {name}: made by tests/paper/synthetic.py -->", "<!-- end of {name} -->"
LOCAL = {"hub": None, "revision": None, "file": None, "gated": None}
VARIED = (  # what is changed in the config: words, a section, a name in it, and its keys; all but the first with T = 1
    ("as shipped, T = 5", None),
    ("T = 1", ("tasks", "gsm8k", {})),
    ("trained in the other dtype", ("train", None, {})),
    ("scored by transformers", ("tasks", "gsm8k", {"backend": "hf"})),
    ("scored in float32", ("tasks", "gsm8k", {"dtype": "float32"})),
    ("512 new tokens", ("tasks", "gsm8k", {"max_new_tokens": 512})),
    ("2048 new tokens", ("tasks", "gsm8k", {"max_new_tokens": 2048})),
    ("model from a folder", ("models", "llama-2-7b", LOCAL | {"path": "models/mine"})),
    ("test rows from a file", ("datasets", "gsm8k-test", LOCAL | {"path": "rows.jsonl"})),
    ("the hub's train rows", ("datasets", "gsm8k-test", {"file": "main/train-00000-of-00001.parquet"})),
)
METHODS = (("full", "none"), ("lora", "none"), ("pissa", "none"), ("lora", "nf4"), ("loftq", "nf4"), ("pissa", "nf4"))


def base():
    """The paper's grid with all benchmarks, training data for each, and no rank by model."""
    config = load(*(ROOT / path for path in (*PAPER, "config/benchmarks.yaml")))
    config["overrides"] = [override for override in config["overrides"] if "rank" not in override["set"]]
    metamath = config["datasets"]["metamath-100k"]
    for name in (published.CODE, published.CHAT):
        config["datasets"][name] = {k: v for k, v in metamath.items() if k != "rows"} | {
            "paper": name,
            "hub": "any/data",
        }
    config["methods"] |= {f"{name}-dora": {"init": name, "lora": {"use_dora": True}} for name in ("lora", "pissa")}
    return config


def changed(config, change):
    """The config with one of the changes of VARIED."""
    if change is None:
        return config
    section, name, keys = change
    config = at(config, 1)
    if name is None:  # bfloat16 where the paper has float32, and the other way round
        config["train"]["dtype"] = "bfloat16"
        for override in config["overrides"]:
            override["set"] = {"dtype": "float32"}
        return config
    entry = config[section][name] | keys
    config[section][name] = {key: value for key, value in entry.items() if value is not None}
    return config


def judge(config, entry):
    """The verdict on a result of ours that is the published value."""
    data = published.TRAINED_ON[entry.benchmark]
    config["train"]["steps"] = published.STEPS.get(data)
    changes = {"datasets": data, "models": names(config)[entry.model], "ranks": entry.rank or 128}
    sweep, cell = cell_of(config, cells={"method": entry.method.replace("+", "-"), "quant": entry.quant}, **changes)
    task = entry.benchmark.replace("_", "-")
    n = published.ITEMS[entry.benchmark][0]
    return verdict.compare(sweep, cell, task, Ours(entry.mean, None, n))


def names(config):
    """Our name of each of the paper's models that the config has."""
    return {model["paper"]: name for name, model in config["models"].items() if "paper" in model}


def settings() -> Iterator[list[str]]:
    """Each change of one setting, at the published GSM8K of LLaMA-2-7B."""
    config = base()
    for words, change in VARIED:
        for method, quant in METHODS:
            entry = published.lookup("llama-2-7b", method, quant, 128 if methods.has_factors(method) else 0, "gsm8k")[0]
            yield [words, method, quant, *_found(judge(changed(config, change), entry), entry)]


def values() -> Iterator[list[str]]:
    """Every published value of the models of the config, in the published setting where it is printed."""
    config = base()
    for entry in published.entries():
        if entry.model in names(config):
            here = published.lookup(entry.model, entry.method, entry.quant, entry.rank or 0, entry.benchmark)
            now = at(config, t) if (t := here[0].alternations) else copy.deepcopy(config)
            rank = "none" if entry.rank == 0 else "not printed" if entry.rank is None else str(entry.rank)
            place = [entry.model, entry.method, entry.quant, rank, entry.benchmark, f"{entry.mean:g}"]
            yield [*place, *_found(judge(now, entry), entry)]


def _found(found, entry) -> tuple[str, str]:
    """The word, and of the note what is not about where the number stands."""
    source = verdict.source(published.lookup(entry.model, entry.method, entry.quant, entry.rank or 0, entry.benchmark))
    assert source in found.note
    parts = found.note.replace(source, "").split("; ")
    return found.verdict, "; ".join(part for part in parts if part and not part.startswith("one seed"))


TABLES = {
    "settings": (settings, ("setting", "method", "base", "verdict", "why")),
    "values": (values, ("model", "method", "base", "rank", "benchmark", "published", "verdict", "why")),
}


def written(text: str) -> str:
    """The page with both tables made anew."""
    for name, (rows, head) in TABLES.items():
        begin, end = BEGIN.format(name=name), END.format(name=name)
        before, rest = text.split(begin)
        lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows())]
        text = "\n".join([before + begin, "", *lines, "", end + rest.split(end)[1]])
    return text


if __name__ == "__main__":
    DOC.write_text(written(DOC.read_text(encoding="utf-8")), encoding="utf-8")
