# Functions that the rules share. The sweep itself is pissa_repro/plan/sweep.py.
import functools
import gc
import inspect
import os
import re
import shlex
import sys

from snakemake.common import overwrite_function_params
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

# The checkout is the package, installed or not, whatever folder the sweep runs in.
sys.path.insert(0, str(workflow.basedir))
gc.set_threshold(200_000, 50, 100)  # the jobs of a large sweep are millions of objects, none of which goes again
# No stage may ask anything, and all read and write UTF-8, whatever the locale. The warning before a job's time is up
# (runtime/walltime.py) ends no stage but one that listens. glibc keeps up to 1 GiB that was freed: given back to the
# system and asked for again in each step, it costs trainings on CPUs 5 %. Weights above 32 MiB go back at once.
PREFIX = (
    "export MALLOC_MMAP_THRESHOLD_=${MALLOC_MMAP_THRESHOLD_:-33554432} "
    "MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:-1073741824}; "
    f'export PYTHONPATH={shlex.quote(str(workflow.basedir))}"${{PYTHONPATH:+:$PYTHONPATH}}" PYTHONUTF8=1; '
    "unset PYTHONIOENCODING; trap '' USR1; exec </dev/null; "
)
shell.prefix(PREFIX.replace("{", "{{").replace("}", "}}"))

from pissa_repro import exhibits, methods, quantizers, tasks
from pissa_repro.plan import admission, adopted, code, gradients, parts, studies, toy
from pissa_repro.plan.checked import checked, fitting, warnings
from pissa_repro.results import records
from pissa_repro.runtime import paths, preloaded, walltime
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.gpus import check_build
from pissa_repro.runtime.processes import NONE
from pissa_repro.runtime.record import canonical, unfinished
from pissa_repro.scoring import engines, generations
from pissa_repro.training import how, sinks

FILES = sorted(workflow.configfiles, key=workflow.overwrite_configfiles.count)  # the Snakefile's own first
try:
    SWEEP, BATCHES = checked(config, FILES, workflow.config_settings.config)
    exhibits.PLUGINS.check()
    exhibits.outputs(SWEEP)  # the names under `exhibits`
except UserError as error:
    raise WorkflowError(str(error)) from None
if workflow.is_main_process:  # and not again in each job
    for text in warnings(SWEEP):
        logger.warning(text)
else:
    walltime.pass_on()
    if "SLURM_JOB_ID" in os.environ:  # a compute node may have no network, and what is fetched was fetched before
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
ASKED = []  # the batches that this run may generate
# Names of what was trained elsewhere, and of bases; else nothing fits.
ADOPTED, BASES = ("|".join(map(re.escape, names)) or "(?!)" for names in (SWEEP.adopted, SWEEP.bases))


wildcard_constraints:
    model=r"[^/]+",
    data=r"[^/]+",
    task=r"[^/]+",
    start=r"[^/]+/[^/]+",  # model/method-quant-rank-seed, and -data where it has seen any
    statistics=r"[^/]+/[^/]+/[^/]+",  # model/data/kind-rows-seed-digest
    cell=r"[^/]+/[^/]+/[^/]+",  # model/data/method-quant-rank-rate-seed
    adopted=ADOPTED,  # model/data/name
    base=BASES,  # model/data/base-quant
    batch=r"[^/]+/[^/]+/[^/]+",  # model/data/rank-rate-seed-backend-dtype-number
    first=r"[^/~]+",  # tasks
    second=r"[^/~]+",


def plugins():
    """The modules and files of the plug-ins that this config names: they are found by name, so no import says so."""
    swept, studied = [*parts.pairs(SWEEP.config)], SWEEP.config["studies"]
    named = {SWEEP.definition(method)["init"] for method, _ in swept}
    named |= {*studied["methods"], *methods.references(), *toy.METHODS}
    quants = {"nf4", *studied["quants"], *studied["blocks"], *(quant for _, quant in swept)}
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


def told(function):
    """The function, whose message for the user ends a workflow without a traceback."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except UserError as error:
            raise WorkflowError(str(error)) from None

    overwrite_function_params(call, inspect.signature(function).parameters)  # asked for by each job anew
    return call


def spec(build):
    """A params function: the canonical JSON of what `build` makes of the wildcards, for a command line."""
    return told(lambda wildcards: fitting(canonical(build(wildcards))))


def cell_of(wildcards):
    return SWEEP.cell(wildcards.cell)


def scored_of(wildcards):
    return SWEEP.scored(wildcards.cell)


def definition_of(wildcards):
    return SWEEP.config["adopted"][SWEEP.adopted[wildcards.adopted].method]


def start_of(wildcards):
    return SWEEP.start(wildcards.start)


@told
def statistic_of(wildcards):
    return SWEEP.statistic(wildcards.statistics)


def init_folder(cell):
    """The cell's initial factors; nothing for a method without factors, and for what was trained elsewhere."""
    start = SWEEP.start_of(cell)
    return [paths.start(start)] if start else []


@told
def weighing_folder(wildcards):
    """The statistic that the error of a start is weighed by; nothing unless the config asks."""
    weighing = SWEEP.weighing(start_of(wildcards))
    return [paths.statistics(weighing.name)] if weighing else []


def gpus(model):
    """Cards of a training of a model."""
    return SWEEP.config["models"][model].get("gpus", 0)


# Models that a job may be of; the studies of gradients have no others.
USED = {model for part in parts.parts(SWEEP.config).values() for model in part["models"]}
USED |= {*SWEEP.config["studies"]["models"], *(one.model for one in SWEEP.others.values())}


def by_model(model, value):
    """A resource: the value of a job's model. A plain one where all have the same: a function is called for each job.

    model: a function of the wildcards. value: of a model's name.
    """
    if len(found := told(lambda: {value(name) for name in USED})()) == 1:
        return found.pop()
    return told(lambda wildcards: value(model(wildcards)))


def how_it_runs(key, usual):
    """A resource: how the trainings of a cell's model run."""

    def value(model):
        found = SWEEP.config["models"][model].get(key, usual)
        return {True: "yes", False: "no"}[found] if isinstance(found, bool) else found

    return by_model(lambda w: cell_of(w).model, value)


@told
def batch_of(wildcards):
    return BATCHES.named(wildcards.batch)


@told
def check_backends():
    """Before the first job: a back-end that is missing would stop the sweep only after its trainings."""
    for name in ASKED:
        if not paths.batch(name).exists():
            engines.check(BATCHES.named(name).backend, gpus(BATCHES.named(name).model))


def loading():
    """The jobs to come that load a model: they say how many cards they take, none too."""
    return [job for job in workflow.dag.needrun_jobs() if "gpu" in job.rule.resources]


@told
def check_cards():
    """Before the first job: too few cards (`within`) and a torch without CUDA would be found out by jobs that need them.

    Where Snakemake makes the environments of jobs (--sdm), theirs is another torch.
    """
    if sum(job.resources.gpu for job in loading()) and not workflow.deployment_settings.deployment_method:
        check_build()


@told
def check_scoring():
    """Before the first job: a machine that cannot score a task would say so only after the trainings.

    Where jobs go to other machines, this one says nothing of them.
    """
    asked = [job for job in workflow.dag.needrun_jobs() if job.rule.name == "evaluate"] if workflow.local_exec else []
    for name in sorted({job.wildcards.task for job in asked}):
        tasks.check_ready(SWEEP.config["tasks"][name]["task"], f"config.tasks.{name}")


@told
def check_sinks():
    """Before the first job: a sink of training curves that is not installed would stop every training."""
    given = workflow.resource_settings.overwrite_resources.get("train", {})
    if sinks.OPTION in given:
        sinks.named(str(given[sinks.OPTION].raw).strip("'\""))


# Modules that bring the libraries whose import is long beside what jobs of a small model do.
PRELOADED = ("pissa_repro.training.trainer", "pissa_repro.adapters.trained", "pissa_repro.starts.make")
PRELOADED += ("pissa_repro.starts.error", "pissa_repro.model.adapter", "pissa_repro.scoring.generator")


def preload():
    """Before the first job: where many of this machine's CPU are to come, one process imports for them all."""
    jobs, backends = loading(), {batch.backend for batch in BATCHES.by_name.values()}
    on_cards = any(job.resources.gpu for job in jobs)
    if len(jobs) < 4 or on_cards or backends != {"hf"} or not workflow.local_exec or not preloaded.possible():
        return
    libraries = ("OMP", "GOTO", "OPENBLAS", "MKL", "NUMEXPR")  # as Snakemake tells each job
    threads = {"VECLIB_MAXIMUM_THREADS": "1"} | {f"{name}_NUM_THREADS": "1" for name in libraries}
    preloaded.start(f"{PREFIX} exec python", {**os.environ, **threads}, PRELOADED)


def batch_starts(wildcards):
    return sorted({folder for name in batch_of(wildcards).cells for folder in init_folder(SWEEP.scored(name))})


def batch_trained(wildcards):
    ASKED.append(wildcards.batch)
    return [paths.cell(name).trained for name in batch_of(wildcards).cells]


def batch_prompts(wildcards):
    """Prompts handed over together: vLLM schedules them itself, transformers computes them at once."""
    batch = batch_of(wildcards)
    return 256 if batch.backend == "vllm" else 16 if gpus(batch.model) else 64


@told
def generated(wildcards, task):
    """What a cell has generated on a task."""
    return generations.place(paths.cell(wildcards.cell), task, SWEEP.generate_spec(scored_of(wildcards), task))


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


def other_records(wildcards):
    return [paths.cell(name).train for name in SWEEP.others]


def scores(wildcards):
    scored, tasks = (*SWEEP.cells, *SWEEP.others), SWEEP.config["sweep"]["tasks"]
    return [paths.cell(name).score(task) for name in scored for task in tasks]


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
