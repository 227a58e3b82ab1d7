"""From a chat to the exact text that a model sees, cut in the middle where it is too long."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.evaluation.tokens import count_prompt_tokens
from longact_cli.evaluation.truncation import Halves, LongText

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SMALLEST_MESSAGE = 2


class Message(NamedTuple):
    """One message of a chat."""

    role: str
    content: str


class ChatFrame(NamedTuple):
    """How a chat becomes text; without `chat_template` its last message stands alone."""

    tokenizer: "PreTrainedTokenizerBase"
    chat_template: bool
    thinking: bool = False
    """Ask for thoughts before the answer, where the template offers that."""

    def render(self, chat: Sequence[Message]) -> str:
        """Return everything the model sees before it answers.

        Raises:
            ConfigError: The tokenizer has no chat template.
            PrerequisiteError: Its template refuses this chat.
        """
        if not self.chat_template:
            return chat[-1].content
        from jinja2 import TemplateError

        if not self.tokenizer.chat_template:
            raise ConfigError(
                f"benchmark.chat_template is true, but the tokenizer of "
                f"'{self.tokenizer.name_or_path}' has none; set benchmark.chat_template=false"
            )
        try:
            text = self.tokenizer.apply_chat_template(
                [message._asdict() for message in chat],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=self.thinking,
            )
        except TemplateError as error:
            raise PrerequisiteError(
                f"the chat template of '{self.tokenizer.name_or_path}' refuses the roles "
                f"{', '.join(message.role for message in chat)} ({error}); choose another "
                "benchmark.mode or set benchmark.chat_template=false"
            ) from None
        return str(text)


class FittedPrompt(NamedTuple):
    """A prompt that fits, and what that took. Lengths in tokens."""

    prompt: str
    tokens: int
    tokens_cut: int


class Budget(NamedTuple):
    """What a prompt may take, in tokens."""

    prompt: int
    """The whole prompt, template included."""
    message: int | None = None
    """The message before the template; None = what the prompt's budget leaves."""
    halves: Halves = "exact"


def fit_prompt(
    text: str,
    wrap: Callable[[str], str],
    *,
    tokenizer: "PreTrainedTokenizerBase",
    budget: Budget,
) -> FittedPrompt:
    """Cut a message in its middle until the prompt around it fits.

    Joining two ends can create a few tokens more than were kept; they are then cut as well.

    Args:
        text: The message.
        wrap: Puts a message into its chat.
        tokenizer: Counts tokens.
        budget: Largest prompt and largest message.

    Raises:
        ConfigError: Not even the shortest message fits.
    """
    room = budget.prompt - count_prompt_tokens(tokenizer, wrap(""))
    room = room if budget.message is None else min(room, budget.message)
    whole = LongText(text, tokenizer=tokenizer)
    while room >= _SMALLEST_MESSAGE:
        cut = whole.cut(room, halves=budget.halves)
        prompt = wrap(cut.text)
        tokens = count_prompt_tokens(tokenizer, prompt)
        if tokens <= budget.prompt:
            return FittedPrompt(prompt, tokens, cut.tokens_cut)
        kept = cut.tokens_in - cut.tokens_cut
        room = min(room, kept) - (tokens - budget.prompt)
    raise ConfigError(
        f"benchmark.context_lengths leaves {budget.prompt} tokens for a prompt, too few for the "
        "chat template and a question: choose a larger length"
    )
