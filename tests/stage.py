"""What tests of the stages share and needs no torch: rows, specs, and the check of a refusal."""

import pytest

from pissa_repro.runtime.errors import UserError

FIELDS = {"prompt": "question", "response": "answer"}
LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LINE = b'{"question": "q", "answer": "a"}\n'


def says(call, *words):
    """The call is refused, and its message has every word."""
    with pytest.raises(UserError) as caught:
        call()
    for word in words:
        assert word in str(caught.value), (word, str(caught.value))


def init_spec(**changes) -> dict:
    """The spec of a good initialisation, with changes."""
    return {"stage": "init", "version": 1, "method": "pissa", "options": {"svd": "fast"}, "quant": "none", "rank": 4,
            "alpha": 4.0, "rslora": False, "target_modules": LLAMA, "seed": 0, **changes}  # fmt: skip
