"""Hostile programs, in every kind of sandbox: nothing outside changes, nothing survives, the caller goes on.

What cannot be had: a program that looks for the token in the frames of the process that it shares with its
tests, or whose results equal everything, passes. The cheap ways (early exits, patched builtins) are shut.
"""

import ctypes
import json
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pissa_repro.grading import sandbox
from pissa_repro.grading.sandbox import Limits
from pissa_repro.runtime.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
# In the checkout and at home, where git does not look: a record that is made meanwhile would say "dirty".
CANARIES = [ROOT / ".pytest_cache" / "canaries", Path.home() / ".cache" / "pissa-repro-canaries"]
SMALL = Limits(memory_mib=256, processes=4, scratch_mib=4, scratch_files=64)
QUICK = replace(SMALL, cpu_seconds=1)  # for what would go on for ever


@pytest.fixture(params=sandbox.KINDS)
def way(request, monkeypatch):
    """Each kind in turn. Without bubblewrap its tests skip; namespaces have to work where the suite runs."""
    if request.param == "bubblewrap" and not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    monkeypatch.setenv(sandbox.FORCE, request.param)
    return request.param


@pytest.fixture(scope="module", autouse=True)
def stale_canaries():
    """Remove those that a killed run left."""
    for folder in CANARIES:
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.iterdir():
            if file.stat().st_mtime < time.time() - 3600:
                file.unlink(missing_ok=True)


class World:
    """What must not change: a file in the temporary folder, one in the checkout and one at home, and their folders."""

    def __init__(self, folder: Path):
        self.mark = f"canary-{secrets.token_hex(4)}"  # also a process name: 15 characters at most
        self.folder = folder / "world"
        self.folder.mkdir()
        self.files = [folder / self.mark for folder in (self.folder, *CANARIES)]
        for file in self.files:
            file.write_text(self.mark)

    def changes(self) -> list[str]:
        lost = [f"{file} changed" for file in self.files if not file.is_file() or file.read_text() != self.mark]
        folders = {file.parent for file in self.files} | {ROOT, Path.home()}
        new = [str(path) for folder in folders for path in folder.glob(f"*{self.mark}-*")]
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


FORGED = "import os\nos.write(3, b'%s')\nos._exit(0)"  # once, where the report goes
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
    "forges a pass": (FORGED % '{"status": "passed", "error": ""}', "left early"),
    "forges a token": (FORGED % '{"token": "1", "status": "passed", "error": ""}', "left early"),
    "forges another end": (FORGED % '{"status": "timed out", "error": ""}', "left early"),
    "forges an unknown end": (FORGED % '{"status": "anything", "error": ""}', "left early"),
    "forges no object": (FORGED % '["passed"]', "left early"),
    "forges too deep a report": (FORGED % ("[" * 16000), "left early"),
    "forges a failure": (FORGED % '{"status": "failed", "error": "x"}', "failed"),
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
    assert found.status == status, found


def test_a_killed_caller_leaves_nothing_behind(way, world):
    """SIGKILL of the calling process, while a program that ignores all signals goes on for ever."""
    text = world.program(HOSTILE["ignores signals"][0])
    code = "from pissa_repro.grading import sandbox as s\n"
    code += f"s.run({text!r}, limits=s.Limits(cpu_seconds=600, wall_seconds=600))"
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


# What reaches past namespaces and limits. The numbers of the calls are those of asm/unistd.h.

LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = {"x86_64": {"add_key": 248, "keyctl": 250}, "aarch64": {"add_key": 217, "keyctl": 219}}
NUMBERS = NUMBERS.get(platform.machine())
filtered = pytest.mark.skipif(not NUMBERS, reason="no filter on this machine, which the weaknesses say")
JOIN, READ, DESCRIBE, SESSION = 1, 11, 6, -3  # <linux/keyctl.h>


@pytest.fixture
def keyring():
    """This process in a session's keyring of its own, with one key: the keyring, the key, the key's name."""
    name = secrets.token_hex(8).encode()
    ring = LIBC.syscall(NUMBERS["keyctl"], JOIN, b"ring-" + name)
    key = LIBC.syscall(NUMBERS["add_key"], b"user", name, b"SECRET", ctypes.c_size_t(6), SESSION)
    if ring < 0 or key < 0:
        pytest.skip("no keyrings here")
    yield ring, key, name.decode()
    LIBC.syscall(NUMBERS["keyctl"], JOIN, None)


def keys_in(ring):
    content = ctypes.create_string_buffer(4096)
    size = LIBC.syscall(NUMBERS["keyctl"], READ, ring, content, ctypes.c_size_t(4096))
    return content.raw[:size]


@filtered
def test_the_callers_keyring_is_neither_read_nor_changed(way, keyring):
    ring, key, name = keyring
    before = keys_in(ring)
    program = f"""
import ctypes
libc, content = ctypes.CDLL(None), ctypes.create_string_buffer(64)
assert libc.syscall({NUMBERS["keyctl"]}, {READ}, {key}, content, 64) < 0 and not content.value
assert libc.syscall({NUMBERS["keyctl"]}, {DESCRIBE}, {SESSION}, content, 64) < 0 and not content.value
assert libc.syscall({NUMBERS["add_key"]}, b"user", b"{name}-new", b"x", 1, {SESSION}) < 0
assert libc.syscall({NUMBERS["add_key"] + 1}, b"user", b"{name}", None, {SESSION}) < 0
try: names = open("/proc/keys").read()
except PermissionError: names = ""
assert {name!r} not in names
"""
    found = sandbox.run(program)
    assert found.passed, found
    assert before and keys_in(ring) == before


PAST = {
    "shared memory of System V": "import ctypes\nassert ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600) < 0",
    "semaphores of System V": "import ctypes\nassert ctypes.CDLL(None).semget(0, 1, 0o1600) < 0",
    "queues of System V": "import ctypes\nassert ctypes.CDLL(None).msgget(0, 0o1600) < 0",
    "memfd": "import os\ntry: os.memfd_create('x')\nexcept PermissionError: pass\nelse: raise ValueError",
    "tracing": """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert libc.ptrace(0, 0, 0, 0) < 0 and ctypes.get_errno() == 1
""",
    "sockets that no namespace holds": """
import socket
allowed = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
for family in range(64):
    for kind in (1, 2, 3, 5):
        for make in (socket.socket, socket.socketpair):
            try: make(family, kind)
            except PermissionError: continue
            except OSError: pass
            assert family in allowed, (family, kind, make)
""",
}  # fmt: skip


@filtered
@pytest.mark.parametrize("name", PAST)
def test_what_reaches_past_namespaces_and_limits_is_refused(way, name):
    found = sandbox.run(PAST[name])
    assert found.passed, found


@filtered
@pytest.mark.parametrize("number", [425, 438, 447], ids=["io_uring_setup", "pidfd_getfd", "memfd_secret"])
def test_calls_with_one_number_on_all_machines_are_refused(way, number):
    found = sandbox.run(
        f"import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"assert libc.syscall({number}, 0, 0, 0) < 0 and ctypes.get_errno() == 1, ctypes.get_errno()"
    )
    assert found.passed, found


@filtered
def test_vsock_is_closed(way):
    """It belongs to no network namespace: a listener of this machine, or of the one that hosts it, would be reached."""
    found = sandbox.run("import socket\nsocket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)")
    assert found.status == "failed" and found.error.startswith("PermissionError"), found


USEFUL = {
    "asyncio": "import asyncio\nassert asyncio.run(asyncio.sleep(0, 3)) == 3",
    "a server of its own": """
import asyncio
async def main():
    server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), "x")
    reader, writer = await asyncio.open_unix_connection("x")
    assert await reader.read() == b""
asyncio.run(main())
""",
    "subprocess": "import subprocess\nassert subprocess.check_output([PYTHON, '-c', 'print(3)']) == b'3\\n'",
    "threads": """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool: assert list(pool.map(abs, [-1, -2])) == [1, 2]
""",
    "multiprocessing": """
import multiprocessing
one, two = multiprocessing.Pipe()
process = multiprocessing.get_context("fork").Process(target=one.send, args=(3,))
process.start()
assert two.recv() == 3
process.join()
assert process.exitcode == 0
""",
    "numpy": "import numpy\nassert numpy.linalg.inv(numpy.eye(64) * 2)[0, 0] == 0.5 and numpy.random.default_rng(0)",
    "files": "import tempfile, mmap\nwith tempfile.TemporaryFile() as f: f.truncate(4096); mmap.mmap(f.fileno(), 0)[0]",
}


@pytest.mark.parametrize("name", USEFUL)
def test_what_programs_use_works(way, name):
    found = sandbox.run(f"PYTHON = {os.path.realpath(sys.executable)!r}\n{USEFUL[name]}")
    assert found.passed, found


MANY = """
import json
from pissa_repro.grading import sandbox
program = (
    "import threading, time\\nheld = threading.Event()\\n"
    "threads = [threading.Thread(target=held.wait) for _ in range(5)]\\n"
    "for thread in threads: thread.start()\\ntime.sleep(0.5)\\nheld.set()\\n"
)
limits = sandbox.Limits(processes=8)
found = sandbox.run_many([f"{program}# {n}" for n in range(8)], limits=limits, workers=8)
print(json.dumps([[one.status, one.error] for one in found] + [sandbox.weaknesses()]))
"""
NO_USER_NAMESPACES = """
import ctypes, os, sys
assert ctypes.CDLL(None).unshare(0x10000000 | 0x20000) == 0
print(flush=True)
input()
os.setgid(0)
os.setuid(0)
open("/proc/sys/user/max_user_namespaces", "w").write("0")
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a user namespace many users")


def as_root_of_a_container(users):
    """What MANY finds as root of a user namespace with these users, in which no further one can be made."""
    command = [sys.executable, "-c", NO_USER_NAMESPACES, MANY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout.readline() == b"\n"
        for kind in ("uid", "gid"):
            Path(f"/proc/{process.pid}/{kind}_map").write_text(users)
        *found, weaknesses = json.loads(process.communicate(b"\n")[0])
    return found, any("share the limit on processes" in word for word in weaknesses)


@as_root
def test_without_user_namespaces_each_sandbox_has_a_user_of_its_own(way):
    """The limit on processes counts a user's, and eight programs of six threads are more than it allows one."""
    assert as_root_of_a_container("0 0 70000") == ([["passed", ""]] * 8, False)


@as_root
def test_sandboxes_that_have_to_share_a_user_say_so(way):
    found, told = as_root_of_a_container("0 0 1000\n65534 65534 1")
    assert told and len(found) == 8


def test_ctrl_c_does_not_wait_for_programs_that_run(way, world):
    program = world.program(HOSTILE["ignores signals"][0])
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
        "from pissa_repro.grading import sandbox\nfrom pissa_repro.runtime.errors import UserError\n"
        "from pissa_repro.grading.sandbox import confine\nconfine.renounce()\n"
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
    for words in ("filter of system calls", "cheat", "oom_score_adj"):
        assert any(words in weakness for weakness in found["weaknesses"]), words


def test_a_machine_whose_system_calls_are_not_known_says_so():
    """A process that takes itself for such a machine."""
    code = (
        "import os, types\nfrom pissa_repro.grading.sandbox import confine\n"
        "os.uname = lambda: types.SimpleNamespace(machine='riscv64')\nprint(confine.renounce())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "no filter of system calls here" in done.stdout, done.stderr
