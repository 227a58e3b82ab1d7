"""Size a haystack so that the prompt is as long as the budget allows, and never longer.

Token counts of whole lines add up for the usual tokenizers, so one sum finds the size and one
encode of the finished prompt confirms it. Where they do not add up, real encodes narrow it down.
"""

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from longact_cli.errors import ConfigError
from longact_cli.evaluation.ruler.draft import Draft

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK = "<<<longact-message>>>"


class PromptFrame:
    """What surrounds the user's message: the chat template and the start of the answer."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", *, chat_template: bool) -> None:
        """Keep the tokenizer; without `chat_template` the message stands alone."""
        self._tokenizer = tokenizer
        self._chat_template = chat_template
        self._bos: str | None = tokenizer.bos_token

    @cached_property
    def _surroundings(self) -> tuple[str, str]:
        """The text before and after the message.

        A template that offers a thinking mode is asked for the mode without: the answer prefix
        leaves no room for thoughts.
        """
        if not self._chat_template:
            return "", ""
        if not self._tokenizer.chat_template:
            raise ConfigError(
                f"chat_template is true, but the tokenizer of '{self._tokenizer.name_or_path}' has "
                "none; set benchmark.chat_template=false (training: data.chat_template=false)"
            )
        rendered = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": _MARK}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        before, _, after = str(rendered).partition(_MARK)
        return before, after

    def prompt(self, message: str, prefix: str) -> str:
        """Return everything the model sees before it answers."""
        before, after = self._surroundings
        return before + message + after + prefix

    def tokens(self, text: str) -> int:
        """Count the tokens of a prompt the way lm-eval's backends encode it."""
        special = not (self._bos and text.startswith(self._bos))
        return len(self._tokenizer.encode(text, add_special_tokens=special))

    def line_tokens(self, lines: list[str]) -> list[int]:
        """Count the tokens of each line with its newline; equal lines are counted once."""
        unique = list(dict.fromkeys(lines))
        encoded = self._tokenizer([f"{line}\n" for line in unique], add_special_tokens=False)
        known = {line: len(ids) for line, ids in zip(unique, encoded["input_ids"], strict=True)}
        return [known[line] for line in lines]


class Fit(NamedTuple):
    """The chosen size: haystack units, the prompt, and its real number of tokens."""

    units: int
    prompt: str
    tokens: int


def smallest(draft: Draft, frame: PromptFrame) -> Fit:
    """Return the prompt with the fewest units that hold all needles."""
    return _build(draft, frame, draft.minimum)


def largest(draft: Draft, frame: PromptFrame, *, budget: int) -> Fit | None:
    """Return the longest prompt of at most `budget` tokens; None where none fits."""
    start = best = smallest(draft, frame)
    if start.tokens > budget:
        return None
    predicted = _predict(draft, frame, start=start, budget=budget)
    units, too_long = max(predicted.units, start.units + 1), None
    while units > best.units:
        tried = _build(draft, frame, units)
        line_tokens = max(1.0, (tried.tokens - start.tokens) / (units - start.units))
        if tried.tokens > budget:
            too_long = units
        else:
            best = tried
            if (units, tried.tokens) == predicted:
                break
        units = best.units + max(1, int((budget - best.tokens) / line_tokens))
        units = units if too_long is None else min(units, too_long - 1)
    return best


class _Prediction(NamedTuple):
    """The largest size that should fit, and its tokens, if the tokens of lines add up."""

    units: int
    tokens: int


def _predict(draft: Draft, frame: PromptFrame, *, start: Fit, budget: int) -> _Prediction:
    totals, ahead = [start.tokens], 1
    while totals[-1] <= budget:
        first = start.units + len(totals) - 1
        for tokens in frame.line_tokens([draft.unit(first + i) for i in range(ahead)]):
            totals.append(totals[-1] + max(1, tokens))
        line_tokens = (totals[-1] - totals[0]) / (len(totals) - 1)
        ahead = max(1, int((budget - totals[-1]) / line_tokens))
    fitting = [total for total in totals if total <= budget]
    return _Prediction(start.units + len(fitting) - 1, fitting[-1])


def _build(draft: Draft, frame: PromptFrame, units: int) -> Fit:
    prompt = frame.prompt(draft.message(units), draft.prefix)
    return Fit(units, prompt, frame.tokens(prompt))
