"""How a program ended, programs side by side, and the choice of the sandbox."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from world import QUICK

from pissa_repro.grading import sandbox
from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.errors import UserError

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
            Path(f"/proc/{process.pid}/{kind}_map").write_text(users, encoding="utf-8")
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
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT, env=environment
    )
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
