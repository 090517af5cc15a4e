"""What specs say of plug-ins whose results have changed: versions from 2 on. Others leave a spec as it is."""

from collections.abc import Iterable

from pissa_repro import quantizers, tasks
from pissa_repro.runtime.specs import QuantVersions, TaskVersion


def of_quants(quants: Iterable[str]) -> QuantVersions:
    """The versions of quants that are not 1; nothing where all are."""
    found = {quant: quantizers.version(quant) for quant in sorted(set(quants))}
    raised = {quant: version for quant, version in found.items() if version != 1}
    return {"quant_versions": raised} if raised else {}


def of_task(file: str) -> TaskVersion:
    """The version of a task file that is not 1; nothing where it is."""
    version = tasks.metadata(file)["version"]
    return {} if version == 1 else {"task_version": version}
