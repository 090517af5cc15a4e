"""Case 3: every program arrives whole, none decides about the others, and no fault of the sandbox is a score."""

import os
import sys
import threading
import time
from concurrent.futures import CancelledError

import pytest

from pissa_repro.grading import sandbox
from pissa_repro.grading.sandbox import confine
from pissa_repro.runtime.errors import UserError

SLOW_READER = "import sys, time; time.sleep(1); print(len(sys.stdin.buffer.read()))"


def test_all_of_a_text_arrives_at_a_reader_that_begins_late():
    """Case 3: under load a sandbox begins to read long after the first look at it."""
    given = b"x" * 3_000_000
    code, said, _ = sandbox._await([sys.executable, "-c", SLOW_READER], given, 20, threading.Event())
    assert (code, said) == (0, b"3000000\n")


def test_a_long_program_arrives_however_often_it_is_looked_at(way, monkeypatch):
    """Case 3: a megabyte, with looks as close together as under a load that lets no sandbox start between two."""
    monkeypatch.setattr(sandbox, "LOOK", 1e-4)
    monkeypatch.setattr(sandbox, "GRACE", 1.0)
    found = sandbox.run("# " + "x" * (1 << 20) + "\n1 / 0", limits=sandbox.Limits(wall_seconds=10))
    assert found.error == "ZeroDivisionError: division by zero at line 2: 1 / 0"


SIGNALS = """
import os, time
for number in range(1, 65):
    for process in PROCESSES:
        try: SEND(process, number)
        except (OSError, ValueError): pass
time.sleep(0.1)
"""
# name: a program against what runs it, and the status that it must end with
AGAINST = {
    "an interrupt to its parent": ("import os, signal\nos.kill(os.getppid(), signal.SIGINT)", "passed"),
    "an interrupt to process 1": ("import os, signal\nos.kill(1, signal.SIGINT)", "passed"),
    "an interrupt to its group": ("import os, signal\nos.killpg(0, signal.SIGINT)", "failed"),
    "an end to its group": ("import os, signal\nos.killpg(0, signal.SIGKILL)", "killed"),
    "every signal to its parent": (
        SIGNALS.replace("PROCESSES", "(1, os.getppid())").replace("SEND", "os.kill"),
        "passed",
    ),
    "every signal to the groups of others": (
        SIGNALS.replace("PROCESSES", "(1, os.getppid())").replace("SEND", "os.killpg"),
        "passed",
    ),
    "a real-time signal to itself": ("import os\nos.kill(os.getpid(), 40)", "killed"),
    "a limit on process 1": (
        """
import resource, time
for kind in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_NOFILE):
    try: resource.prlimit(1, kind, (0, 0))
    except PermissionError: continue
    time.sleep(1.5)
    raise ValueError("set")
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
""",
        "passed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", AGAINST)
def test_no_program_decides_about_the_others(name, way, monkeypatch):
    """Case 3: it gets its own verdict, and those beside it theirs."""
    monkeypatch.setattr(sandbox, "_outcomes", {})
    if "limit" in name and os.uname().machine not in confine.MACHINES:
        pytest.skip("no filter of system calls on this machine")
    text, status = AGAINST[name]
    found = sandbox.run_many(["x = 1", text, "assert 0", "x = 2"], workers=2)
    assert [one.status for one in found] == ["passed", status, "failed", "passed"], found


@pytest.fixture
def launched(monkeypatch):
    """Programs in the order in which they are launched; `fails(program, number)` says which launches fail."""
    real, seen = sandbox.launch, []
    monkeypatch.setattr(sandbox, "PAUSES", (0.0, 0.0))
    sandbox.kind()

    def install(fails):
        def launch(program, *rest):
            seen.append(program)
            if fails(program, seen.count(program)):
                raise OSError("no room")
            return real(program, *rest)

        monkeypatch.setattr(sandbox, "launch", launch)
        return seen

    return install


def test_a_sandbox_that_fails_in_passing_is_tried_again(way, launched):
    """Case 3: the program's own verdict stands."""
    seen = launched(lambda program, number: program != sandbox.PROBE and number < 3)
    assert [sandbox.run("x = 3").status, sandbox.run("assert 0").status] == ["passed", "failed"]
    assert seen.count("x = 3") == 3


def test_a_sandbox_that_does_not_work_any_more_is_an_error(way, launched):
    """Case 3: never a score of 0, for nothing is known about the program."""
    launched(lambda program, number: True)
    with pytest.raises(UserError, match=rf"the sandbox \({way}\) worked before and does not now: no room"):
        sandbox.run("x = 1")


def test_a_program_whose_sandbox_alone_fails_every_time_has_ended_it(way, launched):
    """Case 3: a way to do that which nobody knows yet stops no scoring either."""
    launched(lambda program, number: program == "bad")
    found = sandbox.run("bad")
    assert found.status == "killed" and "while another program passed: no room" in found.error
    assert sandbox.run("x = 1").passed


def test_faults_of_the_sandbox_are_no_outcomes(way, monkeypatch):
    """Case 3: one that does not end, one that the system killed, one whose report breaks off, one half built."""
    with pytest.raises(OSError, match=r"did not end within 0\.3 s"):
        sandbox._await(["sleep", "60"], b"", 0.3, threading.Event())
    with pytest.raises(OSError, match="TypeError"):
        sandbox.launch("x = 1", sandbox.Limits(open_files="many"), way)
    for ended, words in (((137, b"", b""), "killed as a whole"), ((0, b'{"status": "fai', b""), "breaks off")):
        monkeypatch.setattr(sandbox, "_await", lambda *_, ended=ended: ended)
        with pytest.raises(OSError, match=words):
            sandbox.launch("x = 1", sandbox.Limits(), way)


def test_tries_end_with_the_run(way, launched):
    """Ctrl-C does not wait for the next try."""
    launched(lambda program, number: program == "bad")
    stop, began = threading.Event(), time.monotonic()
    stop.set()
    with pytest.raises(CancelledError):
        sandbox.run("bad", stop=stop)
    assert time.monotonic() - began < 5


def test_without_linux_nothing_is_run_and_the_reason_is_said(monkeypatch):
    monkeypatch.setattr(sandbox.sys, "platform", "darwin")
    sandbox._probe.cache_clear()
    try:
        with pytest.raises(UserError, match=r"bubblewrap: it needs Linux; namespaces: it needs Linux"):
            sandbox.run("pass")
    finally:
        sandbox._probe.cache_clear()
