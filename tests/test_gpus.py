"""Cards are shared between jobs by locks; no card is needed to test that."""

import os
import subprocess
import sys
import time

import pytest

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import UserError

TAKE = (
    "from pissa_repro.runtime import gpus; gpus.take({}); "
    "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); {}"
)


def job(folder, count: int, after: str = "") -> subprocess.Popen:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "4,7", "TMPDIR": str(folder)}
    environment.pop("LOCAL_RANK", None)
    command = [sys.executable, "-c", TAKE.format(count, after)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def test_jobs_side_by_side_get_cards_of_their_own_and_a_third_waits(tmp_path):
    first, second = job(tmp_path, 1, "input()"), job(tmp_path, 1, "input()")
    assert {first.stdout.readline().strip(), second.stdout.readline().strip()} == {"4", "7"}
    third = job(tmp_path, 1)
    time.sleep(0.5)
    assert third.poll() is None, "no card is free"
    first.communicate("\n")
    assert third.communicate(timeout=30)[0].strip() in {"4", "7"}
    second.communicate("\n")


def test_a_killed_job_frees_its_cards_and_an_exec_keeps_them(tmp_path):
    run_on = "import sys; os.execv(sys.executable, [sys.executable, '-c', 'print(1, flush=True); input()'])"
    first = job(tmp_path, 2, run_on)
    assert [first.stdout.readline().strip() for _ in range(2)] == ["4,7", "1"]
    second = job(tmp_path, 1)
    time.sleep(0.5)
    assert second.poll() is None
    first.kill()
    assert second.communicate(timeout=30)[0].strip() in {"4", "7"}


def test_a_process_that_holds_a_card_does_not_wait_for_itself(tmp_path):
    assert job(tmp_path, 1, "gpus.take(1)").communicate(timeout=30)[0].strip() == "4"


def test_zero_cards_hides_all_and_too_many_are_refused(tmp_path, monkeypatch):
    assert job(tmp_path, 0).communicate()[0].strip() == ""
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(UserError, match="2 asked for, this machine shows 1"):
        gpus.take(2)
