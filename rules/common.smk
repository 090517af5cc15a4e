# Functions that the rules share. The sweep itself is pissa_repro/plan/sweep.py.
import functools
import os
import shlex
import sys

from snakemake.exceptions import WorkflowError

# The checkout is the package, installed or not, whatever folder the sweep runs in.
sys.path.insert(0, str(workflow.basedir))
# No stage may ask anything, and all read and write UTF-8, whatever the locale.
shell.prefix(
    f'export PYTHONPATH={shlex.quote(str(workflow.basedir))}"${{{{PYTHONPATH:+:$PYTHONPATH}}}}" PYTHONUTF8=1; '
    "unset PYTHONIOENCODING; exec </dev/null; "
)

from pissa_repro import exhibits, methods, quantizers, tasks
from pissa_repro.plan import admission, code, studies
from pissa_repro.plan.checked import checked, fitting
from pissa_repro.results import records
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import canonical, unfinished
from pissa_repro.scoring import engines, generations

try:
    SWEEP, BATCHES = checked(config, workflow.configfiles)
    exhibits.PLUGINS.check()
except UserError as error:
    raise WorkflowError(str(error)) from None
ASKED = []  # the batches that this run may generate


wildcard_constraints:
    model=r"[^/]+",
    data=r"[^/]+",
    task=r"[^/]+",
    start=r"[^/]+/[^/]+",  # model/method-quant-rank-seed
    cell=r"[^/]+/[^/]+/[^/]+",  # model/data/method-quant-rank-rate-seed
    batch=r"[^/]+/[^/]+/[^/]+",  # model/data/rank-rate-seed-backend-dtype-number
    first=r"[^/~]+",  # tasks
    second=r"[^/~]+",


def plugins():
    """The modules and files of the plug-ins that this config names: they are found by name, so no import says so."""
    cells, studied = SWEEP.config["sweep"]["cells"], SWEEP.config["studies"]
    named = {SWEEP.definition(cell["method"])["init"] for cell in cells}
    named |= {*studied["methods"], *methods.references()}
    quants = {"nf4", *studied["quants"], *studied["blocks"], *(cell["quant"] for cell in cells)}
    used = sorted({SWEEP.config["tasks"][task]["task"] for task in SWEEP.config["sweep"]["tasks"]})
    modules = [f"pissa_repro.methods.{name}" for name in sorted(named)]
    modules += [f"pissa_repro.quantizers.{name}" for name in sorted({quantizers.find(quant).file for quant in quants})]
    modules += [tasks.load(name).rules.__name__ for name in used]
    return modules, [tasks.PLUGINS.file(name) for name in used]


def code_of(*modules, data=()):
    """A param: the hash of the source files that a cheap stage reaches, and of the plug-ins that this config names.

    So an edit makes the stage run again, and a checkout in another place does not, as files among the inputs would.
    """
    named, files = plugins()
    return code.digest({*code.files(*modules, *named), *files, *data})


def generator_code(wildcards):
    """The same of the embedded rows; nothing for others.

    Without packages' own files: they hold words and the version, and a release must not train everything again.
    """
    if not place("datasets", wildcards.data).startswith("embedded:"):
        return ""
    files = code.files("pissa_repro.embedded.problems")
    return code.digest(path for path in files if not path.endswith("__init__.py"))


def told(function):
    """The function, whose message for the user ends a workflow without a traceback."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except UserError as error:
            raise WorkflowError(str(error)) from None

    return call


def spec(build):
    """A params function: the canonical JSON of what `build` makes of the wildcards, for a command line."""
    return told(lambda wildcards: fitting(canonical(build(wildcards))))


def cell_of(wildcards):
    return SWEEP.cell(wildcards.cell)


def start_of(wildcards):
    return SWEEP.start(wildcards.start)


@told
def admission_of(wildcards):
    return admission.spec(SWEEP, wildcards.purpose, wildcards.model)


def admitted(purpose, model, record, spec, *data):
    """No input, but the job waits until the model is admitted. A finished one waits for nothing: dry runs stay exact."""
    if not records.finished(record, spec, model, *data):
        checkpoints.admit.get(purpose=purpose, model=model)
    return []


@told
def start_admitted(wildcards):
    cell = start_of(wildcards)
    return admitted("sweep", cell.model, paths.start_record(cell.start), SWEEP.init_spec(cell))


@told
def cell_admitted(wildcards):
    cell = cell_of(wildcards)
    return admitted("sweep", cell.model, paths.cell(cell.name).train, SWEEP.train_spec(cell), cell.data)


@told
def batch_admitted(wildcards):
    batch = batch_of(wildcards)
    rows = {SWEEP.config["tasks"][task]["dataset"] for task in batch.tasks}
    return admitted("sweep", batch.model, paths.batch(wildcards.batch), BATCHES.spec(wildcards.batch), *rows)


def study_admitted(name, build):
    """An input function of a study: `name` of its record, and the function that makes its spec."""

    @told
    def wait(wildcards):
        record = paths.study(wildcards.model, name.format(**wildcards))
        return admitted("studies", wildcards.model, record, build(wildcards))

    return wait


def init_folder(cell):
    """The cell's initial factors; nothing for a method without factors."""
    return [paths.start(cell.start)] if SWEEP.has_factors(cell) else []


@told
def place(section, name):
    """The path of a local model or dataset, of a part that of its whole; nothing for one on a hub."""
    source = SWEEP.model_spec(name)["model"] if section == "models" else SWEEP.data_spec(name)["dataset"]
    return source.get("path", "")


def local_files(section, name):
    """The files of a local model or dataset as inputs, so that an edit is noticed."""
    path = place(section, name)
    if path == "embedded" or path.startswith("embedded:"):
        return []
    if os.path.isdir(path):
        kinds = (".safetensors", ".json", ".model", ".txt", ".bpe")  # the last two: slow tokenizers
        return [f"{path}/{name}" for name in sorted(os.listdir(path)) if name.endswith(kinds)]
    return [path] if os.path.isfile(path) else []


def gpus(model):
    return SWEEP.config["models"][model].get("gpus", 0)


@told
def batch_of(wildcards):
    return BATCHES.named(wildcards.batch)


@told
def check_backends():
    """Before the first job: a back-end that is missing would stop the sweep only after its trainings."""
    for name in ASKED:
        if not paths.batch(name).exists():
            engines.check(BATCHES.named(name).backend, gpus(BATCHES.named(name).model))


def fetched(files):
    """An input function: the fetched files that a stage reads, by their use, and the records of what is `before` it.

    They are `ancient`: neither their age nor their place decides a rerun, their content does. See `content`.
    """

    def inputs(wildcards):
        uses = files(wildcards)
        found = {use: [ancient(path) for path in some] for use, some in uses.items() if use != "before"}
        return {**found, "records": [ancient(path) for path in fetch_records(uses)]}

    return inputs


def content(files):
    """A params function: the hashes of the same files' content, of what was fetched last.

    Like a spec it holds what earlier stages were made from: so a score whose training failed since is seen to be old.
    """
    return spec(lambda wildcards: [records.content(path) for path in fetch_records(files(wildcards))])


def fetch_records(uses):
    """The record of each file; a model is given as its record."""
    return [path.with_suffix(".json") for some in uses.values() for path in some]


def of_start(wildcards):
    return {"model": [paths.model(start_of(wildcards).model)]}


def of_cell(wildcards):
    cell = cell_of(wildcards)
    return {"model": [paths.model(cell.model)], "data": [paths.rows(cell.data)]}


def of_batch(wildcards):
    batch = batch_of(wildcards)
    trained_on = sorted({paths.data(SWEEP.cell(name).data) for name in batch.cells})
    return {"model": [paths.model(batch.model)], "data": rows_of(*batch.tasks), "before": trained_on}


def of_task(wildcards):
    cell = cell_of(wildcards)
    return {
        "data": rows_of(wildcards.task), "trained_on": [paths.rows(cell.data)], "before": [paths.model(cell.model)],
    }  # fmt: skip


def of_pair(wildcards):
    cell = cell_of(wildcards)
    model, rows = [paths.model(cell.model)], rows_of(wildcards.first)
    return {"model": model, "data": rows, "before": [paths.data(cell.data)]}


def of_sweep(wildcards):
    swept = SWEEP.config["sweep"]
    tests = {SWEEP.config["tasks"][task]["dataset"] for task in swept["tasks"]}
    return {"before": [*map(paths.model, swept["models"]), *map(paths.data, sorted({*swept["datasets"], *tests}))]}


def of_study(wildcards):
    return {"model": [paths.model(wildcards.model)]}


def of_gptq(wildcards):
    settings = SWEEP.config["studies"]["gptq"]
    if not settings:
        raise WorkflowError("config.studies.gptq names no datasets: give calibration, text and rows.")
    rows = {use: [paths.rows(settings[use])] for use in ("calibration", "text")}
    return {"model": [paths.model(wildcards.model)], **rows}


def rows_of(*names):
    """The rows of tasks, each once."""
    return sorted({paths.rows(SWEEP.config["tasks"][task]["dataset"]) for task in names})


def batch_starts(wildcards):
    return sorted({folder for name in batch_of(wildcards).cells for folder in init_folder(SWEEP.cell(name))})


def batch_trained(wildcards):
    ASKED.append(wildcards.batch)
    return [paths.cell(name).trained for name in batch_of(wildcards).cells]


def batch_gpus(wildcards):
    """The cards of an engine: one where the model has any; a profile raises it together with tensor_parallel."""
    return min(1, gpus(batch_of(wildcards).model))


def batch_prompts(wildcards):
    """Prompts handed over together: vLLM schedules them itself, transformers computes them at once."""
    batch = batch_of(wildcards)
    return 256 if batch.backend == "vllm" else 16 if gpus(batch.model) else 64


@told
def generated(wildcards, task):
    """What a cell has generated on a task."""
    return generations.place(paths.cell(wildcards.cell), task, SWEEP.generate_spec(cell_of(wildcards), task))


@told
def batch_mark(wildcards):
    """The record of the batch that generates a cell on a task."""
    return paths.batch(BATCHES.name_of(wildcards.cell, wildcards.task))


@told
def two_batch_marks(wildcards):
    return [paths.batch(BATCHES.name_of(wildcards.cell, t)) for t in (wildcards.first, wildcards.second)]


def parity_records(wildcards):
    pairs = BATCHES.pairs()
    if not pairs:
        raise WorkflowError("parity: no two swept tasks differ in their backend alone; see config/parity.yaml.")
    return [paths.parity(name, first, second) for name in SWEEP.cells for first, second in pairs]


def train_records(wildcards):
    return [paths.cell(name).train for name in SWEEP.cells]


def scores(wildcards):
    return [paths.cell(name).score(task) for name in SWEEP.cells for task in SWEEP.config["sweep"]["tasks"]]


def quant_errors(wildcards):
    return [paths.start_error(name) for name, cell in SWEEP.starts.items() if cell.quant != "none"]


@told
def needs(kind, place):
    """The records behind a table or figure. A place that has none ends the dry run with the nearest one."""
    return exhibits.output(SWEEP, kind, place).needs()


@told
def exhibit_code(kind, place):
    """The hash of what makes a table or figure: its source files, those of its stage, and the published numbers."""
    published = ["reference/paper_tables.yaml", "reference/identities.yaml"]
    return code_of(f"pissa_repro.stages.{kind}", exhibits.output(SWEEP, kind, place).module, data=published)
