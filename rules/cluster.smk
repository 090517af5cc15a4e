# What jobs ask of a cluster, of walltime (minutes) and memory (MB of the host); a run on one machine reads none of it.
# A profile, or --set-resources, overrides a value: train:runtime=2880. Where a job runs, and for whom, the
# profile says. Functions that the rules share, as in common.smk.
from pissa_repro.results.sizes import size_of

LARGE = 8_000_000_000  # parameters of a model whose size is not known before it is fetched
# The cards of a job are on one machine. The plug-in would start as many tasks as cards, each with the whole job.
ONE_NODE = {"nodes": 1, "tasks_per_gpu": 0}
# Five minutes to end a step and write a checkpoint, or to end a batch of prompts; Slurm's own log goes on, too, when the
# job does.
WARNED = {"slurm_extra": "--signal=USR1@300 --open-mode=append"}
LIGHT = {"runtime": 60, "mem_mb": 8_000}  # loads no model; without `nodes`, which a group of jobs would sum


@functools.cache
def parameters(model):
    size = size_of(SWEEP, model, paths.RESULTS)
    return size.parameters if size else LARGE


def memory(model, cards):
    """MB: the weights in float32 for each process that loads them; on a CPU all that is trained, too (16 bytes)."""
    each = 4 * cards if cards else 16
    return 8_000 + each * parameters(model) // 1_000_000


def one_card(model):
    return min(1, gpus(model))


def within(model, cards):
    """The resource `gpu`: refused for a model that asks for more than --resources or a profile let all jobs use.

    Snakemake would cut it to these, and say nothing.
    """
    most = workflow.global_resources.get("gpu").value
    if most is None or not workflow.is_main_process or all(cards(name) <= most for name in USED):
        return by_model(model, cards)

    def value(wildcards):
        if (count := cards(name := model(wildcards))) > most:
            raise WorkflowError(
                f"config.models.{name}.gpus: a job asks for gpu={count}, and all jobs may use gpu={most} "
                f"(--resources, or resources of the profile). Give --resources gpu={count}, or change gpus."
            )
        return count

    return value


def loads(model, runtime, cards=one_card):
    """The resources of a job that loads a model. model, cards: functions, of the wildcards and of the model's name."""
    mem_mb = by_model(model, lambda name: memory(name, cards(name)))
    return {**ONE_NODE, "runtime": runtime, "gpu": within(model, cards), "mem_mb": mem_mb}
