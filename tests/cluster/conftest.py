"""A Slurm for these tests alone; where it cannot be had, they are skipped and say why."""

from pathlib import Path

import pytest
from throwaway import Cluster, lacking

DEFAULT = Path("/etc/slurm")  # where Slurm's commands look without SLURM_CONF
FILES = ("slurm.conf", "cgroup.conf")


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    if why := lacking():
        pytest.skip(why)
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def at_default_place(slurm):
    """The same Slurm, found without SLURM_CONF: the plug-in drops that variable within a job."""
    if any((DEFAULT / name).exists() for name in FILES):
        pytest.skip(f"{DEFAULT} has the files of another Slurm")
    DEFAULT.mkdir(exist_ok=True)
    links = [DEFAULT / name for name in FILES]
    try:
        for link in links:
            link.symlink_to(slurm.folder / link.name)
        yield slurm
    finally:
        for link in links:
            link.unlink(missing_ok=True)
