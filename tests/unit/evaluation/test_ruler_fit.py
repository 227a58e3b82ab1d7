import pytest

from longact_cli.errors import ConfigError
from longact_cli.evaluation.ruler.draft import Draft
from longact_cli.evaluation.ruler.fit import largest, smallest
from longact_cli.evaluation.ruler.frame import PromptFrame


class CountingFrame(PromptFrame):
    """A frame whose tokens are a function of the text, and that counts how often it is asked."""

    def __init__(self, prompt_tokens, one_line):
        self.prompt_tokens, self.one_line, self.encodes = prompt_tokens, one_line, 0

    def prompt(self, message, prefix):
        return message + prefix

    def tokens(self, text):
        self.encodes += 1
        return self.prompt_tokens(text)

    def line_tokens(self, lines):
        return [self.one_line] * len(lines)


def draft(minimum=1):
    return Draft(
        minimum=minimum,
        unit=lambda _: "xxx",
        message=lambda units: "xxx\n" * units,
        prefix="??",
        references=("a",),
    )


def test_additive_tokens_need_two_encodes_whatever_the_length():
    # 2 tokens of prefix and 4 per line: 2 + 4 * 249 = 998, one more line would be 1002.
    frame = CountingFrame(len, one_line=4)
    assert largest(draft(), frame, budget=1000).units == 249
    assert frame.encodes == 2


@pytest.mark.parametrize("one_line", [1, 3, 5, 9])
def test_wrong_line_counts_are_corrected_by_real_ones(one_line):
    frame = CountingFrame(len, one_line=one_line)
    found = largest(draft(), frame, budget=1000)
    assert (found.units, found.tokens) == (249, 998)
    assert frame.encodes < 12


@pytest.mark.parametrize("budget", range(6, 60))
def test_one_more_line_would_not_fit(budget):
    frame = CountingFrame(lambda text: -(-len(text) // 3), one_line=1)
    found = largest(draft(), frame, budget=budget)
    assert found.tokens <= budget
    assert frame.prompt_tokens("xxx\n" * (found.units + 1) + "??") > budget


def test_nothing_fits_into_too_small_a_budget():
    assert largest(draft(minimum=3), CountingFrame(len, one_line=4), budget=13) is None
    assert largest(draft(minimum=3), CountingFrame(len, one_line=4), budget=14).units == 3


def test_the_smallest_prompt_has_the_minimum_of_lines():
    assert smallest(draft(minimum=3), CountingFrame(len, one_line=4)).tokens == 14


def test_a_prompt_is_template_then_message_then_answer_prefix(tokenizer):
    assert PromptFrame(tokenizer, chat_template=True).prompt("Question?", " The answer is") == (
        "<|im_start|>user\nQuestion?<|im_end|>\n<|im_start|>assistant\n The answer is"
    )
    assert PromptFrame(tokenizer, chat_template=False).prompt("Question?", " It is") == (
        "Question? It is"
    )


def test_a_missing_chat_template_is_explained(tiny_checkpoint):
    from transformers import AutoTokenizer

    bare = AutoTokenizer.from_pretrained(tiny_checkpoint)
    bare.chat_template = None
    with pytest.raises(ConfigError, match=r"benchmark\.chat_template=false"):
        PromptFrame(bare, chat_template=True).prompt("a", "b")
