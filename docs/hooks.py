"""What mkdocs reads from the code: a page for each room, the plug-ins, the commands, and two pages of the checkout."""

import ast
import importlib
import re
import sys
from pathlib import Path

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
    for name in ("CONTRIBUTING", "CHANGELOG"):
        text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
        made[f"project/{name.lower()}.md"] = re.sub(r"\]\(docs/", "](../", text)
    return made


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


def on_config(config):
    """Put the rooms' pages under API in the navigation."""
    reference = next(section["Reference"] for section in config.nav if "Reference" in section)
    next(section for section in reference if "API" in section)["API"] = [f"reference/api/{room}.md" for room in rooms()]
    return config


def on_files(files, config):
    """Add the pages that are made."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Fill in the lists that a page asks for."""
    lists = (("make targets", targets), ("commands", commands), ("modules", modules), ("lora fields", lora))
    for mark, made in lists:
        markdown = markdown.replace(f"<!-- {mark} -->", made())
    return re.sub(r"<!-- plug-ins: (\w+) -->", lambda mark: plugins(mark[1]), markdown)
