"""lm-eval's language models, made to see the ids of the training and to stop where its targets end.

By themselves they tokenize as each sees fit, and stop at what the model folder names.
"""

from collections.abc import Iterable
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils_hf import stop_sequences_criteria

from pissa_repro.model.classes import refuse_unseen
from pissa_repro.model.tokens import encoded, prompt_ids, text_ids
from pissa_repro.runtime.errors import UserError
from pissa_repro.sources.prompt import Read, Style


class AsTrained:
    """What is the same for both engines: how a text becomes ids. In front of lm-eval's class among the bases."""

    tokenizer: Any
    style: Style | None = None  # how the cell is asked; None: prompts as the tokenizer has them
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
        return _padded(rows, self.tokenizer.pad_token_id, left=True)

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **settings: Any) -> torch.Tensor:
        """Prompts and answers (n, length). From the end of an answer on stands nothing but eos, which is no text.

        A row ends by an id; with eos as a text to look for, lm-eval would decode the batch at every token.
        """
        made = super()._model_generate(context, max_length, self._texts(stop), eos_token_id=self.ends, **settings)
        self._end(made[:, context.shape[1] :])
        return made

    def _texts(self, stop: list[str]) -> list[str]:
        """The texts to stop at, without that of eos."""
        end = self.tok_decode(self.tokenizer.eos_token_id, skip_special_tokens=False)
        return [text for text in stop if text != end]

    def _end(self, answers: torch.Tensor) -> torch.Tensor:
        """The answers (n, length), in place, with nothing but eos from the end of each on."""
        ended = torch.isin(answers, torch.tensor(self.ends, device=answers.device))
        answers[ended.cumsum(1) > 0] = self.tokenizer.eos_token_id
        return answers


class Seq2Seq(HF):
    """transformers' generate of an encoder-decoder: it reads the prompt, and only the answer comes out."""

    def _prompts(self, texts: list[str]) -> list[list[int]]:
        return (self.style or Read("plain", self.tokenizer)).ids(texts)

    def tok_batch_encode(
        self, strings: Iterable[str], left_truncate_len: int | None = None, **_: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask (n, longest) int64 of what the encoder reads, cut on the left.

        They are padded on the right, as in training: BART counts positions from the left, padding too.
        """
        rows = [ids[-(left_truncate_len or 0) :] for ids in self._prompts(list(strings))]
        return _padded(rows, self.tokenizer.pad_token_id, left=False)

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **settings: Any) -> torch.Tensor:
        """Answers (n, length), greedy, behind the token that the decoder begins with; ended as in `HF`.

        Written anew, since lm-eval counts the prompt's tokens as the beginning of what the decoder makes: it would give
        an answer as many tokens more, and look for no text to stop at among its first ones.
        """
        made = self.model.generate(
            input_ids=context,
            attention_mask=settings["attention_mask"],
            max_new_tokens=max_length - context.shape[1],
            do_sample=False,
            eos_token_id=self.ends,
            pad_token_id=self.tokenizer.pad_token_id,
            stopping_criteria=stop_sequences_criteria(self.tokenizer, self._texts(stop), 1, len(context)),
        )
        return self._end(made[:, 1:])


class Classifier(LM):
    """A model that gives classes: an answer is the name of the class with the largest logit.

    longest: tokens of a text, or of two texts together; what is beyond is cut as in training.
    """

    style: Style | None = None  # texts are read as they are, whatever it is

    def __init__(self, model: Any, tokenizer: Any, longest: int):
        super().__init__()
        self.model, self.tokenizer, self.longest = model.eval(), tokenizer, longest

    def tok_encode(self, string: str, **_: Any) -> list[int]:
        """None: a class is no text of the tokenizer's, and no token was generated."""
        return []

    @torch.no_grad()
    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The classes of the requests' rows, in one batch. Raises UserError for a label that is none of them."""
        rows, names = [request.doc for request in requests], self.model.config.id2label
        refuse_unseen(rows, names.values(), requests[0].task_name or "rows")
        read = encoded(self.tokenizer, rows, self.longest)
        padded = self.tokenizer.pad(read, return_tensors="pt").to(self.model.device)
        logits = self.model(**padded).logits.float()
        if not logits.isfinite().all():
            raise UserError("the logits of the classes are not finite.")
        return [names[number] for number in logits.argmax(-1).tolist()]

    loglikelihood = loglikelihood_rolling = generate_until


def _padded(rows: list[list[int]], pad: int, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of ids, padded on one side to (n, longest) int64, and 1 in a mask (n, longest) where they are."""
    longest = max(map(len, rows))
    filled, mask = [], []
    for ids in rows:
        gap, ones = longest - len(ids), [1] * len(ids)
        filled.append([pad] * gap + ids if left else ids + [pad] * gap)
        mask.append([0] * gap + ones if left else ones + [0] * gap)
    return torch.tensor(filled), torch.tensor(mask)


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
