"""Hostile programs, in every kind of sandbox: nothing outside changes, nothing survives, the caller goes on.

What cannot be had: a program that looks for the token in the frames of the process that it shares with its
tests, or whose results equal everything, passes. The cheap ways (early exits, patched builtins) are shut.
"""

import os
import sys
from dataclasses import replace

import pytest
from world import IGNORES_SIGNALS, QUICK, SMALL

from pissa_repro.grading import sandbox

FORGED = "import os\nos.write(3, b'%s')\nos._exit(0)"  # once, where the report goes
# name: program, the status that it must end with
HOSTILE = {
    "infinite loop": ("while True: pass", "timed out"),
    "ignores signals": (IGNORES_SIGNALS, "timed out"),
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


def test_the_number_of_files(way, world):
    """Without bubblewrap; with it their number is a stated weakness."""
    text = "import os\ntry:\n    for n in range(3000): open(f'{n}', 'w').close()\nexcept OSError: pass\n"
    found = sandbox.run(world.program(text + "assert len(os.listdir()) <= 64"), limits=SMALL)
    assert found.passed == (way == "namespaces")
    assert any("number of files" in word for word in sandbox.weaknesses()) == (way == "bubblewrap")
    assert world.changes() == []
