"""The part of a caption that says what the words on differences hold for: the noise floor, Holm's correction."""

from pissa_repro.report.tables import family
from pissa_repro.report.tables.table import Row

CAPTION = {
    "items only": "With one seed, the words on differences hold for these items and this seed only.",
    "noise": "Noise floor: in 95 of 100 cases two runs of one setting lie at most {score} {points} apart{loss} "
    "(1.96 √2 s over seeds, s pooled over {rows} rows){more}.",
    "no noise": "The noise floor is not measured: that takes two seeds.",
    "holm": "After Holm: the words once more with all {count} differences of the table, its parts taken together, at a "
    "family-wise error of 5 %.",
    "equivalence": "Equivalence (within 1, 2 or 3 points) is said of each row by itself.",
}
MORE_NOISE = {  # of the noise floor, where there are such records
    "order": "; where a seed changes the order of the data and no start, {value}",
    "back_ends": "; between back-ends at most {value} were seen",
}


def uncertainty(rows: list[Row]) -> list[str]:
    """What the words on differences hold for: the noise floor, the correction, and what has no word."""
    floor, count, parts = rows[0]["floor"], family.size(rows, "diff_p"), []
    if count and rows[0]["seeds"] == 1:
        parts.append(CAPTION["items only"])
    parts.append(_noise(rows[0]) if floor.score is not None else CAPTION["no noise"])
    if count > 1:
        parts.append(CAPTION["holm"].format(count=count))
    return parts + ([CAPTION["equivalence"]] if any(row.get("diff_equivalent") for row in rows) else [])


def _noise(row: Row) -> str:
    """The noise floor in words. Its unit is the score's."""
    floor, shown = row["floor"], row["measure"]
    values = {"order": floor.order, "back_ends": floor.back_ends}
    more = [
        words.format(value=f"{values[kind]:.{shown.digits}f} {shown.points}")
        for kind, words in MORE_NOISE.items()
        if values[kind] is not None
    ]
    loss = f", and {floor.loss:.4f} of final loss" if floor.loss is not None else ""
    score = f"{floor.score:.{shown.digits}f}"
    return CAPTION["noise"].format(score=score, points=shown.points, loss=loss, rows=floor.rows, more="".join(more))
