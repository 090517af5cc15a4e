"""The filter of system calls: what reaches past namespaces and limits is refused, what programs use works."""

import ctypes
import os
import platform
import secrets
import subprocess
import sys

import pytest

from pissa_repro.grading import sandbox
from pissa_repro.plan.config import ROOT

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


def test_a_machine_whose_system_calls_are_not_known_says_so():
    """A process that takes itself for such a machine."""
    code = (
        "import os, types\nfrom pissa_repro.grading.sandbox import confine\n"
        "os.uname = lambda: types.SimpleNamespace(machine='riscv64')\nprint(confine.renounce())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT)
    assert "no filter of system calls here" in done.stdout, done.stderr
