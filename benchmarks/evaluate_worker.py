"""One contender of benchmarks/evaluate.py, in a process of its own that generates whenever it is told to.

Started by Worker, which talks to it in JSON lines. The first tells how long imports and start took; each
word on its standard input, a name of a file of rows, is answered by seconds, tokens and texts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import ROOT

DEFAULT = "lm-eval default"
CONTENDERS = (DEFAULT, "hf", "vllm")  # the baseline; this project's two back-ends
DTYPE = "float32"


class Worker:
    """A contender's process, seen from outside. `started` is what it told when it was ready."""

    def __init__(self, name: str, model: Path, rows: Path, new_tokens: int, batch_size: int, threads: int):
        self.name, self.batch_size = name, batch_size
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (closed with the process)
        words = [name, model, rows, new_tokens, batch_size, repr(time.time())]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, __file__, *map(str, words)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            encoding="utf-8",
            env=environment,
        )
        self.started = self._answer()

    def run(self, rows: Path) -> dict[str, Any]:
        """Generate for all rows: {"seconds", "tokens", "texts"}."""
        print(rows, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        if line := self.process.stdout.readline():
            return json.loads(line)
        self.process.wait()
        self.errors.seek(0)
        raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{self.errors.read()[-3000:]}")

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()


class Engine:
    """The contender itself: an lm-eval model, and the way in which requests are handed to it."""

    def __init__(self, args: argparse.Namespace):
        from pissa_repro.model import checks, load, tokens
        from pissa_repro.scoring import engines, generator, harness
        from pissa_repro.sources import prompt

        if args.name != "vllm":
            import lm_eval.models.huggingface  # noqa: F401 (imports are counted apart from the start)
        self.args, self.backends, self.generate, self.models = args, engines, generator, load
        self.logits = checks.logits
        _ = harness.Task
        self.imports = time.time() - args.spawned
        self.tokenizer = tokens.load_tokenizer(args.model)
        self.style = prompt.make_style(prompt.DEFAULT, self.tokenizer)
        longest = self.prompts(self.job(args.rows))
        late: list[float] = []
        engines._wrapper = _timed(engines._wrapper, late)
        before = time.perf_counter()
        self.lm = self._default() if args.name == DEFAULT else self._ours(longest)
        self.start = time.perf_counter() - before - sum(late)
        self.imports += sum(late)
        self.counts: list[int] = []
        self.lm._model_generate = self._counting(self.lm._model_generate)

    def job(self, rows: Path, out: Path = Path("unused")) -> Any:
        """The rows as a job of the generate stage."""
        spec = {"task": "gsm8k", "max_new_tokens": self.args.new_tokens, "dtype": DTYPE}
        return self.generate.Job(self.args.name, spec, None, self.args.model, rows, out)

    def prompts(self, job: Any) -> Any:
        """The job's prompts in tokens."""
        from pissa_repro.model.skeleton import own_config

        window = own_config(self.args.model).max_position_embeddings
        return self.generate.Prompts([(job.task, self.style)], window)

    def _default(self) -> Any:
        """As `lm_eval --model hf --model_args pretrained=FOLDER` makes it."""
        from lm_eval.models.huggingface import HFLM

        return HFLM(pretrained=str(self.args.model), device=self.models.default_device().type)

    def _ours(self, prompts: Any) -> Any:
        """As the generate stage makes it; the untouched model stands in the place of a merged one."""
        from pissa_repro.model.merged import Merged

        options = self.backends.Options(DTYPE, self.args.batch_size, prompts.length)
        engine = self.backends.BACKENDS[self.args.name](self.tokenizer, options)
        model, some = self.models.load_base(self.args.model, device=engine.device), prompts.some()
        logits = self.logits(model.eval(), some)
        return engine.take(Merged(model, {}, logits, logits), some)[0]

    def _counting(self, honest: Callable[..., Any]) -> Callable[..., Any]:
        """lm-eval's call of the engine, noting the generated tokens; texts tokenized again may have others."""
        eos = self.tokenizer.eos_token_id

        def generate(*args: Any, **kwargs: Any) -> Any:
            found = honest(*args, **kwargs)
            if self.args.name == "vllm":
                made = [list(one.outputs[0].token_ids) for one in found]
            else:
                made = found[:, kwargs["context"].shape[1] :].tolist()
            self.counts += [ids.index(eos) if eos in ids else len(ids) for ids in made]
            return found

        return generate

    def run(self, rows: Path) -> dict[str, Any]:
        """Generate for all rows of a file, as the contender does it: {"seconds", "tokens", "texts"}."""
        self.counts.clear()
        if self.args.name == "vllm":
            self.lm.model.reset_prefix_cache()  # a prompt seen in an earlier run would cost nothing
        with tempfile.TemporaryDirectory() as folder:
            job = self.job(rows, Path(folder) / "generated.jsonl")
            lengths = self.prompts(job).lengths(job.task, self.style)
            asked = [job.task.request(i, [], self.style) for i in job.task.ids]
            before = time.perf_counter()
            texts = job.task.ask(self.lm, asked) if self.args.name == DEFAULT else self._stage(job, lengths)
            seconds = time.perf_counter() - before
        return {"seconds": seconds, "tokens": sum(self.counts), "texts": texts}

    def _stage(self, job: Any, lengths: dict[int, int]) -> list[str]:
        from pissa_repro.runtime import walltime

        with self.generate.journal(job.out, {}) as kept:
            self.generate.generate(job, self.style, kept, self.lm, lengths, self.args.batch_size, walltime.Stop())
            return [kept.turns[i][0] for i in job.task.ids]

    def facts(self) -> dict[str, Any]:
        """What is told before the first run."""
        import torch

        gpu = self.backends._cuda() if self.args.name == "vllm" else torch.cuda.is_available()
        return {
            "imports_seconds": self.imports,
            "start_seconds": self.start,
            "threads": torch.get_num_threads(),
            "device": "cuda" if gpu else "cpu",
        }


def _timed(honest: Callable[[], Any], spent: list[float]) -> Callable[[], Any]:
    """vLLM is imported where its engine starts, after its settings; this takes the time of the import."""

    def call() -> Any:
        before = time.perf_counter()
        found = honest()
        spent.append(time.perf_counter() - before)
        return found

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("model", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("new_tokens", type=int)
    parser.add_argument("batch_size", type=int)
    parser.add_argument("spawned", type=float)
    args = parser.parse_args()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # what libraries print is no answer
        engine = Engine(args)
        print(json.dumps(engine.facts()), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(engine.run(Path(line.rstrip("\n")))), file=answers, flush=True)


if __name__ == "__main__":
    main()
