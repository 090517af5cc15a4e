r"""Do two LaTeX answers mean the same? Asked of math-verify, in a process that a bad answer may hang or kill.

math-verify (huggingface/Math-Verify) reads LaTeX with ANTLR and compares with SymPy. Its own time limit is
an alarm clock: it needs a main thread, does not interrupt one long operation in C, and makes a score depend
on how busy the machine is. So the comparison runs in one child process that limits its own CPU time and
memory. What runs into a limit, or crashes, counts as not equal; the next answer gets a fresh process.
"""

import contextlib
import importlib.util
import logging
import multiprocessing
import resource
import sys
from multiprocessing.connection import Connection

from pissa_repro.runtime.errors import UserError

log = logging.getLogger(__name__)
LONGEST = 1_000  # characters of an answer; the longest one of MATH-500 has 53
CPU_SECONDS = 10  # for one pair; the right ones of MATH-500 take 3 ms, wrong ones 15 ms
MEMORY = 4 * 2**30  # bytes of address space of the child

_child: "_Child | None" = None
cut_off = 0  # pairs that ran into a limit or crashed, since the program started


def equivalent(reference: str, answer: str) -> bool:
    r"""Whether math-verify takes the LaTeX `answer` for the LaTeX `reference`; the order matters to it.

    Both are given to it as \boxed{...}: bare LaTeX is read only inside a formula or a box (its README).
    Not equal: an empty answer, one of more than LONGEST characters, one that hangs or crashes it (`cut_off`
    counts those, and a warning says so). Raises UserError where math-verify is not installed.
    """
    global _child, cut_off
    if not answer or len(answer) > LONGEST:
        return False
    _child = _child or _Child()
    try:
        return _child.ask(reference, answer)
    except (EOFError, OSError):  # the child is gone
        _child.close()
        _child = None
    cut_off += 1
    log.warning("math-verify was cut off at the answer %.60r (%d so far)", answer, cut_off)
    return False


class _Child:
    """The process that compares, and the pipe to it."""

    def __init__(self, cpu_seconds: int = CPU_SECONDS):
        if importlib.util.find_spec("math_verify") is None:
            raise UserError("The metric math_verify needs the package math-verify, which is not installed.")
        context = multiprocessing.get_context("spawn")  # a fork would copy threads and the accelerator's state
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, cpu_seconds), daemon=True)
        self.process.start()
        theirs.close()
        self._probe()

    def _probe(self) -> None:
        """A broken installation finds nothing equal, and would pass for a model that knows nothing."""
        try:
            works = self.ask("\\frac{1}{2}", "0.5")
        except EOFError:
            works = False
        if not works:
            self.close()
            raise UserError(
                "math-verify does not work here: it does not take 0.5 for 1/2. Is its antlr4 runtime right?"
            )

    def ask(self, reference: str, answer: str) -> bool:
        self.pipe.send((reference, answer))
        return self.pipe.recv()

    def close(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()


def _serve(pipe: Connection, cpu_seconds: int) -> None:
    """The child: say of each pair whether it is equal, until the parent is gone."""
    import math_verify  # noqa: F401  # now, so that its import does not count against the first pair

    with contextlib.suppress(OSError, ValueError):  # not every system knows this limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a child that the kernel ends leaves no dump
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it warns that its alarm is off
    sys.stderr = open("/dev/null", "w", encoding="utf-8")  # noqa: SIM115  # ANTLR prints every syntax error
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            pair = pipe.recv()
            _limit_cpu(cpu_seconds)
            pipe.send(_verify(*pair))


def _limit_cpu(seconds: int) -> None:
    """The kernel ends this process after so much more CPU time, whatever it is doing."""
    used, hard = resource.getrusage(resource.RUSAGE_SELF), resource.getrlimit(resource.RLIMIT_CPU)[1]
    limit = int(used.ru_utime + used.ru_stime) + 1 + seconds
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def _verify(reference: str, answer: str) -> bool:
    from math_verify import LatexExtractionConfig, parse, verify

    # LaTeX only: with ExprExtractionConfig beside it, a number would be picked out of what cannot be read.
    boxes = (f"\\boxed{{{text}}}" for text in (reference, answer))
    gold, given = (parse(box, [LatexExtractionConfig()], parsing_timeout=None) for box in boxes)
    return bool(verify(gold, given, timeout_seconds=None))
