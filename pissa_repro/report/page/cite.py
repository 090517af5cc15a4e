"""How to cite this project and the paper, as BibTeX, from CITATION.cff."""

from typing import Any

import yaml

from pissa_repro.plan.config import ROOT


def bibtex() -> str:
    """An entry for the project, then one for each of its references."""
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    return "\n\n".join(_entry(one) for one in (told, *told["references"]))


def _entry(one: dict[str, Any]) -> str:
    people = [who.get("name") or f"{who['family-names']}, {who['given-names']}" for who in one["authors"]]
    known = [each["value"].removeprefix("arXiv:") for each in one.get("identifiers", ())]
    fields = {
        "title": one["title"],
        "author": " and ".join(f"{{{who}}}" if "," not in who else who for who in people),
        "booktitle": one.get("collection-title"),
        "year": one.get("year"),
        "version": one.get("version"),
        "archiveprefix": "arXiv" if known else None,
        "eprint": known[0] if known else None,
    }
    lines = [f"  {key} = {{{value}}}," for key, value in fields.items() if value is not None]
    kind = "inproceedings" if "collection-title" in one else "misc"
    name = f"{one['authors'][0].get('family-names', one['title']).lower()}{one.get('year', '')}"
    return "\n".join([f"@{kind}{{{name},", *lines, "}"])
