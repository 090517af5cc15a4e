"""Cards are shared between jobs by locks; no card is needed to test that."""

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pissa_repro.plan.config import ROOT
from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import UserError

TORCH = (  # a torch that sees what it is shown, on a machine without cards
    "import os, sys, types; torch = sys.modules['torch'] = types.SimpleNamespace(); "
    "torch.cuda = types.SimpleNamespace(is_available=lambda: True, "
    "device_count=lambda: len(os.environ['CUDA_VISIBLE_DEVICES'].split(','))); "
)
TAKE = TORCH + (
    "from pathlib import Path; from pissa_repro.runtime import gpus; gpus.LOCKS = Path({!r}); gpus.take({}); "
    "print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); {}"
)


def environment(shown: str = "4,7") -> dict[str, str]:
    """Of a process that is shown these cards."""
    ours = {key: value for key, value in os.environ.items() if key != "LOCAL_RANK"}
    return ours | {"CUDA_VISIBLE_DEVICES": shown}


def job(folder, count: int, after: str = "", shown: str = "4,7") -> subprocess.Popen:
    """A process that takes cards, says which, and then does something."""
    command = [sys.executable, "-c", TAKE.format(str(folder), count, after)]
    return subprocess.Popen(
        command,
        env=environment(shown),
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        encoding="utf-8",
        cwd=ROOT,
    )


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


@pytest.mark.parametrize(
    ("named", "cards"),
    [
        ("0,1", ["0", "1"]), (" 2, 0", ["2", "0"]), ("1gpu2,2ampere", ["1", "2"]), ("+1,02", ["1", "2"]),
        ("", []), ("-1", []), ("NoDevFiles", []), ("none", []), ("all", []), ("0,-1,1", ["0"]), ("0,,1", ["0"]),
        (",0", []), ("0,0", []), ("0,00", []), ("0,x,0", ["0"]), ("0,GPU-1", ["0"]),
        ("GPU-8f2e,GPU-77aa", ["GPU-8f2e", "GPU-77aa"]), ("GPU-8f2e,1", ["GPU-8f2e"]), ("GPU-8f2e,GPU-8f2e", []),
        ("MIG-3c1a,MIG-GPU-8f2e/1/0", ["MIG-3c1a", "MIG-GPU-8f2e/1/0"]), ("MIG-3c1a,GPU-8f2e", ["MIG-3c1a"]),
    ],
)  # fmt: skip
def test_the_names_of_cards_are_read_by_the_rules_of_cuda(monkeypatch, named, cards):
    """Case 7: and so as torch reads them."""
    from torch.cuda import _parse_visible_devices

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert gpus.visible() == cards == [str(card) for card in _parse_visible_devices()]


def test_a_card_whose_name_holds_a_slash_is_taken(tmp_path):
    """Case 7: the older names of MIG devices."""
    name = "MIG-GPU-8f2e/1/0"
    assert job(tmp_path, 1, shown=name).communicate(timeout=30)[0].strip() == name


STAGES = {
    "statistics": ["--spec", "{}", "--model", "gone.json", "--data", "gone", "--out", "out"],
    "init": ["--spec", "{}", "--model", "gone.json", "--out", "out"],
    "quant_error": ["--spec", "{}", "--model", "gone.json", "--factors", "gone", "--out", "out"],
    "study_errors": ["--spec", "{}", "--model", "gone.json", "--out", "out", "--record", "out"],
    "study_spectra": ["--spec", "{}", "--model", "gone.json", "--out", "out"],
    "study_solvers": ["--spec", "{}", "--model", "gone.json", "--out", "out", "--record", "out"],
    "study_gptq": ["--spec", "{}", "--model", "gone.json", "--calibration", "gone", "--text", "gone", "--out", "out"],
    "study_updates": ["--spec", "{}", "--model", "gone.json", "--trained", "gone", "--out", "out"],
    "study_gradients": ["--spec", "{}", "--model", "gone.json", "--data", "gone", "--out", "out"],
    "train": ["--spec", "{}", "--model", "gone.json", "--data", "gone", "--scratch", "scratch", "--trained", "out",
              "--record", "out", "--steps", "out"],
    "generate": ["--spec", '{"backend": "hf"}', "--model", "gone.json", "--out", "out"],
    "evaluate": ["--spec", '{"generate": {"backend": "hf"}}', "--data", "gone", "--generations", "gone", "--record",
                 "out", "--samples", "out", "--model", "gone.json", "--trained", "gone"],
    "parity": ["--model", "gone.json", "--data", "gone", "--first", "gone", "--second", "gone", "--trained", "gone",
               "--out", "out"],
}  # fmt: skip


def test_every_stage_with_cards_is_known_here():
    """Case 7."""
    texts = {path.stem: path.read_text("utf-8") for path in (ROOT / "pissa_repro" / "stages").glob("*.py")}
    assert {name for name, text in texts.items() if "gpus.take(" in text} == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_was_given_a_card_does_not_compute_on_the_cpu(stage, tmp_path, monkeypatch):
    """Case 7: CUDA_VISIBLE_DEVICES names a card, torch sees none; said before a model or a row is read."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(gpus, "LOCKS", tmp_path)
    monkeypatch.chdir(tmp_path)
    main = importlib.import_module(f"pissa_repro.stages.{stage}").main
    with pytest.raises(UserError, match="gpus: 1 asked for, torch .* sees 0 .*Change models.<name>.gpus"):
        main([*STAGES[stage], "--gpus", "1"])
    with pytest.raises(UserError, match="no such record|gone"):  # the cards are checked first, and only where asked for
        main([*STAGES[stage], "--gpus", "0"])


def test_fewer_and_more_cards_than_taken_are_refused(tmp_path):
    """Case 7: also where torch sees some."""
    for sees in ("0", "1", "3"):
        code = TORCH + f"torch.cuda.device_count = lambda: {sees}; torch.__version__ = '2'; "
        code += "torch.version = types.SimpleNamespace(cuda='13'); from pathlib import Path; "
        code += f"from pissa_repro.runtime import gpus; gpus.LOCKS = Path({str(tmp_path)!r}); gpus.take(2)"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment(), cwd=ROOT, capture_output=True, encoding="utf-8"
        )
        assert f"gpus: 2 asked for, torch 2 sees {sees} (CUDA_VISIBLE_DEVICES is '4,7')" in done.stderr


def test_no_card_asked_for_loads_no_torch():
    """Case 7: the check costs nothing on the CPU."""
    code = "from pissa_repro.runtime import gpus; gpus.take(0); import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=environment(), cwd=ROOT, check=True)


def test_a_negative_number_of_cards_is_refused():
    """Case 7: it waited for ever."""
    with pytest.raises(UserError, match="--gpus -1: choices"):
        gpus.take(-1)


def built(folder, version: str) -> str:
    """A folder for the path of Python in which torch is installed in this version."""
    place = folder / f"torch-{version}.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n", encoding="utf-8")
    return str(folder)


def test_a_torch_without_cuda_is_told_by_its_version(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(built(tmp_path, "9.1+cu130"))
    gpus.check_build()
    (tmp_path / "cpu").mkdir()
    monkeypatch.syspath_prepend(built(tmp_path / "cpu", "9.1+cpu"))
    with pytest.raises(UserError, match=r"models.<name>.gpus: torch 9.1\+cpu is built without CUDA.*--gpus"):
        gpus.check_build()


@pytest.mark.parametrize("target", ["train_all", "studies"])
def test_jobs_with_cards_are_not_begun_without_cuda(tmp_path, target):
    """Else each would wait in a queue for a card, and then say that it sees none."""
    (tmp_path / "built").mkdir()
    ours = environment("") | {"PYTHONPATH": built(tmp_path / "built", "9.1+cpu")}
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "-d", tmp_path, "--cores", "1", target]
    (tmp_path / "mine.yaml").write_text("models: {mini-llama: {gpus: 1}}", encoding="utf-8")
    command += ["--resources", "gpu=1", "--configfile", tmp_path / "mine.yaml"]
    done = subprocess.run([*map(str, command)], env=ours, capture_output=True, encoding="utf-8")
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "torch 9.1+cpu is built without CUDA" in said, said[-3000:]
    assert "Traceback" not in said and not (tmp_path / "results").exists()


def test_cards_without_nodes_are_counted_by_the_driver(tmp_path, monkeypatch):
    """In WSL."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus, "Path", lambda _: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible() == []
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\necho 'GPU 0: A (UUID: GPU-1)'; echo '  MIG 1g'; echo 'GPU 1: B (UUID: GPU-2)'\n", "utf-8"
    )
    tool.chmod(0o755)
    assert gpus.visible() == ["0", "1"]


def test_two_users_and_two_folders_for_temporary_files_share_the_cards(tmp_path, monkeypatch):
    """Each locks the same file, whoever made it: it can be read by all, and is not opened to write."""
    assert gpus.LOCKS in (Path("/tmp"), Path("/dev/shm"))
    monkeypatch.setattr(gpus, "LOCKS", tmp_path)
    monkeypatch.setattr(gpus.os, "getuid", lambda: 1)
    before = os.umask(0o077)
    locks = gpus._lock(["0", "1"], 1)
    os.umask(before)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o644
    path.chmod(0o444)
    monkeypatch.setattr(gpus.os, "getuid", lambda: 2)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "other"))
    others = gpus._lock(["0", "1"], 1)
    assert (*locks, *others) == ("0", "1") and gpus._lock(["0", "1"], 1) == {}
    gpus._release(locks | others)


def test_a_link_in_the_place_of_a_lock_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "LOCKS", tmp_path)
    (tmp_path / "pissa-repro-gpu--0.lock").symlink_to(tmp_path / "precious")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(UserError, match="pissa-repro-gpu--0.lock: the lock of a card cannot be opened"):
        gpus._lock(["0"], 1)
    assert not (tmp_path / "precious").exists()
