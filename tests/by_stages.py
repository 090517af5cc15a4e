"""A small sweep of one model and one dataset by its stages, in this process: torch is loaded once."""

from pissa_repro.plan import admission
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import canonical
from pissa_repro.scoring import generator
from pissa_repro.scoring.generations import place
from pissa_repro.stages import admit, evaluate, fetch, generate
from pissa_repro.stages import base as stage_base
from pissa_repro.stages import train as stage_train


def run(stage, **arguments):
    """A stage in this process; a spec is written as the workflow writes it."""
    words = {name: canonical(value) if name == "spec" else str(value) for name, value in arguments.items()}
    stage.main([word for name, value in words.items() for word in (f"--{name.replace('_', '-')}", value)])


def made(sweep, batches):
    """What the workflow does in this folder for cells without factors, and for bases, up to their scores."""
    generator._verified.cache_clear()  # of folders at the same place below another one
    model, rows = str(paths.model("tiny")), str(paths.rows("rows"))
    run(fetch, spec=sweep.model_spec("tiny"), out=model)
    run(fetch, spec=sweep.data_spec("rows"), out=paths.data("rows"), rows=rows)
    run(admit, spec=admission.spec(sweep, "sweep", "tiny"), model=model, out=paths.admission("sweep", "tiny"))
    for name, cell in sweep.cells.items():
        home = paths.cell(name)
        trained = {"trained": home.trained, "record": home.train, "steps": home.steps, "scratch": "scratch"}
        run(stage_train, spec=sweep.train_spec(cell), model=model, data=rows, **trained)
    for name, one in sweep.bases.items():
        home = paths.cell(name)
        run(stage_base, spec=sweep.trained_spec(one), model=model, trained=home.trained, record=home.train)
    scored = {**sweep.cells, **sweep.bases}
    for batch in dict.fromkeys(batches.name_of(name, "task") for name in scored):
        run(generate, spec=batches.spec(batch), model=model, out=paths.batch(batch), batch_size=64)
    for name, one in scored.items():
        home, kept = paths.cell(name), place(paths.cell(name), "task", sweep.generate_spec(one, "task"))
        files = {"record": home.score("task"), "samples": home.samples("task"), "generations": kept}
        run(evaluate, spec=sweep.evaluate_spec(one, "task"), data=rows, trained_on=rows, **files)
