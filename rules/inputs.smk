# What jobs read and wait for: the files that were fetched, their content, which decides a rerun, and the admission.
# Functions that the rules share, as in common.smk.


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
        kinds = (".safetensors", ".json", ".model", ".txt", ".bpe", ".jinja")  # .txt, .bpe: slow tokenizers
        return [f"{path}/{name}" for name in sorted(os.listdir(path)) if name.endswith(kinds)]
    return [path] if os.path.isfile(path) else []


def generator_code(wildcards):
    """A param of fetching: the hash of the code that generates the embedded rows; nothing for others.

    Without packages' own files: they hold words and the version, and a release must not train everything again.
    """
    if not place("datasets", wildcards.data).startswith("embedded:"):
        return ""
    generator = "corpus" if place("datasets", wildcards.data) == "embedded:pretraining" else "problems"
    files = code.files(f"pissa_repro.embedded.{generator}")
    return code.digest(path for path in files if not path.endswith("__init__.py"))


def fetched(files):
    """An input function: the fetched files that a stage reads, by their use, and the records of what is `before` it.

    They are `ancient`: neither their age nor their place decides a rerun, their content does. See `content`.
    """

    @told
    def inputs(wildcards):
        uses = files(wildcards)
        found = {use: [ancient(path) for path in some] for use, some in uses.items() if use != "before"}
        listed = uses.get("model", [])  # whose file is its record
        return {**found, "records": [ancient(path) for path in fetch_records(uses) if path not in listed]}

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
    start = start_of(wildcards)
    seen = {"before": [paths.data(start.seen)]} if start.seen else {}
    return {"model": [paths.model(start.model)], **seen}


def of_error(wildcards):
    weighing = SWEEP.weighing(start_of(wildcards))
    return {**of_start(wildcards), "data": [paths.rows(weighing.data)] if weighing else []}


def of_statistics(wildcards):
    statistic = statistic_of(wildcards)
    return {"model": [paths.model(statistic.model)], "data": [paths.rows(statistic.data)]}


def of_cell(wildcards):
    cell = cell_of(wildcards)
    return {"model": [paths.model(cell.model)], "data": [paths.rows(cell.data)]}


def of_base(wildcards):
    return {"model": [paths.model(SWEEP.bases[wildcards.base].model)]}


def of_adopted(wildcards):
    return {"model": [paths.model(SWEEP.adopted[wildcards.adopted].model)]}


@told
def adopted_files(wildcards):
    return adopted.files(definition_of(wildcards), f"config.adopted.{SWEEP.adopted[wildcards.adopted].method}")


def of_batch(wildcards):
    batch = batch_of(wildcards)
    trained_on = sorted({paths.data(SWEEP.scored(name).data) for name in batch.cells})
    return {"model": [paths.model(batch.model)], "data": rows_of(*batch.tasks), "before": trained_on}


def of_task(wildcards):
    cell = scored_of(wildcards)
    return {
        "data": rows_of(wildcards.task), "trained_on": [paths.rows(cell.data)], "before": [paths.model(cell.model)],
    }  # fmt: skip


def of_pair(wildcards):
    cell = cell_of(wildcards)
    model, rows = [paths.model(cell.model)], rows_of(wildcards.first)
    return {"model": model, "data": rows, "before": [paths.data(cell.data)]}


def of_sweep(wildcards):
    swept, tasks = parts.parts(SWEEP.config).values(), SWEEP.config["sweep"]["tasks"]
    models = dict.fromkeys(name for part in swept for name in part["models"])
    read = {SWEEP.config["tasks"][task]["dataset"] for task in tasks} | {*parts.trained_on(SWEEP.config)}
    return {"before": [*map(paths.model, models), *map(paths.data, sorted(read))]}


def of_study(wildcards):
    return {"model": [paths.model(wildcards.model)]}


def of_gptq(wildcards):
    settings = SWEEP.config["studies"]["gptq"]
    if not settings:
        raise WorkflowError("config.studies.gptq names no datasets: give calibration, text and rows.")
    rows = {use: [paths.rows(settings[use])] for use in ("calibration", "text")}
    return {"model": [paths.model(wildcards.model)], **rows}


def of_gradients(wildcards):
    return {"model": [paths.model(wildcards.model)], "data": [paths.rows(gradients.data(SWEEP))]}


@told
def gradients_admitted(wildcards):
    record, spec = paths.study(wildcards.model, gradients.RECORD), gradients.spec(SWEEP, wildcards.model)
    return admitted("sweep", wildcards.model, record, spec, gradients.data(SWEEP))


@told
def toy_files(wildcards):
    return toy.files(SWEEP)


def rows_of(*names):
    """The rows of tasks, each once."""
    return sorted({paths.rows(SWEEP.config["tasks"][task]["dataset"]) for task in names})


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
    record, seen = paths.start_record(cell.start), [cell.seen] if cell.seen else []
    return admitted("sweep", cell.model, record, SWEEP.init_spec(cell), *seen)


@told
def statistics_admitted(wildcards):
    one = statistic_of(wildcards)
    return admitted("sweep", one.model, paths.statistics_record(one.name), one.spec, one.data)


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
