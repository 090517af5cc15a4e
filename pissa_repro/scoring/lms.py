"""lm-eval's language models, made to see the ids of the training and to stop where its targets end.

By themselves they tokenize as each sees fit, and stop at what the model folder names.
"""

from collections.abc import Iterable
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from pissa_repro.model.tokens import prompt_ids, text_ids
from pissa_repro.sources.prompt import Style


class AsTrained:
    """What is the same for both engines: how a text becomes ids. In front of lm-eval's class among the bases."""

    tokenizer: Any
    style: Style | None = (
        None  # how the cell is asked whose answers are wanted; None: prompts as the tokenizer has them
    )
    bare = False  # whether a text is tokenized alone: of a text to predict, lm-eval puts bos in front itself

    def tok_encode(self, string: str | Iterable[str], add_special_tokens: bool | None = None, **_: Any) -> list[Any]:
        """The ids of a text, or of each text: as prompts, or alone."""
        texts = [string] if isinstance(string, str) else list(string)
        alone = self.bare if add_special_tokens is None else not add_special_tokens
        ids = text_ids(self.tokenizer, texts) if alone else self._prompts(texts)
        return ids[0] if isinstance(string, str) else ids

    def _prompts(self, texts: list[str]) -> list[list[int]]:
        return self.style.ids(texts) if self.style else prompt_ids(self.tokenizer, texts)

    @property
    def ends(self) -> list[int]:
        """The ids that end an answer."""
        return self.style.ends if self.style else [self.tokenizer.eos_token_id]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood (nats) of each text, each of its own tokens predicted once, the first from bos."""
        self.bare = True  # a bos of the tokenizer's own would be a second one, scored as text
        try:
            return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)  # type: ignore[misc]
        finally:
            self.bare = False


class HF(AsTrained, HFLM):
    """transformers' generate."""

    def tok_batch_encode(
        self, strings: Iterable[str], left_truncate_len: int | None = None, **_: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask (n, longest) int64 of prompts, padded on the left, where each is cut too."""
        rows = [ids[-(left_truncate_len or 0) :] for ids in self._prompts(list(strings))]
        gaps = [max(map(len, rows)) - len(ids) for ids in rows]
        padded = [[self.tokenizer.pad_token_id] * gap + ids for gap, ids in zip(gaps, rows, strict=True)]
        mask = [[0] * gap + [1] * len(ids) for gap, ids in zip(gaps, rows, strict=True)]
        return torch.tensor(padded), torch.tensor(mask)

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **settings: Any) -> torch.Tensor:
        """Prompts and answers (n, length). From the end of an answer on stands nothing but eos, which is no text.

        A row ends by an id; with eos as a text to look for, lm-eval would decode the batch at every token.
        """
        eos = self.tokenizer.eos_token_id
        texts = [text for text in stop if text != self.tok_decode(eos, skip_special_tokens=False)]
        made = super()._model_generate(context, max_length, texts, eos_token_id=self.ends, **settings)
        answers = made[:, context.shape[1] :]
        ended = torch.isin(answers, torch.tensor(self.ends, device=answers.device))
        answers[ended.cumsum(1) > 0] = eos
        return made


def vllm(base: type) -> type:
    """lm-eval's class for vLLM, or whatever stands for it, with the same ids and the same end."""

    class VLLM(AsTrained, base):
        """vLLM's generate."""

        def modify_gen_kwargs(self, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], list[str], int]:
            """vLLM's sampling settings, the texts to stop at, and how many tokens; special tokens are no text."""
            settings, until, new = super().modify_gen_kwargs(*args, **kwargs)
            ends = {"skip_special_tokens": True, "stop_token_ids": self.ends}
            return settings | ends, until, new

    return VLLM
