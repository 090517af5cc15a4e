"""Hostile programs, in every kind of sandbox: nothing outside changes, nothing survives, the caller goes on.

What cannot be had: a program that looks for the token in the frames of the process that it shares with its
tests, or whose results equal everything, passes. The cheap ways (early exits, patched builtins) are shut.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pissa_repro import sandbox
from pissa_repro.errors import UserError
from pissa_repro.sandbox import Limits

ROOT = Path(__file__).resolve().parent.parent
SMALL = Limits(memory_mib=256, processes=4, scratch_mib=4, scratch_files=64)
QUICK = replace(SMALL, cpu_seconds=1)  # for what would go on for ever


@pytest.fixture(params=sandbox.KINDS)
def way(request, monkeypatch):
    """Each kind in turn. Without bubblewrap its tests skip; namespaces have to work where the suite runs."""
    if request.param == "bubblewrap" and not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    monkeypatch.setenv(sandbox.FORCE, request.param)
    return request.param


class World:
    """What must not change: a file in the temporary folder, one in the checkout and one at home, and their folders."""

    def __init__(self, folder: Path):
        self.mark = f"canary-{secrets.token_hex(4)}"  # also a process name: 15 characters at most
        self.folder = folder / "world"
        self.folder.mkdir()
        self.files = [self.folder / self.mark, ROOT / f".{self.mark}", Path.home() / f".{self.mark}"]
        for file in self.files:
            file.write_text(self.mark)

    def changes(self) -> list[str]:
        lost = [f"{file} changed" for file in self.files if not file.is_file() or file.read_text() != self.mark]
        new = [str(path) for file in self.files for path in file.parent.glob(f"*{self.mark}-*")]
        return lost + new

    def survivors(self) -> list[str]:
        """Processes of this machine that a program has named after the mark."""
        names = Path("/proc").glob("[0-9]*/comm")
        return [str(name) for name in names if self.mark in _read(name)]

    def program(self, text: str) -> str:
        """The program, with PATHS (of the files) and MARK (written to /proc/self/comm too, for `survivors`)."""
        head = f"PATHS = {[str(file) for file in self.files]!r}\nMARK = {self.mark!r}\n"
        return head + "open('/proc/self/comm', 'w').write(MARK)\n" + text


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has just ended
        return ""


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    for file in made.files:
        file.unlink(missing_ok=True)


@pytest.fixture
def listener():
    """A port of this machine and an abstract address that somebody listens on."""
    name = f"\0{secrets.token_hex(8)}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        local.bind(name)
        local.listen()
        yield tcp, local, name


# name: program, the status that it must end with
HOSTILE = {
    "infinite loop": ("while True: pass", "timed out"),
    "ignores signals": (
        """
import signal
for number in range(1, 65):
    try: signal.signal(number, lambda *_: None)
    except (OSError, ValueError): pass
while True: pass
""",
        "timed out",
    ),
    "fork bomb": ("import os\nwhile True: os.fork()", "failed"),
    "fork bomb that goes on": (
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        "timed out",
    ),
    "thread bomb": (
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(99,)).start()",
        "failed",
    ),
    "memory bomb": ("x = []\nwhile True: x.append(bytearray(1 << 24))", "out of memory"),
    "memory bomb at once": ("x = ' ' * (1 << 40)", "out of memory"),
    "memory bomb by mmap": ("import mmap\nx = [mmap.mmap(-1, 1 << 28) for _ in range(1000)]", "failed"),
    "huge file": (
        """
size = 0
try:
    with open("big", "wb", buffering=0) as file:
        while size < 1 << 28: size += file.write(bytes(1 << 20))
except OSError: pass
assert size <= 4 << 20, size
""",
        "passed",
    ),
    "many large files": (
        """
size = 0
try:
    for number in range(64):
        with open(f"big{number}", "wb", buffering=0) as file: size += file.write(bytes(1 << 20))
except OSError: pass
assert size <= 4 << 20, size
""",
        "passed",
    ),
    "writes outside": (
        """
import os
done = []
folders = [os.path.dirname(path) for path in PATHS] + "/ /etc /usr /usr/lib /dev /dev/shm /proc /root /var/tmp".split()
for path in PATHS + [f"{folder}/.{MARK}-new" for folder in folders]:
    for mode in "wa":
        try: open(path, mode).write("x"); done.append(path)
        except OSError: pass
    try: os.makedirs(path); done.append(path)
    except OSError: pass
allowed = [path for path in done if path.startswith("/tmp/")]  # its own /tmp, whatever the path is like
assert done == allowed, done
""",
        "passed",
    ),
    "deletes outside": (
        """
import os, shutil
for path in PATHS + [os.__file__, "/usr/lib/os-release", "/usr", "/etc"]:
    move, empty = (lambda path: os.rename(path, "/tmp/x")), (lambda path: os.truncate(path, 0))
    for delete in (os.remove, os.rmdir, shutil.rmtree, move, empty):
        try: delete(path)
        except OSError: continue
        raise ValueError(path)
assert os.path.getsize(os.__file__)
""",
        "passed",
    ),
    "escapes by .. and links": (
        """
import os
for number, path in enumerate(PATHS):
    ways = ["../" * 40 + path, "/proc/self/root" + path, "/proc/1/root" + path, "/proc/1/cwd/" + "../" * 40 + path]
    os.symlink(path, f"/tmp/link{number}")
    ways.append(f"/tmp/link{number}")
    for way in ways:
        try: text = open(way).read()
        except OSError: continue
        raise ValueError(way)
    try: os.link(path, f"/tmp/hard{number}")
    except OSError: continue
    raise ValueError(path)
""",
        "passed",
    ),
    "sees the host's folders": (
        """
import os
seen = [path for path in PATHS if os.path.exists(path)] + os.listdir("/tmp")
assert not seen and not os.path.exists("/etc/passwd") and not os.path.exists("/etc/hostname"), seen
""",
        "passed",
    ),
    "takes more rights": (
        """
import ctypes, os
libc = ctypes.CDLL(None)
for number in (0x10000000, 0x20000, 0x10020000): assert libc.unshare(number) < 0
assert libc.mount(b"none", b"/tmp", b"tmpfs", 0, b"") < 0 and libc.umount2(b"/proc", 2) < 0
assert libc.ptrace(16, 1, 0, 0) < 0 and libc.sethostname(b"x", 1) < 0
for act in (lambda: os.setuid(0), lambda: os.chroot("/tmp"), lambda: os.open("/proc/1/mem", 2)):
    try: act()
    except OSError: continue
    raise ValueError(act)
""",
        "passed",
    ),
    "kills what it can": (
        """
import os, signal
for process in (os.getppid(), 1, -1):
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP):
        try: os.kill(process, number)
        except OSError: pass
""",
        "passed",
    ),
    "daemon that survives": (
        """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if os.fork() == 0:
        os.closerange(0, 64)
        while True:
            for path in PATHS:
                try: open(path + "-late", "w").write("x")
                except OSError: pass
            time.sleep(0.01)
    os._exit(0)
time.sleep(0.1)
""",
        "passed",
    ),
    "exits at once": ("import os\nos._exit(0)", "left early"),
    "exits politely": ("import sys\nsys.exit(0)", "left early"),
    "raises SystemExit": ("raise SystemExit", "left early"),
    "becomes another program": (
        f"import os\nos.execv({os.path.realpath(sys.executable)!r}, ['python', '-c', ''])",
        "left early",
    ),
    "kills itself": ("import os\nos.kill(os.getpid(), 9)", "killed"),
    "aborts": ("import os\nos.abort()", "killed"),
    "segfault": ("import ctypes\nctypes.string_at(0)", "killed"),
    "deep recursion": ("def f(): return f()\nf()", "failed"),
    "a child ends it": ("import os\nif os.fork(): os._exit(0)", "left early"),
    "floods its output": (
        "import sys\nfor _ in range(200):\n    print('x' * (1 << 20))\n    print('x' * (1 << 20), file=sys.stderr)",
        "passed",
    ),
    "forges the report": (
        """
import os
for descriptor in range(64):
    try: os.write(descriptor, b'{"token": "1", "status": "passed", "error": ""}' * (descriptor % 2 + 1))
    except OSError: pass
os._exit(0)
""",
        None,  # its own word is taken for anything but a pass: see the test
    ),
    "closes descriptors": ("import os\nos.closerange(0, 4096)", "left early"),
    "patches what judges it": (
        """
import builtins, json, os, sys
def check(candidate): pass
os._exit = os.write = os.getpid = json.dumps = builtins.exec = builtins.compile = lambda *_, **__: 0
builtins.AssertionError = sys.excepthook = None
sys.modules.clear()
def check(candidate): assert candidate() == 1
check(lambda: 2)
""",
        "left early",
    ),
    "an error that will not be told": (
        "class E(Exception):\n    def __str__(self): raise KeyError\nraise E",
        "left early",
    ),
    "reads standard input": ("input()", "failed"),
    "sleeps": ("import time\ntime.sleep(10_000)", "timed out"),
    "fills the report's pipe": (
        "import os\nfor n in range(3, 64):\n    try: os.write(n, bytes(1 << 20))\n    except OSError: pass",
        "timed out",
    ),
}  # fmt: skip
WAITING = ("sleeps", "fills the report's pipe")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_changes_nothing_outside(name, way, world):
    text, status = HOSTILE[name]
    limits = replace(SMALL, wall_seconds=2) if name in WAITING else QUICK if status == "timed out" else SMALL
    found = sandbox.run(world.program(text), limits=limits)
    assert world.changes() == [] and world.survivors() == []
    assert sandbox.run("x = 1").passed, "the caller cannot go on"
    if status:
        assert found.status == status, found
    else:
        assert not found.passed


def test_a_killed_caller_leaves_nothing_behind(way, world):
    """SIGKILL of the calling process, while a program that ignores all signals goes on for ever."""
    text = world.program(HOSTILE["ignores signals"][0])
    code = f"from pissa_repro import sandbox as s\ns.run({text!r}, limits=s.Limits(cpu_seconds=600, wall_seconds=600))"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as caller:
        assert eventually(world.survivors), "the program never started"
        caller.kill()
    assert eventually(lambda: not world.survivors())


def eventually(condition):
    """Whether it holds within a minute."""
    end = time.monotonic() + 60
    while not (held := bool(condition())) and time.monotonic() < end:
        time.sleep(0.05)
    return held


def test_the_number_of_files(way, world):
    """Without bubblewrap; with it their number is a stated weakness."""
    text = "import os\ntry:\n    for n in range(3000): open(f'{n}', 'w').close()\nexcept OSError: pass\n"
    found = sandbox.run(world.program(text + "assert len(os.listdir()) <= 64"), limits=SMALL)
    assert found.passed == (way == "namespaces")
    assert any("number of files" in word for word in sandbox.weaknesses()) == (way == "bubblewrap")
    assert world.changes() == []


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
    (tmp_path / "secret").write_text("x")
    with open(tmp_path / "secret") as file:
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


def test_the_scratch_folder_is_fresh_and_goes(way, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    program = (
        "import os\nassert os.getcwd() == '/tmp' and not os.listdir()\nopen('x', 'w')\nassert os.listdir() == ['x']"
    )
    for _ in range(2):
        assert sandbox.run(program).passed
    assert sandbox.run("while True: pass", limits=QUICK).status == "timed out"
    assert list(tmp_path.iterdir()) == []


NO_JSON = "Expecting value: line 1 column 1 (char 0)"
NO_UTF8 = r"'utf-8' codec can't encode character '\ud800' in position 7: surrogates not allowed"
ENDS = [
    ("x = 1\n1 / 0\n", "failed", "ZeroDivisionError: division by zero at line 2: 1 / 0"),
    ("def f(x):\n    assert x\n\nf(0)", "failed", "AssertionError:  at line 2: assert x"),
    ("def f(:", "failed", "SyntaxError: invalid syntax (<program>, line 1) at line 1: def f(:"),
    ("import json\njson.loads('x')", "failed", "JSONDecodeError: " + NO_JSON + " at line 2: json.loads('x')"),
    ("import os\nos._exit(7)", "left early", "exit status 7"),
    ("raise SystemExit('bye')", "left early", "SystemExit('bye')"),
    ("import ctypes\nctypes.string_at(0)", "killed", "SIGSEGV"),
    ("raise KeyboardInterrupt", "failed", "KeyboardInterrupt:  at line 1: raise KeyboardInterrupt"),
    ("", "passed", ""),
    ("x = 'é\u2028'\nassert len(x) == 2", "passed", ""),
    ("print('\ud800')", "failed", "UnicodeEncodeError: " + NO_UTF8),
    ("if __name__ == '__main__':\n    1 / 0", "passed", ""),
    ("from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\nclass A: x: int", "passed", ""),
    ("import numpy\nassert numpy.ones((50, 50)).dot(numpy.ones(50))[0] == 50", "passed", ""),
    ("import threading\nthreading.Thread(target=print).start()", "passed", ""),
]  # fmt: skip


@pytest.mark.parametrize(("program", "status", "error"), ENDS, ids=[repr(case[0])[:30] for case in ENDS])
def test_how_a_program_ended(way, program, status, error):
    found = sandbox.run(program)
    assert (found.status, found.error, found.passed) == (status, error, status == "passed")
    assert found.seconds >= 0


def test_an_error_is_short(way):
    assert len(sandbox.run("raise ValueError('x' * 10 ** 7)").error) <= 500


def test_a_program_without_end_of_tests_is_no_pass(way):
    """The pass is what is written after the last line, so that tests which never ran do not count."""
    tests = "\nassert solve() == 1\n"
    for body in ("import os; os._exit(0)", "import sys; sys.exit()", "quit()", "exit(0)", "raise SystemExit(0)"):
        assert not sandbox.run(f"{body}\ndef solve(): return 2{tests}").passed
    assert sandbox.run(f"def solve(): return 1{tests}").passed


def test_sets_have_the_same_order_in_every_run(way):
    program = "raise ValueError(list({'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'}))"
    assert len({sandbox.run(program).error for _ in range(3)}) == 1


def test_many_programs_side_by_side(way, monkeypatch):
    monkeypatch.setattr(sandbox, "_outcomes", {})
    seen = []
    programs = [f"assert {n} % 3" for n in range(12)] + ["assert 1 % 3"]

    def progress(jobs, label, total):
        seen.append((label, total))
        yield from jobs

    found = sandbox.run_many(programs, workers=4, progress=progress)
    assert [one.passed for one in found] == [bool(n % 3) for n in range(12)] + [True]
    assert seen == [("programs", 12)], "an equal program ran twice"
    assert found[1] is found[12] is sandbox.outcome("assert 1 % 3"), "a known outcome was made again"
    assert sandbox.outcome("assert 1 % 3", limits=QUICK) is not found[1], "other limits are another run"


def test_no_sandbox_no_run(tmp_path):
    """In a process that may make no namespaces, and with a bwrap that cannot either: a refusal, and nothing runs."""
    program = f"open({str(tmp_path / 'made')!r}, 'w')"
    code = (
        "from pissa_repro import sandbox\nfrom pissa_repro.errors import UserError\n"
        "from pissa_repro.sandbox import inside\ninside.renounce()\n"
        f"try: sandbox.run({program!r})\nexcept UserError as error: print(error)"
    )
    tmp_path.chmod(0o777)
    environment = {name: value for name, value in os.environ.items() if name != sandbox.FORCE}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert "Install bubblewrap" in done.stdout and "namespaces: " in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_forced_kind_has_to_be_known_and_to_work(monkeypatch):
    monkeypatch.setenv(sandbox.FORCE, "bubblewarp")
    with pytest.raises(UserError, match="PISSA_REPRO_SANDBOX.*'bubblewarp'.*Did you mean 'bubblewrap'"):
        sandbox.kind()
    monkeypatch.setenv(sandbox.FORCE, "bubblewrap")
    monkeypatch.setenv("PATH", "/nonexistent")
    sandbox._probe.cache_clear()
    try:
        with pytest.raises(UserError, match="Install bubblewrap.*bubblewrap is not installed"):
            sandbox.kind()
    finally:
        sandbox._probe.cache_clear()


def test_what_goes_into_the_record(way):
    found = sandbox.facts()
    assert found["kind"] == way and found["limits"]["cpu_seconds"] == 20
    assert any("system calls" in word for word in found["weaknesses"])
