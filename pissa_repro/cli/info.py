"""Say what a folder is, which base it needs, how to load it.

    pissa info LORA
    pissa info START --json

DIR is an adapter of PEFT, a cell, its trained/, a folder of factors, a residual with its start, or a model. Ranks,
dtypes and sizes, vLLM's --max-lora-rank and the lines of code are printed. --base compares a model folder, or the
record of a fetched model, with what DIR needs: names, shapes, revision, and the hash of the weights where DIR knows
it; a wrong one is an error. Headers and JSON files are read, no tensor and no model.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pissa_repro.runtime.errors import UserError

if TYPE_CHECKING:
    from pissa_repro.adapters.described import Found


def info(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder.")],
    base: Annotated[Path | None, typer.Option(help="A model folder: is it the base that DIR needs?")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, for scripts.")] = False,
) -> None:
    """A few lines, or JSON."""
    from pissa_repro.adapters.info import examine  # with torch, which --help does not need

    found = examine(folder, base)
    print(json.dumps(_data(found), indent=1) if as_json else "\n".join(_lines(found)))
    if found.given and found.given.right is False:
        raise UserError(f"--base {base}: is not the base of {folder}: {found.given.said}.")


def _data(found: "Found") -> dict[str, Any]:
    """For machines; given_base: right is null where it fits and nothing says which weights are meant."""
    return {
        "folder": str(found.path), "kind": found.kind, "what": found.what, **found.facts,
        "base": found.base and found.base._asdict(), "loading": found.loading, "notes": found.notes,
        "given_base": found.given and found.given._asdict(),
    }  # fmt: skip


def _lines(found: "Found") -> list[str]:
    """For people."""
    facts, said = found.facts, [f"{found.path}: {found.what}"]
    if found.base:
        of = f", revision {found.base.revision}" if found.base.revision else ""
        known = f", SHA-256 {found.base.fingerprint[:12]}" if found.base.fingerprint else ""
        said.append(f"base: {found.base.name or 'not named'}{of}{known} ({found.base.form})")
    if "ranks" in facts:
        ranks, scalings = (", ".join(f"{one:g}" for one in facts[key]) for key in ("ranks", "scalings"))
        said.append(f"rank {ranks}; scaling {scalings}; {facts['modules']} modules: {', '.join(facts['types'])}")
    said.append(f"{facts['parameters']:,} parameters, {facts['bytes']:,} bytes, {', '.join(facts['dtypes'])}")
    if "vllm" in facts:
        limit, why = facts["vllm"].values()
        said.append(f"vLLM: {f'--max-lora-rank {limit}' if limit else why}")
    said += [f"note: {note}" for note in found.notes]
    if found.given:
        word = {True: "right", False: "WRONG", None: "it fits"}[found.given.right]
        said.append(f"the given base: {word}: {found.given.said}")
    code = [line for line in found.loading.splitlines() if line and not line.startswith(("```", "## "))]
    return [*said, *([""] if code else []), *(f"    {line}" for line in code)]
