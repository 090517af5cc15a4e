"""A program learns nothing of its caller and reaches nothing; nothing is left when the caller is ended."""

import os
import secrets
import signal
import socket
import subprocess
import sys

import pytest
from world import IGNORES_SIGNALS, eventually

from pissa_repro.grading import sandbox
from pissa_repro.plan.config import ROOT


@pytest.fixture
def listener():
    """A port of this machine and an abstract address that somebody listens on."""
    name = f"\0{secrets.token_hex(8)}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        local.bind(name)
        local.listen()
        yield tcp, local, name


def test_a_killed_caller_leaves_nothing_behind(way, world):
    """SIGKILL of the calling process, while a program that ignores all signals goes on for ever."""
    text = world.program(IGNORES_SIGNALS)
    code = "from pissa_repro.grading import sandbox as s\n"
    code += f"s.run({text!r}, limits=s.Limits(cpu_seconds=600, wall_seconds=600))"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as caller:
        assert eventually(world.survivors), "the program never started"
        caller.kill()
    assert eventually(lambda: not world.survivors())


def test_secrets_of_the_caller(way, monkeypatch):
    monkeypatch.setenv("PISSA_REPRO_TOKEN", "a-secret-of-the-caller")
    program = """
import glob, os
texts = [repr(dict(os.environ))]
for path in glob.glob("/proc/*/environ") + glob.glob("/proc/*/cmdline") + ["/proc/1/environ", "/proc/1/mem"]:
    try: texts.append(open(path, "rb").read().decode("latin-1"))
    except OSError: pass
assert not any("secret-of-the-" + "caller" in text for text in texts), texts
assert set(os.environ) <= {"PYTHONHASHSEED", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PWD", "LC_CTYPE"}, os.environ
"""
    assert sandbox.run(program).passed, sandbox.run(program)


def test_descriptors_of_the_caller(way, tmp_path):
    (tmp_path / "secret").write_text("x", encoding="utf-8")
    with open(tmp_path / "secret", encoding="utf-8") as file:
        os.set_inheritable(file.fileno(), True)
        found = sandbox.run(
            "import os\nassert set(os.listdir('/proc/self/fd')) <= set('01234')\nassert not os.read(0, 9)"
        )
    assert found.passed, found  # three streams, the pipe, and the folder being listed


def test_no_network(way, listener):
    tcp, local, name = listener
    program = f"""
import socket
def tries():
    yield lambda: socket.create_connection(("127.0.0.1", {tcp.getsockname()[1]}), 2)
    yield lambda: socket.socket(socket.AF_UNIX).connect({name!r})
    yield lambda: socket.create_connection(("192.0.2.1", 80), 2)
    yield lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53))
    yield lambda: socket.getaddrinfo("example.org", 80)
for act in tries():
    try: act()
    except OSError: continue
    raise ValueError("reached")
"""
    assert sandbox.run(program).passed, sandbox.run(program)
    for server in (tcp, local):
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_the_scratch_folder_is_fresh(way):
    program = (
        "import os\nassert os.getcwd() == '/tmp' and not os.listdir()\nopen('x', 'w')\nassert os.listdir() == ['x']"
    )
    for _ in range(2):
        assert sandbox.run(program).passed


def test_nothing_stays_in_the_temporary_folder(way, world, tmp_path):
    """After a pass, after a program that had to be ended, and after SIGKILL of the caller."""
    endless = world.program("while True: pass")
    code = (
        "from pissa_repro.grading import sandbox as s\nassert s.run('').passed\n"
        "assert s.run('while True: pass', limits=s.Limits(cpu_seconds=1)).status == 'timed out'\n"
        f"s.run({endless!r}, limits=s.Limits(cpu_seconds=600, wall_seconds=600))"
    )
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment) as caller:
        try:
            assert eventually(world.survivors), "the program never started"
        finally:
            caller.kill()
    assert eventually(lambda: not world.survivors())
    assert list((tmp_path / "temporary").iterdir()) == []


def test_ctrl_c_does_not_wait_for_programs_that_run(way, world):
    program = world.program(IGNORES_SIGNALS)
    code = (
        "from pissa_repro.grading import sandbox as s\nlimits = s.Limits(cpu_seconds=600, wall_seconds=600)\n"
        f"s.run_many([{program!r} + '# ' * n for n in range(6)], workers=2, limits=limits)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE) as caller:
        try:
            assert eventually(lambda: len(world.survivors()) == 2), "the programs never started"
            caller.send_signal(signal.SIGINT)
            said = caller.communicate(timeout=120)[1]
        finally:
            caller.kill()
    assert b"KeyboardInterrupt" in said
    assert eventually(lambda: not world.survivors())
