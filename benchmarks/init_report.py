"""What benchmarks/init.py prints: the table, the costs of ours, and the floors."""

import statistics
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

Line = dict[str, Any]
FLOORS = {(2048, 2048): 10, (4096, 4096): 20}  # times faster than full SVDs, where that is asked for


def table(lines: Sequence[Line]) -> None:
    """Times and accuracies of one shape, and what ours reach of the machine's speed."""
    rows, columns = lines[0]["shape"]
    print(f"\n{rows} x {columns}, rank {lines[0]['rank']}, {lines[0]['device']}: seconds and accuracy")
    print(f"{'':22s}{'median':>9s}{'min':>9s}{'max':>9s} runs  accuracy")
    for line in lines:
        if line["seconds_median"] is None:
            print(f"{line['name']:22s}{'does not run here: ' + line['reason']}")
            continue
        times = "".join(f"{line[f'seconds_{key}']:9.4f}" for key in ("median", "min", "max"))
        print(f"{line['name']:22s}{times}{line['runs']:5d}  {accuracy(line)}")
    _costs([line for line in lines if line.get("operations") is not None])


def accuracy(line: Line) -> str:
    """The line's accuracy in words."""
    words = {
        "frobenius_excess": "excess {:.1e}",
        "values_error": "singular values off by {:.1e}",
        "error_reduction": "error reduction {:.2f} %",
        "nuclear_difference": "off by {:.1e} from float64",
        "identical": "same bits as bitsandbytes: {}",
    }
    return ", ".join(text.format(line[key]) for key, text in words.items() if line.get(key) is not None)


def _costs(ours: Sequence[Line]) -> None:
    peak, copy = ours[0]["product_peak"], ours[0]["copy_peak"]
    print(f"  this machine: {peak / 1e9:.0f} GFLOP/s in a float32 product, {copy / 1e9:.1f} GB/s in a copy; of that")
    for line in ours:
        print(
            f"  {line['name']:20s}{line['operations'] / 1e9:9.2f} GFLOP {100 * line['product_share']:4.0f} %"
            f"{line['bytes'] / 1e9:9.2f} GB {100 * line['copy_share']:4.0f} %"
        )


class Floor(NamedTuple):
    """What is claimed, the median with its spread, the limit (None: none at this size), and which side is good."""

    claim: str
    values: tuple[float, float, float]  # median, least, most
    limit: float | None
    above: bool

    def __str__(self) -> str:
        median, least, most = self.values
        spread = f"{median:.3g}" + ("" if least == most else f" ({least:.3g} to {most:.3g})")
        limit = "" if self.limit is None else f"{'>=' if self.above else '<='} {self.limit:g}"
        return f"  {self.claim:62s}{spread:26s}{limit:9s}{self.verdict()}"

    def verdict(self) -> str:
        """PASS, or what the median is short by."""
        if self.limit is None:
            return "no floor at this size"
        short = self.limit / self.values[0] if self.above else self.values[0] / self.limit
        return "PASS" if short <= 1 else f"short by a factor of {short:.2f}"


def floors(lines: Sequence[Line]) -> list[Floor]:
    """The floors of one shape. Ratios of times are over all pairs of runs."""
    by = {line["name"]: line for line in lines}
    shape = tuple(lines[0]["shape"])
    full, two, exact = (FLOORS[shape], 2, 2.5) if shape in FLOORS else (None, None, None)
    return [
        _faster(by, "pissa-fast", "linalg.svd", full),
        _faster(by, "pissa-fast", "svd_lowrank-16", two),
        _at_most("pissa-fast / svd_lowrank-16, Frobenius excess", _excess_ratio(by), 0.5),
        _faster(by, "qpissa-5-fast", "qpissa-5-full-svd", full),
        _at_most("qpissa-5-fast - qpissa-5-full-svd, points of reduction", _reduction_difference(by), 0.1),
        _faster(by, "pissa-exact", "linalg.svd", exact),
        # not with torch's: on a card its float32 ones are themselves off by 4e-4 (11008 x 4096, H100, torch 2.11)
        _at_most("pissa-exact - known singular values (relative)", by["pissa-exact"]["values_error"], 1e-5),
        _at_most("pissa-exact, Frobenius excess", abs(by["pissa-exact"]["frobenius_excess"]), 1e-5),
        _faster(by, "nuclear-ours", "nuclear-svdvals", two),
        _at_most("nuclear-ours - float64 svdvals (relative)", by["nuclear-ours"]["nuclear_difference"], 1e-6),
        _faster(by, "nf4-ours", "nf4-bitsandbytes", None),
    ]


def _faster(by: dict[str, Line], ours: str, theirs: str, limit: float | None) -> Floor:
    ratios = [slow / fast for slow, fast in product(by[theirs]["seconds"], by[ours]["seconds"])]
    values = (statistics.median(ratios), min(ratios), max(ratios))
    return Floor(f"{theirs} / {ours}, time", values, limit, True)


def _at_most(claim: str, value: float, limit: float) -> Floor:
    return Floor(claim, (value, value, value), limit, False)


def _excess_ratio(by: dict[str, Line]) -> float:
    return by["pissa-fast"]["frobenius_excess"] / by["svd_lowrank-16"]["frobenius_excess"]


def _reduction_difference(by: dict[str, Line]) -> float:
    return abs(by["qpissa-5-fast"]["error_reduction"] - by["qpissa-5-full-svd"]["error_reduction"])
