import pytest

from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.evaluation.prompt_fit import Budget, ChatFrame, Message, fit_prompt
from longact_cli.evaluation.prompt_spool import PromptSpool


class Words:
    """A tokenizer with one token per word, whose joined halves cost one token more."""

    bos_token = None
    seam = "|"

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[str]:
        return text.replace(self.seam, " seam ").split()

    def decode(self, ids: list[str], *, skip_special_tokens: bool) -> str:
        middle = len(ids) // 2
        return " ".join(ids[:middle]) + self.seam + " ".join(ids[middle:])


def wrap(message: str) -> str:
    return f"user {message} assistant"


TEXT = "a b c d e f g h i j"


@pytest.mark.parametrize(
    ("budget", "prompt", "tokens", "cut"),
    [
        (Budget(12), "user a b c d e f g h i j assistant", 12, 0),
        (Budget(20, 4), "user a b|i j assistant", 7, 6),
        (Budget(8), "user a b|h i j assistant", 8, 5),  # 6 words and the seam would be 9
        (Budget(5), "user a|j assistant", 5, 8),
    ],
)
def test_the_prompt_fits_after_the_ends_were_joined(budget, prompt, tokens, cut):
    assert fit_prompt(TEXT, wrap, tokenizer=Words(), budget=budget) == (prompt, tokens, cut)


@pytest.mark.parametrize("room", [0, 2, 4])
def test_a_length_without_room_is_refused(room):
    with pytest.raises(ConfigError, match="choose a larger length"):
        fit_prompt(TEXT, wrap, tokenizer=Words(), budget=Budget(room))


class Templated(Words):
    """A tokenizer whose chat template refuses a second system message."""

    name_or_path = "toy"
    chat_template: str | None = "{{ x }}"

    def apply_chat_template(self, chat, *, tokenize, add_generation_prompt, enable_thinking):
        from jinja2 import TemplateError

        if sum(message["role"] == "system" for message in chat) > 1:
            raise TemplateError("one system message only")
        return "+".join(message["content"] for message in chat) + f"+{enable_thinking}"


CHAT = [Message("system", "s"), Message("user", "u")]


def test_a_chat_goes_through_the_template_or_ends_as_its_last_message():
    assert ChatFrame(Templated(), chat_template=True).render(CHAT) == "s+u+False"
    assert ChatFrame(Templated(), chat_template=True, thinking=True).render(CHAT) == "s+u+True"
    assert ChatFrame(Templated(), chat_template=False).render(CHAT) == "u"


def test_a_tokenizer_without_chat_template_is_refused():
    tokenizer = Templated()
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match=r"set benchmark\.chat_template=false"):
        ChatFrame(tokenizer, chat_template=True).render(CHAT)


def test_a_template_that_refuses_the_roles_is_one_line():
    with pytest.raises(PrerequisiteError, match="refuses the roles system, system, user"):
        ChatFrame(Templated(), chat_template=True).render([CHAT[0], *CHAT])


def test_spooled_prompts_come_back_unchanged():
    spool = PromptSpool()
    texts = ["", "a" * 100_000, "\u6587 \ud800 \u2028\x00"]
    readers = [spool.add(text) for text in texts]
    assert [read() for read in reversed(readers)] == texts[::-1]
    assert [read() for read in readers] == texts
