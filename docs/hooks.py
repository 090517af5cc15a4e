"""What mkdocs reads from the code: a page a room, method and notebook, the plug-ins, the commands, two pages more."""

import ast
import csv
import importlib
import json
import re
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from statistics import mean, stdev

import yaml
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the checkout is the package, installed or not
PACKAGE = ROOT / "pissa_repro"


def rooms() -> list[str]:
    """The package's sub-packages."""
    return sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def pages() -> dict[str, str]:
    """Pages that are no files under docs/: path in the site -> Markdown."""
    made = {f"reference/api/{room}.md": f"# {room}\n\n::: pissa_repro.{room}\n" for room in rooms()}
    made |= {f"methods/{name}.md": method_page(name) for name in method_names()}
    made |= {f"notebooks/{path.stem}.md": notebook(path) for path in notebooks()}
    for name in ("CONTRIBUTING", "CHANGELOG"):
        text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
        made[f"project/{name.lower()}.md"] = re.sub(r"\]\(docs/", "](../", text)
    return made


def notebooks() -> list[Path]:
    """The notebooks, whose pages are made of their cells."""
    return sorted(ROOT.glob("docs/notebooks/*.ipynb"))


def notebook(path: Path) -> str:
    """The cells of a notebook as a page, with a link to the file."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    title, *rest = [f"```python\n{text}\n```" if kind == "code" else text for kind, text in sources]
    about = f"This is a notebook, [{path.name}]({path.name}): open it in `docs/notebooks` of a checkout. Tests run it."
    return "\n\n".join([title, about, *rest]) + "\n"


def targets() -> str:
    """The Makefile's targets with what they say of themselves, as a table."""
    lines = re.findall(r"^([a-z-]+):.*## (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return "\n".join(
        ["| target | what it does |", "|---|---|", *(f"| `make {name}` | {text} |" for name, text in lines)]
    )


def modules() -> str:
    """The docstring of every stage, which says how to run it."""
    sections = []
    for path in sorted(PACKAGE.glob("stages/*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            sections.append(f"### {name}\n\n```text\n{ast.get_docstring(tree)}\n```\n")
    return "\n".join(sections)


def commands() -> str:
    """The docstring of every command of `pissa`, which is its help."""
    files = [path for path in sorted((PACKAGE / "cli").glob("[!_]*.py")) if path.stem != "main"]
    texts = {path.stem.replace("_", "-"): ast.get_docstring(ast.parse(path.read_text("utf-8"))) for path in files}
    return "\n".join(f"### pissa {name}\n\n```text\n{text}\n```\n" for name, text in texts.items())


def plugins(room: str) -> str:
    """The plug-ins of a room with the first lines of their files, as a table."""
    lines = importlib.import_module(f"pissa_repro.{room}").PLUGINS.lines()
    return "\n".join(
        ["| file | what it is |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in lines.items())]
    )


def lora() -> str:
    """The fields of LoraConfig with what each does, or why it may not be set, as tables."""
    fields = importlib.import_module("pissa_repro.plan.lora")
    reasons: dict[str, list[str]] = {}
    for name, reason in fields.REFUSED.items():
        reasons.setdefault(reason, []).append(f"`{name}`")
    allowed = [
        f"| `{name}` | {field.wanted} | {field.what} | {f'`{field.replaces}`' if field.replaces else ''} |"
        for name, field in fields.ALLOWED.items()
    ]
    refused = [f"| {', '.join(names)} | {reason} |" for reason, names in reasons.items()]
    first = ["| may be set | its value | what it does here | in place of `train:` |", "|---|---|---|---|", *allowed]
    return "\n".join([*first, "", "| is refused | why |", "|---|---|", *refused])


def method_names() -> tuple[str, ...]:
    """The methods."""
    return importlib.import_module("pissa_repro.methods").names()


def method_page(name: str) -> str:
    """What a method's file says, what its start is made of, and the rows of the tables in docs/reproduction."""
    method, said = importlib.import_module("pissa_repro.methods").load(name), described()
    first, *rest = said.paragraphs(method.__doc__)
    links = [f"[arXiv {number}](https://arxiv.org/abs/{number})" for number in said.papers(method)]
    start = said.paragraphs(method.start.__doc__)[0] if method.FACTORS else None
    sections = [
        f"# {method.DISPLAY}",
        prose(first),
        f"```text\n{start}\n```" if start else "",
        *(f"## Deviations\n\n{prose(deviations(text))}" if deviations(text) else prose(text) for text in rest),
        "## Facts",
        table(("about", "what"), said.facts(name).items()),
        table(("option", "default", "acts on"), said.options(name)) if said.options(name) else "",
        "## Our rows",
        results(name) or "None of its cells is in the tables of this site yet.",
        costs(name),
        f"File: `pissa_repro/methods/{name}.py`. " + ("Source: " + ", ".join(links) + "." if links else ""),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def described():
    """The module that puts a method into words."""
    return importlib.import_module("pissa_repro.starts.described")


def deviations(paragraph: str) -> str:
    """What a paragraph of a docstring says of known deviations; nothing of another paragraph."""
    text = paragraph.removeprefix("Deviations: ")
    return text[:1].upper() + text[1:] if text != paragraph else ""


def prose(text: str) -> str:
    """A docstring's words with what Markdown would read as its own; code in backticks stays."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else escaped(part) for part in parts)


def escaped(text: str) -> str:
    """Words without Markdown."""
    return re.sub(r"([*_\[\]])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;"))


def table(heads, rows) -> str:
    """Rows as a table."""
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(prose(str(value)) for value in row)} |" for row in rows)])


def results(name: str) -> str:
    """The cells of a method in docs/reproduction, over their seeds, with their task's first metric."""
    cells, called = defaultdict(dict), entries(name)
    for folder, row in reproduced("scores.csv"):
        if row["method"] in called:
            columns = ("display", "quant", "rank", "learning_rate", "task", "trainable_parameters")
            key = (row[column] for column in columns)
            cells[folder, *key].setdefault(row["seed"], row)
    rows = [
        (
            *key,
            *(spread([float(row[column]) for row in seeds.values()]) for column in ("value", "final_loss")),
            len(seeds),
        )
        for key, seeds in cells.items()
    ]
    heads = ("table", "cell", "base", "rank", "rate", "task", "trained parameters", "score", "final loss", "seeds")
    return table(heads, rows) if rows else ""


def costs(name: str) -> str:
    """What a method costs in the tables `baselines` that are kept in docs/reproduction; nothing where it is in none."""
    heads = {  # of columns in these tables
        "method": "cell", "quant": "base", "start_seconds": "start, s", "statistics_seconds": "statistics, s",
        "train_seconds_mean": "training, s", "step_to_lora": "step, times LoRA's", "peak_memory_gib": "memory, GiB",
        "update": "update", "forgotten": "forgotten, nats per token",
    }  # fmt: skip
    kept = [(folder, row) for folder, row in reproduced("baselines.csv") if row["config_method"] in entries(name)]
    rows = [(folder, *(short(row[column]) for column in heads), share(row)) for folder, row in kept]
    return table(("table", *heads.values(), "start and statistics, % of the training"), rows) if rows else ""


def entries(name: str) -> set[str]:
    """What the shipped configs call a method, and what they make of it with other options: `lora`, `dora`, `rslora`."""
    return {name, *(entry for entry, init in named(ROOT) if init == name)}


@cache
def named(root: Path) -> list[tuple[str, str]]:
    """The methods that the shipped configs name, with their files: read once, as YAML is slow to parse."""
    configs = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in (root / "config").glob("*.yaml")]
    return [(entry, given["init"]) for config in configs for entry, given in config.get("methods", {}).items()]


def share(row: dict[str, str]) -> str:
    """What is done before a training, in percent of its time; nothing for a method that has no start."""
    before = [float(row[column]) for column in ("start_seconds", "statistics_seconds") if row[column]]
    return f"{100 * sum(before) / float(row['train_seconds_mean']):.1f}" if before else ""


def short(value: str) -> str:
    """A number of a table with four digits; words as they are."""
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value


def reproduced(file: str):
    """The rows of every file of that name in a folder of docs/reproduction, with the folder."""
    for path in sorted((ROOT / "docs/reproduction").glob(f"*/{file}")):
        with path.open(encoding="utf-8", newline="") as opened:
            yield from ((path.parent.name, row) for row in csv.DictReader(opened))


def spread(values: list[float]) -> str:
    """Their mean, and their standard deviation where there are several."""
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def method_list() -> str:
    """All methods with links to their pages."""
    room, rows = importlib.import_module("pissa_repro.methods"), []
    for name in method_names():
        method = room.load(name)
        line = prose(described().paragraphs(method.__doc__)[0])
        rows.append(f"| [{method.DISPLAY}]({name}.md) | `{name}` | {method.QUANTIZED_DISPLAY} | {line} |")
    return "\n".join(["| method | in a config | on a quantized base | what it is |", "|---|---|---|---|", *rows])


def on_config(config):
    """Put the rooms' pages under API in the navigation, and the methods' under Methods."""
    sections = {name: section for entry in config.nav for name, section in entry.items()}
    next(part for part in sections["Reference"] if "API" in part)["API"] = [
        f"reference/api/{room}.md" for room in rooms()
    ]
    sections["Methods"].extend(f"methods/{name}.md" for name in method_names())
    return config


def on_files(files, config):
    """Add the pages that are made."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Fill in the lists that a page asks for."""
    lists = (("make targets", targets), ("commands", commands), ("modules", modules), ("lora fields", lora),
             ("methods", method_list))  # fmt: skip
    for mark, made in lists:
        markdown = markdown.replace(f"<!-- {mark} -->", made())
    return re.sub(r"<!-- plug-ins: (\w+) -->", lambda mark: plugins(mark[1]), markdown)
