# Functions that the rules share. The sweep itself is pissa_repro/plan/sweep.py.
import functools
import os
import sys

from snakemake.exceptions import WorkflowError

# The checkout is the package, installed or not, whatever folder the sweep runs in.
sys.path.insert(0, str(workflow.basedir))
shell.prefix(f'export PYTHONPATH="{workflow.basedir}${{{{PYTHONPATH:+:$PYTHONPATH}}}}"; ')

from pissa_repro.plan import exhibits, studies
from pissa_repro.plan.checked import checked
from pissa_repro.plan.sweep import FIGURES
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import canonical
from pissa_repro.scoring import engines, generations

try:
    SWEEP, BATCHES = checked(config)
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


def source(path):
    """A file of this repository as an input, so that an edit makes a cheap stage run again."""
    return os.path.relpath(os.path.join(workflow.basedir, path))


def modules(*names):
    return [source(f"pissa_repro/{name}.py") for name in names]


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
    """A params function: the canonical JSON of what `build` makes of the wildcards."""
    return told(lambda wildcards: canonical(build(wildcards)))


def cell_of(wildcards):
    return SWEEP.cell(wildcards.cell)


def start_of(wildcards):
    return SWEEP.start(wildcards.start)


def model_record(model):
    return f"results/fetch/models/{model}.json"


def data_rows(data):
    return f"results/fetch/data/{data}.jsonl"


def init_folder(cell):
    """The cell's initial factors; nothing for a method without factors."""
    return [f"results/init/{cell.start}"] if SWEEP.has_factors(cell) else []


def local_files(section, name):
    """The files of a local model or dataset as inputs, so that an edit is noticed."""
    path = SWEEP.config[section].get(name, {}).get("path", "")
    if path == "embedded" or path.startswith("embedded:"):
        return modules("embedded/problems", "embedded/scenarios", "embedded/drawing") if section == "datasets" else []
    if os.path.isdir(path):
        kinds = (".safetensors", ".json", ".model")
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
        if not os.path.exists(f"results/generated/{name}.json"):
            engines.check(BATCHES.named(name).backend, gpus(BATCHES.named(name).model))


def batch_rows(wildcards):
    """The test rows of a batch's tasks."""
    return sorted({data_rows(SWEEP.config["tasks"][task]["dataset"]) for task in batch_of(wildcards).tasks})


def batch_starts(wildcards):
    return sorted({folder for name in batch_of(wildcards).cells for folder in init_folder(SWEEP.cell(name))})


def batch_trained(wildcards):
    ASKED.append(wildcards.batch)
    return [f"results/cells/{name}/trained" for name in batch_of(wildcards).cells]


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
    return generations.place(f"results/cells/{wildcards.cell}", task, SWEEP.generate_spec(cell_of(wildcards), task))


@told
def batch_mark(wildcards):
    """The record of the batch that generates a cell on a task."""
    return f"results/generated/{BATCHES.name_of(wildcards.cell, wildcards.task)}.json"


@told
def two_batch_marks(wildcards):
    return [f"results/generated/{BATCHES.name_of(wildcards.cell, t)}.json" for t in (wildcards.first, wildcards.second)]


def parity_records(wildcards):
    pairs = BATCHES.pairs()
    if not pairs:
        raise WorkflowError("parity: no two swept tasks differ in their backend alone; see config/parity.yaml.")
    return [f"results/parity/{name}/{first}~{second}.json" for name in SWEEP.cells for first, second in pairs]


def train_records(wildcards):
    return [f"results/cells/{name}/train.json" for name in SWEEP.cells]


def step_files(wildcards):
    return [f"results/cells/{name}/train_steps.csv" for name in SWEEP.cells]


def scores(wildcards=None, tasks=None):
    tasks = tasks or SWEEP.config["sweep"]["tasks"]
    return [f"results/cells/{name}/eval/{task}.json" for name in SWEEP.cells for task in tasks]


@told
def samples(wildcards):
    """The per-item files behind one table."""
    tasks = SWEEP.tasks_of(wildcards.table)
    return [path.removesuffix(".json") + ".samples.jsonl" for path in scores(tasks=tasks)]


def quant_errors(wildcards):
    return [f"results/quant_error/{name}.json" for name, cell in SWEEP.starts.items() if cell.quant != "none"]


def table_names():
    return sorted({SWEEP.config["tasks"][task]["task"] for task in SWEEP.config["sweep"]["tasks"]})


def gptq_rows(which):
    """An input function: the rows of the dataset that config.studies.gptq names."""

    def path(wildcards):
        settings = SWEEP.config["studies"]["gptq"]
        if not settings:
            raise WorkflowError("config.studies.gptq names no datasets: give calibration, text and rows.")
        return data_rows(settings[which])

    return path
