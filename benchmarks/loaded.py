"""Is what a cell leaves right or refused, in PEFT, transformers and vLLM? A line and a row for each kind of cell.

python benchmarks/loaded.py --folder FOLDER

trains a cell of the embedded model of every kind (float32, a few steps) in FOLDER, a new one, and loads it as its card
says, as somebody would who reads no card, and in vLLM. Logits are compared with those of the trained cell, relative;
vLLM's with transformers' in the log-probabilities of the 20 most probable next tokens, nats, the largest difference.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import RESULTS, ROOT, keep
from evaluate_cells import make

from pissa_repro.adapters import cells, export, exportable, logits, trained
from pissa_repro.adapters.cells import StoredCell
from pissa_repro.model.checks import logits as logits_of
from pissa_repro.model.checks import relative_difference
from pissa_repro.model.merged import merged_model
from pissa_repro.model.skeleton import as_user_error
from pissa_repro.plan import config
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.scoring import engines

DORA, RSLORA = "pissa-dora", "pissa-rslora"
KINDS = {  # of the table: the config's method and quantization
    "full fine-tuning": ("full", "none"),
    "LoRA": ("lora", "none"),
    "PiSSA": ("pissa", "none"),
    "PiSSA, rsLoRA": (RSLORA, "none"),
    "OLoRA": ("olora", "none"),
    "MiLoRA": ("milora", "none"),
    "PiSSA + DoRA": (DORA, "none"),
    "QLoRA": ("lora", "nf4"),
    "QPiSSA": ("pissa", "nf4"),
    "LoftQ": ("loftq", "nf4"),
}
RANK, ALPHA = 16, 8.0  # of rsLoRA: a scaling of 2, where the others have 1
LORA_RANK = 2 * RANK  # what vLLM has to take (--max-lora-rank)
REFUSED, NONE = "refused", "-"


def sweep(names: dict[str, tuple[str, str]], steps: int, **train: Any) -> Sweep:
    """The config's sweep with these cells at one point."""
    raw = config.load(ROOT / "config" / "config.yaml")
    raw["methods"] |= {
        "olora": {"init": "olora"}, "milora": {"init": "milora"},
        DORA: {"init": "pissa", "lora": {"use_dora": True}}, RSLORA: {"init": "pissa"},
    }  # fmt: skip
    raw["train"] |= {"steps": steps, **train}
    raw["datasets"]["gsm-mini-train"]["rows"] = raw["train"]["batch_size"] * steps
    found = [{"method": method, "quant": quant} for method, quant in names.values()]
    raw["sweep"] |= {"cells": found, "seeds": [0], "ranks": [RANK]}
    return Sweep(raw)


def trained_cells(folder: Path, names: dict[str, tuple[str, str]], steps: int) -> dict[str, StoredCell]:
    """Every kind's cell, trained in the folder."""
    alone = {kind: names[kind] for kind in names if names[kind][0] == RSLORA}
    groups = [({kind: name for kind, name in names.items() if kind not in alone}, {})]
    groups.append((alone, {"rslora": True, "alpha": ALPHA}))
    found = {}
    for group, changes in groups:
        if group:
            asked = sweep(group, steps, **changes)
            make(folder, asked)
            for name, cell in asked.cells.items():
                kind = next(kind for kind, one in group.items() if one == (cell.method, cell.quant))
                start = paths.start(cell.start, folder / paths.RESULTS) if asked.has_factors(cell) else None
                found[kind] = cells.read(paths.cell(name, folder / paths.RESULTS).folder, start, folder / "model.json")
    return {kind: found[kind] for kind in names}


class Loaded(NamedTuple):
    """A cell's line so far, and what vLLM is given: a LoRA's folder, a whole model's, and the logits wanted."""

    line: dict[str, Any]
    lora: Path
    whole: Path
    wanted: torch.Tensor


def loaded(kind: str, cell: StoredCell, folder: Path) -> Loaded:
    """What transformers and PEFT make of a cell, by its card and without."""
    base, prompts = Path(cell.model["path"]), logits.prompts(cell.model["path"])
    known = export.known_of(merged_model(cell.whole, cell.model, prompts))
    wanted = known.logits

    def far(model: Path, adapter: Path | None = None) -> float:
        return relative_difference(logits.of(model, adapter, prompts), wanted)

    if cell.start is None:
        by_card, whole = {"trained/": far(cell.trained)}, cell.trained
    else:
        whole = folder / "merged"
        quantized = "trained" if cell.spec["quant"] != "none" else None
        for form, on in (("merged", quantized), ("residual", None)):
            export.export(exportable.Asked(cell, form, folder / form, on), known)
        by_card = {"merged": far(whole), "residual": far(folder / "residual", folder / "residual" / "trained")}
        if trained.no_plain(cell.trained, cell.start) is None:
            by_card = {"trained/": far(base, cell.trained), **by_card}
    (folder / "model").symlink_to(base)  # what the cell's config calls its base, which is on no hub
    naive = {
        name: _naive(name, cell.trained, folder, prompts, wanted)
        for name in ("AutoPeftModelForCausalLM", "AutoModelForCausalLM")
    }
    elsewhere = _naive("AutoPeftModelForCausalLM", cell.trained, base, prompts, wanted)
    line = {
        "name": kind, "method": cell.spec["method"], "quant": cell.spec["quant"], "steps": cell.record["steps"],
        "by_card": by_card, "naive": naive, "naive_without_the_base": elsewhere,
    }  # fmt: skip
    return Loaded(line, cell.trained, whole, wanted)


def _naive(name: str, folder: Path, where: Path, prompts: list[list[int]], wanted: torch.Tensor) -> float | str:
    """The difference of what a class loads from a folder, called in the folder `where`; or REFUSED."""
    import peft
    import transformers
    from huggingface_hub import constants

    load: Any = getattr(peft if hasattr(peft, name) else transformers, name).from_pretrained
    before, constants.HF_HUB_OFFLINE = Path.cwd(), True  # a base that is not here is looked for on no hub
    os.chdir(where)
    try:
        with as_user_error(folder):
            model = load(str(folder.resolve()), dtype=torch.float32)
    except UserError:
        return REFUSED
    finally:
        os.chdir(before)
    return relative_difference(logits_of(model.eval(), prompts), wanted)


def served(found: dict[str, Loaded], folder: Path, base: Path) -> None:
    """Add to each line what vLLM says: of the LoRA on the base, and of the whole model."""
    prompts = logits.prompts(base)
    for key, asked in (
        ("vllm_lora", {"base": str(base), "loras": {kind: str(one.lora) for kind, one in found.items()}}),
        ("vllm_whole", {"models": {kind: str(one.whole) for kind, one in found.items()}}),
    ):
        out = folder / f"{key}.json"
        command = [sys.executable, __file__, "--ask", json.dumps({**asked, "prompts": prompts}), "--answers", str(out)]
        environment = os.environ | engines.SETTINGS | engines.CPU_SETTINGS | {"CUDA_VISIBLE_DEVICES": ""}
        subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
        for kind, answer in json.loads(out.read_text(encoding="utf-8")).items():
            found[kind].line[key] = answer if isinstance(answer, str) else _nats(answer, found[kind].wanted)


def _nats(tops: list[dict[str, float]], wanted: torch.Tensor) -> float:
    """The largest difference of log-probabilities, of the tokens that vLLM finds most probable."""
    expected = wanted.log_softmax(-1)
    return max(
        abs(value - expected[row, int(token)].item()) for row, top in enumerate(tops) for token, value in top.items()
    )


def answers(asked: dict[str, Any]) -> dict[str, Any]:
    """By kind: the log-probabilities of the next tokens after each prompt, or why vLLM refuses."""
    from vllm import LLM, SamplingParams, TokensPrompt
    from vllm.lora.request import LoRARequest

    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in asked["prompts"]]
    settings = SamplingParams(temperature=0, max_tokens=1, logprobs=engines.TOP)
    common: dict[str, Any] = {
        "dtype": "float32", "max_model_len": 64, "seed": 0, "enforce_eager": True,
        "distributed_executor_backend": "uni",
    }  # fmt: skip

    def tops(engine: Any, request: Any = None) -> Any:
        try:
            if request is not None:
                engine.llm_engine.add_lora(request)  # of a prompt, a refusal leaves the engine with work without end
        except Exception as error:  # each of vLLM's layers has its own type
            return f"{REFUSED}: {' '.join(str(error).replace(request.lora_path, 'trained/').split())[:200]}"
        outputs = engine.generate(prompts, settings, use_tqdm=False, lora_request=request)
        return [{str(t): e.logprob for t, e in output.outputs[0].logprobs[0].items()} for output in outputs]

    if "loras" in asked:
        engine = LLM(asked["base"], enable_lora=True, max_lora_rank=LORA_RANK, max_loras=2, **common)
        requests = {kind: LoRARequest(kind, 1 + i, path) for i, (kind, path) in enumerate(asked["loras"].items())}
        return {kind: tops(engine, request) for kind, request in requests.items()}
    found, engine = {}, None
    for kind, path in asked["models"].items():
        if engine is None:
            engine = LLM(path, **common)
        else:
            engine.collective_rpc("reload_weights", kwargs={"weights_path": path})
            engine.apply_model(engines._renew_tied_head)
            engine.reset_prefix_cache()
        found[kind] = tops(engine)
    return found


def table(lines: list[dict[str, Any]]) -> str:
    """The lines as Markdown."""
    heads = ["cell", "trained/ by its card", "merged", "residual"]
    heads += ["AutoPeftModel", "AutoModel", "vLLM, LoRA", "vLLM, whole"]
    rows = [heads, ["---"] * len(heads)]
    for line in lines:
        card, naive = line["by_card"], line["naive"]
        values = [card.get(form, NONE) for form in ("trained/", "merged", "residual")]
        values += [naive["AutoPeftModelForCausalLM"], naive["AutoModelForCausalLM"]]
        values += [line.get(key, NONE) for key in ("vllm_lora", "vllm_whole")]
        rows.append([line["name"], *(v.split(":")[0] if isinstance(v, str) else f"{v:.0e}" for v in values)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the cells are made (default: a temporary one)")
    parser.add_argument("--steps", type=int, default=12, help="of each training")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS, metavar="KIND", help="of cells")
    parser.add_argument("--skip-vllm", action="store_true", help="where vLLM is not installed")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of loaded.jsonl")
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    parser.add_argument("--answers", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.ask:
        args.answers.write_text(json.dumps(answers(json.loads(args.ask))), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        made = trained_cells(folder, {kind: KINDS[kind] for kind in args.kinds}, args.steps)
        found = {}
        for number, (kind, cell) in enumerate(made.items()):
            place = folder / "exports" / str(number)
            place.mkdir(parents=True)
            found[kind] = loaded(kind, cell, place)
        if not args.skip_vllm:
            served(found, folder, Path(next(iter(made.values())).model["path"]))
        lines = [one.line for one in found.values()]
    for line in lines:
        keep("loaded", line, args.out)
    print(table(lines))


if __name__ == "__main__":
    main()
