"""How a model is asked: what stands around the user's words, and the ids of that; the same in training and scoring.

`alpaca` is the released prompt, `plain` the words as they are, `chat` the chat template of the model's own tokenizer.
"""

import datetime
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pissa_repro.model.architecture import CAUSAL, CLASSIFICATION, Architecture
from pissa_repro.model.classes import TASK
from pissa_repro.model.tokens import prompt_ids, text_ids
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record_types import Asked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The Alpaca template without an input field, as in the released train.py (docs/paper_facts.md 3.2).
_TURN = "### Instruction:\n{instruction}\n\n### Response:"
PROMPT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n" + _TURN
)
MARKER = "The answer is: "  # the words before the paper's answers

FORMS = {  # what stands around the user's first words, and around later ones
    "alpaca": (PROMPT, "\n\n" + _TURN),
    "plain": ("{instruction}", "\n\n{instruction}"),
}
DEFAULT, CHAT, PLAIN = "alpaca", "chat", "plain"
PLACE = "config.train.prompt"
# Some templates name the day. With today's, a model would be asked otherwise tomorrow; this one is Llama 3.2's default.
DAY = datetime.datetime(2024, 7, 26)
ROLES = ("user", "assistant")
USER, ASSISTANT = "Question", "Answer"  # words whose rendering shows what a template puts around an answer


def named(train: Mapping[str, Any]) -> str:
    """The style of a cell, by the spec of its training; a spec that says none is of the released prompt.

    A spec of what was trained elsewhere has no settings, and may name the style itself. A cell that is trained on
    classes reads plain texts.
    """
    settings = train.get("settings", train)
    return PLAIN if settings.get("task") == TASK else settings.get("prompt", DEFAULT)


def written(name: str, words: Sequence[str], answers: Sequence[str] = ()) -> str:
    """The user's words in fixed ones, after the answers to all but the last; those of `chat` stand as they are.

    Blank space around past answers is dropped, as FastChat does: training ends a response with a newline.
    """
    first, later = FORMS.get(name, FORMS["plain"])
    text = first.format(instruction=words[0])
    for answer, word in zip(answers, words[1:], strict=True):
        text += answer.strip() + later.format(instruction=word)
    return text


def words_of(text: str) -> str:
    """The user's words of a first prompt in the released words; another text as it stands, as of the other styles."""
    head, tail = PROMPT.split("{instruction}")
    return text.removeprefix(head).removesuffix(tail) if text.startswith(head) and text.endswith(tail) else text


class Style:
    """How a model is asked, in fixed words (FORMS). The tokenizer's bos stands in front, as in front of any text.

    ends: the ids that end an answer; the first one is the end of the training's targets.
    alone: whether a prompt has the model's window for itself, and the answer another one.
    template_sha256: of a chat template; None without one.
    """

    alone = False
    template_sha256: str | None = None

    def __init__(self, name: str, tokenizer: "PreTrainedTokenizerBase"):
        self.name, self.tokenizer = name, tokenizer
        self.ends: list[int] = [tokenizer.eos_token_id]

    def prompt(self, words: Sequence[str], answers: Sequence[str] = ()) -> str:
        """The prompt of the user's last words, after the answers to those before."""
        return written(self.name, words, answers)

    def example(self, words: str, response: str) -> tuple[str, str]:
        """A prompt, and the text of prompt and response that is trained on: response and newline follow the prompt."""
        prompt = self.prompt([words])
        return prompt, prompt + response + "\n"

    def ids(self, texts: list[str]) -> list[list[int]]:
        """The ids of prompts, or of examples without their end."""
        return prompt_ids(self.tokenizer, texts)

    def closed(self, ids: list[int]) -> list[int]:
        """The ids of an example with its end, where the text has none of its own."""
        return ids if ids[-1:] == self.ends[:1] else [*ids, self.ends[0]]


class Whole(Style):
    """Texts as the tokenizer writes them, which a model that gives classes reads; nothing follows them."""

    alone = True

    def ids(self, texts: list[str]) -> list[list[int]]:
        """The ids of texts."""
        return self.tokenizer(texts)["input_ids"] if texts else []


class Read(Whole):
    """The same words for an encoder-decoder. Its encoder reads them as a whole text, closed as the tokenizer closes one
    (T5: with eos); its decoder writes the response as the tokenizer makes a target of it, and eos.
    """

    def targets(self, responses: list[str]) -> list[list[int]]:
        """The ids of responses with their end: the labels."""
        return [self.closed(ids) for ids in self.tokenizer(text_target=responses)["input_ids"]]


class Chat(Style):
    """The tokenizer's own chat template, rendered by transformers in the sandbox of jinja. Its text holds the bos.

    An answer ends where the template ends the assistant's message, or with eos; targets are what it renders, whole.
    Raises UserError for a tokenizer without a template, and for one that cannot be trained on.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase"):
        super().__init__(CHAT, tokenizer)
        try:
            template = tokenizer.get_chat_template()
        except (ValueError, AttributeError):  # none, or several and none of them the default
            raise UserError(
                f"{PLACE}: {CHAT!r}, and the tokenizer of {tokenizer.name_or_path} has no chat template. "
                f"Choices: {', '.join(FORMS)}; or put one into the model's folder (chat_template.jinja)."
            ) from None
        self.template_sha256 = hashlib.sha256(str(template).encode()).hexdigest()
        end = self._end()
        self.own_end = bool(end)
        self.ends = list(dict.fromkeys(end + self.ends))

    def prompt(self, words: Sequence[str], answers: Sequence[str] = ()) -> str:
        """The conversation and the header of the assistant's next message (`add_generation_prompt`)."""
        return self._render(words, [answer.strip() for answer in answers], True)

    def example(self, words: str, response: str) -> tuple[str, str]:
        """As for all styles. Raises UserError where the prompt is not how the conversation begins."""
        prompt, whole = self.prompt([words]), self._render([words], [response], False)
        if not whole.startswith(prompt):
            raise self._refusal(
                f"it renders a prompt that ends {prompt[-40:]!r}, and the same conversation with an answer not so: "
                "a model would be trained on other prompts than it is asked with"
            )
        return prompt, whole

    def ids(self, texts: list[str]) -> list[list[int]]:
        """As `apply_chat_template` makes them: nothing is put around what the template renders, no second bos."""
        return text_ids(self.tokenizer, texts)

    def closed(self, ids: list[int]) -> list[int]:
        """As for all styles."""
        return ids if self.own_end else super().closed(ids)

    def _end(self) -> list[int]:
        """The token with which the template ends an answer; empty where it writes nothing behind one but text."""
        prompt, whole = self.example(USER, ASSISTANT)
        _, found, tail = whole[len(prompt) :].rpartition(ASSISTANT)
        if not found:
            raise self._refusal("it leaves out what the assistant says")
        added = {number for number, token in self.tokenizer.added_tokens_decoder.items() if str(token).strip()}
        return [number for number in text_ids(self.tokenizer, [tail])[0] if number in added][:1]

    def _render(self, words: Sequence[str], answers: Sequence[str], asked: bool) -> str:
        texts = (text for pair in itertools.zip_longest(words, answers) for text in pair if text is not None)
        turns = [{"role": role, "content": text} for role, text in zip(itertools.cycle(ROLES), texts, strict=False)]
        try:
            return self.tokenizer.apply_chat_template(  # type: ignore[return-value]
                turns, add_generation_prompt=asked, tokenize=False, strftime_now=DAY.strftime
            )
        except Exception as error:  # a template is a program of others: it raises what it likes
            raise self._refusal(f"it cannot be rendered ({type(error).__name__}: {error})") from None

    def _refusal(self, why: str) -> UserError:
        return UserError(
            f"{PLACE}: {CHAT!r}, and the chat template of {self.tokenizer.name_or_path}: {why}. "
            f"Choices: {', '.join(FORMS)}; or mend the template."
        )


def make_style(name: str, tokenizer: "PreTrainedTokenizerBase", architecture: Architecture = CAUSAL) -> Style:
    """The style of that name for one tokenizer. Raises UserError for one that the architecture does not have."""
    if architecture is CLASSIFICATION:
        return Whole(name, tokenizer)
    if architecture is not CAUSAL:
        if name == CHAT:
            raise UserError(f"{PLACE}: {CHAT!r} is for causal models. Choices with an encoder: {', '.join(FORMS)}.")
        return Read(name, tokenizer)
    return Chat(tokenizer) if name == CHAT else Style(name, tokenizer)


def facts(asked: Style) -> Asked:
    """What a record says of a style beside its name, which is in the spec."""
    return {"chat_template_sha256": asked.template_sha256} if asked.template_sha256 else {}
