"""A Slurm of one machine for tests: munged, slurmctld and slurmd in a folder, without systemd, cgroups or accounting.

It pretends to have 16 CPUs and 600 GB. Everything that it writes is in its folder, and it ends with `stop`.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "squeue")
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
CONFIG = """
ClusterName=throwaway
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
ReturnToService=2
MpiDefault=none
MailProg=/bin/true
SlurmdParameters=config_overrides
KillWait=5
MessageTimeout=60
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=600000 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES State=UP
PartitionName=gpu Nodes={host} State=UP
"""


def lacking() -> str:
    """Why this machine can have no throwaway Slurm; empty where it can."""
    if missing := [name for name in PROGRAMS if not _found(name)]:
        return f"no {', '.join(missing)}: Debian's packages slurmctld, slurmd, slurm-client and munge have them"
    return "" if os.getuid() == 0 else "a throwaway Slurm needs root"


def _found(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:{SBIN}")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Cluster:
    """A running Slurm, and its commands."""

    def __init__(self, folder: Path):
        self.folder, self.config = folder, folder / "slurm.conf"
        self.environment = {**os.environ, "SLURM_CONF": str(self.config)}
        self.daemons: list[int] = []

    def start(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        fields = {"host": socket.gethostname().split(".")[0], "ports": _free_ports(2), "folder": self.folder}
        self.config.write_text(CONFIG.format(**fields), encoding="utf-8")
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n", encoding="utf-8")
        self._daemon(
            "munged", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.socket",
            f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log",
            f"--seed-file={self.folder}/munge.seed",
        )  # fmt: skip
        self._daemon("slurmctld", "-c", "-f", str(self.config))
        self._daemon("slurmd", "-c", "-f", str(self.config), "-N", fields["host"])
        self.until(lambda: self.run("sinfo", "-h", "-o", "%T") == "idle", "an idle node")

    def stop(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self.run("scancel", "--user=root")
        for name in ("slurmd", "slurmctld", "munged"):
            with contextlib.suppress(OSError, ValueError):  # it has not started, or has ended
                process = int((self.folder / f"{name}.pid").read_text(encoding="utf-8"))
                os.kill(process, signal.SIGTERM)
                self.until(lambda process=process: not Path(f"/proc/{process}").exists(), f"the end of {name}")

    def _daemon(self, program: str, *arguments: str) -> None:
        command = [_found(program), *arguments]
        done = subprocess.run(
            command, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", cwd="/"
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"

    def run(self, *command: str) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(command, env=self.environment, check=True, capture_output=True, encoding="utf-8")
        return done.stdout.strip()

    def until(self, reached, what: str, seconds: float = 300) -> None:
        """Wait until something is so, which is looked at again and again; a busy Slurm may not answer at once."""
        deadline = time.monotonic() + seconds
        while not self._is(reached):
            logs = "".join(path.read_text(encoding="utf-8")[-2000:] for path in self.folder.glob("slurm*.log"))
            assert time.monotonic() < deadline, f"no {what} after {seconds} s\n{logs}"
            time.sleep(0.2)

    @staticmethod
    def _is(reached) -> bool:
        try:
            return reached()
        except subprocess.CalledProcessError:
            return False

    def submit(self, command: str, *options: str) -> str:
        """The number of a new job, which runs the command as a step."""
        return self.run("sbatch", "--parsable", *options, f"--wrap=exec srun {command}")

    def job(self, number: str) -> dict[str, str]:
        """All that Slurm knows of a job."""
        words = self.run("scontrol", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def state(self, number: str) -> str:
        return self.job(number)["JobState"]
