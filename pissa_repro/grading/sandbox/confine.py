"""What confines a process: namespaces, a root folder of its own, no rights, a filter of system calls, limits.

Standard library only: play.py, which uses it, runs where the checkout is not there to read.
"""

import ctypes
import errno
import os
import resource
import signal
import struct
from collections.abc import Iterator

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
NOSUID, NODEV, NOEXEC, BIND, REC, PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18  # <sys/mount.h>
ATTR_READ_ONLY, RECURSIVE, MOUNT_SETATTR = 1, 0x8000, 442  # the system call has this number everywhere
DEATH_SIGNAL, DUMPABLE, SECCOMP, NO_NEW_PRIVILEGES = 1, 4, 22, 38  # <sys/prctl.h>
BASE = "/sys"  # where the new root is built: there on every Linux, and nothing that a program needs lies in it
NOBODY = 65534

LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """A C function whose negative result is an error."""
    if getattr(LIBC, name)(*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())


def read_only(path: str, recursive: bool) -> None:
    """Make a mount read-only, set-uid programs without effect; with `recursive` those below it too."""
    attributes = (ctypes.c_uint64 * 4)(ATTR_READ_ONLY | NOSUID, 0, 0, 0)
    flags = RECURSIVE if recursive else 0
    call("syscall", ctypes.c_long(MOUNT_SETATTR), -100, path.encode(), flags, attributes, ctypes.c_size_t(32))


def own_user_namespace() -> None:
    """A user namespace in which this user is itself, and in which no further one can be made."""
    user, group = os.getuid(), os.getgid()
    call("unshare", NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    with open("/proc/sys/user/max_user_namespaces", "w", encoding="utf-8") as file:
        file.write("0")


def users() -> tuple[int, int]:
    """The longest range of users of this namespace: the first, and how many."""
    with open("/proc/self/uid_map", encoding="utf-8") as file:
        first, _, count = max((tuple(map(int, line.split())) for line in file), key=lambda row: row[2])
    return first, count


def stranger() -> int:
    """A user that nobody is, so that the limit on processes counts this sandbox alone; nobody, where users are few."""
    first, count = users()
    if count < 1 << 16:
        return NOBODY
    drawn = int.from_bytes(os.urandom(4), "big") % (count // 4)
    return first + count - 2 - drawn  # the highest number of all is no user


def drop_root() -> None:
    """Become a stranger, if this is root: the limit on processes does not hold for root."""
    if os.geteuid() == 0:
        user = stranger()
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        call("prctl", DUMPABLE, 1, 0, 0, 0)  # or /proc/self is root's


def isolate() -> None:
    """New namespaces of every kind; as root without a user namespace, which is made later, by a stranger."""
    flags = NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS
    try:
        if os.geteuid() == 0:
            call("unshare", flags)
            return
    except OSError:  # root without the rights of root, as in most containers
        drop_root()
    own_user_namespace()
    call("unshare", flags)


def build_root(mounts: list[tuple[str, str]], scratch_mib: int, scratch_files: int) -> None:
    """A root folder with nothing but the mounts, five devices, /proc and /tmp; then enter it.

    All mounts are private: the host sees none of them, and nothing is left there however this ends.
    """
    base = BASE
    os.umask(0o022)
    mount("none", "/", "", REC | PRIVATE)
    mount("tmpfs", base, "tmpfs", NOSUID | NODEV, "mode=755,size=1m,nr_inodes=1000")
    for source, target in mounts:
        bind(source, base + target)
    for name in ("null", "zero", "full", "random", "urandom"):
        bind(f"/dev/{name}", f"{base}/dev/{name}")
    options = f"mode=1777,size={scratch_mib}m,nr_inodes={scratch_files}"
    for name, kind, given in (("tmp", "tmpfs", options), ("proc", "proc", "")):
        os.mkdir(f"{base}/{name}")
        mount(kind, f"{base}/{name}", kind, NOSUID | NODEV | (NOEXEC if kind == "proc" else 0), given)
    if os.path.exists("/proc/keys"):  # the names of the caller's keys
        bind("/dev/null", f"{base}/proc/keys")
    read_only(base, recursive=False)
    os.chdir(base)
    call("pivot_root", b".", b".")  # the old root lies over the new one now
    call("umount2", b".", 2)  # lazily: some of it is in use
    os.chdir("/")


def bind(source: str, target: str) -> None:
    """Show a file or folder of the host at `target`, read-only; a link as a link."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT, 0o644))
    mount(source, target, "", BIND | REC)
    read_only(target, recursive=True)


def renounce() -> list[str]:
    """Drop all rights for good: no root, no capabilities, no way to get new ones. Returns what could not be had."""
    drop_root()
    lacks = []
    try:
        own_user_namespace()
    except OSError as error:  # already in one that allows no further one, or the host allows none
        if error.errno not in (errno.ENOSPC, errno.EPERM, errno.EUSERS):
            raise
        if os.getuid() == NOBODY and users()[1] > 1:
            lacks.append("programs that run side by side are one user and share the limit on processes")
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    call("capset", header, none)
    call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    call("prctl", DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if not filter_calls():
        lacks.append("no filter of system calls here: keyrings and memory that no limit counts are within reach")
    call("prctl", DUMPABLE, 0, 0, 0, 0)  # the player shares our user, and shall not read our memory
    return lacks


# Numbers of system calls (asm/unistd.h) by machine; `audit` is its AUDIT_ARCH (linux/audit.h).
MACHINES = {
    "x86_64": {
        "audit": 0xC000003E, "socket": 41, "socketpair": 53, "shmget": 29, "semget": 64, "msgget": 68, "ptrace": 101,
        "add_key": 248, "request_key": 249, "keyctl": 250, "perf_event_open": 298, "prlimit64": 302,
        "process_vm_readv": 310, "process_vm_writev": 311, "memfd_create": 319, "bpf": 321, "userfaultfd": 323,
    },
    "aarch64": {
        "audit": 0xC00000B7, "socket": 198, "socketpair": 199, "shmget": 194, "semget": 190, "msgget": 186,
        "ptrace": 117, "add_key": 217, "request_key": 218, "keyctl": 219, "perf_event_open": 241,
        "prlimit64": 261, "process_vm_readv": 270, "process_vm_writev": 271, "memfd_create": 279, "bpf": 280,
        "userfaultfd": 282,
    },
}  # fmt: skip
EVERYWHERE = {"io_uring_setup": 425, "pidfd_getfd": 438, "memfd_secret": 447}
FAMILIES = (1, 2, 10, 16)  # unix, inet, inet6, netlink: those that a network namespace holds, unlike vsock
SOME = ("audit", "prlimit64", "socket", "socketpair")  # those of which a part is refused
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06  # <linux/bpf_common.h>
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM  # <linux/seccomp.h>
NUMBER, MACHINE, FIRST_ARGUMENT = 0, 4, 16  # places in struct seccomp_data


def filter_calls() -> bool:
    """Refuse, for good, the system calls whose effects no namespace and no limit holds. False where that cannot be.

    Keyrings are the caller's own; System V's and memfd's memory is in no limit; the rest is a wide way into the kernel
    or into other processes. Without the first call of a family (shmget, io_uring_setup) the others have no object.
    """
    calls = {**EVERYWHERE, **MACHINES.get(os.uname().machine, {})}
    if "audit" not in calls or struct.calcsize("P") != 8:
        return False
    code = b"".join(struct.pack("HBBI", *step) for step in steps(calls))
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(code) // 8, ctypes.addressof(held))
    return LIBC.prctl(SECCOMP, 2, program, 0, 0) == 0


def steps(calls: dict[str, int]) -> Iterator[tuple[int, int, int, int]]:
    """The filter: (operation, steps to skip if it holds, steps to skip if not, operand) each."""
    machine, limits, *sockets = (calls[name] for name in SOME)
    refused = [number for name, number in calls.items() if name not in SOME]
    refuse, allow = (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)
    yield from [(LOAD, 0, 0, MACHINE), (EQUAL, 1, 0, machine), refuse]  # 32-bit programs have other numbers
    yield from [(LOAD, 0, 0, NUMBER), (AT_LEAST, 0, 1, 1 << 30), refuse]  # so has x32
    for number in refused:
        yield from [(EQUAL, 0, 1, number), refuse]
    # Limits of another process, the keeper's say: only 0, this one.
    yield from [(EQUAL, 0, 4, limits), (LOAD, 0, 0, FIRST_ARGUMENT), (EQUAL, 0, 1, 0), allow, refuse]
    yield from [(EQUAL, 2, 0, sockets[0]), (EQUAL, 1, 0, sockets[1]), allow, (LOAD, 0, 0, FIRST_ARGUMENT)]
    for family in FAMILIES:
        yield from [(EQUAL, 0, 1, family), allow]
    yield refuse


def limit(limits: dict[str, int]) -> None:
    """The kernel's limits on this process; each also holds for what it starts."""
    mib = 1 << 20
    wanted = {
        resource.RLIMIT_CPU: limits["cpu_seconds"],
        resource.RLIMIT_AS: limits["memory_mib"] * mib,
        resource.RLIMIT_FSIZE: limits["scratch_mib"] * mib,
        resource.RLIMIT_NPROC: limits["processes"],
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
