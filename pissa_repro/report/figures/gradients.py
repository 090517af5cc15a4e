"""The first updates: loss, and how far A and B have come of their way (the paper's Figure 18)."""

from pathlib import Path

import numpy
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pissa_repro.paper import published
from pissa_repro.plan import gradients
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures.canvas import Sheet, finish
from pissa_repro.report.figures.looks import plain
from pissa_repro.report.figures.steps import draw_curves
from pissa_repro.results.curves import Curve
from pissa_repro.results.gradients import Found, measured
from pissa_repro.results.study import Study


def first_updates(sweep: Sweep, results: Path) -> Figure:
    """A block for each model of the study."""
    models = gradients.models(sweep)
    sheet = Sheet(len(models))
    for model in models:
        _draw(sheet, Study(sweep, model, results))
    return sheet.figure


def _draw(sheet: Sheet, study: Study) -> None:
    found = measured(study.sweep, study)
    updates, seeds = found[0].updates, len(found[0].facts["starts"])
    figure, (loss, a, b) = sheet.panels(3, 3.0, 2.8, share=False)
    steps = numpy.arange(updates + 1)
    lines = {loss: [(plain(one.method), Curve(steps, one.losses()[:, : updates + 1])) for one in found]}
    for axes, factor in ((a, "A"), (b, "B")):
        lines[axes] = [(plain(one.method), Curve(steps, one.progress(factor))) for one in found]
        axes.set(title=f"way of {factor} to update {gradients.TARGET}", ylabel="progress (%)")
    loss.set(title="loss", ylabel="loss (nats)")
    for axes, curves in lines.items():
        draw_curves(axes, curves, marks=updates + 1)
        axes.set_xlabel("updates made")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for panel, method, x, value in _published():
        own = plain(method)
        {"loss": loss, "A": a}[panel].plot(
            x, value, color=own.colour, marker=own.marker, markersize=7, fillstyle="none", linestyle="None",
            label=f"{own.label}, published\nLLaMA-3-8B",
        )  # fmt: skip
    finish(figure, study, "The first updates", _notes(study, found, seeds))


def _published() -> list[tuple[str, str, int, float]]:
    """Panel, method, updates and value of what the paper prints."""
    steps = published.printed("gradient_direction_v4")["first_steps"]
    losses = steps["loss_after_5"].items()
    points = [("loss", method, 0, steps["loss_step0"]) for method, _ in losses]
    points += [("loss", method, gradients.UPDATES, value) for method, value in losses]
    return [*points, ("A", "lora", gradients.UPDATES, steps["lora_A_progress_to_step50_target_pct"])]


def _notes(study: Study, found: list[Found], seeds: int) -> list[str]:
    train = next(iter(gradients.spec(study.sweep, study.model)["runs"].values()))
    assert train["init"]
    last = ", ".join(f"{plain(one.method).label} {one.losses()[:, -1].mean():.3f}" for one in found)
    return [
        f"rank {train['init']['rank']}, rate {train['learning_rate']:g}, batches of {train['settings']['batch_size']}",
        f"loss: of the next batch; at step {gradients.TARGET}: {last}",
        "progress: the part of the way made along the line from the start to the last place",
        f"mean of {seeds} seeds of the start, band from least to greatest" if seeds > 1 else "one seed",
        "the first update has the rate 0 where the schedule warms up",
        "hollow: published for LLaMA-3-8B, another model and data; one run",
    ]
