import pytest

from longact_cli.evaluation.truncation import LongText, keep_ends


class Letters:
    """A tokenizer with one token per character, and a start token like Llama's."""

    def __init__(self, *, bos: bool = False) -> None:
        self.bos = bos

    def encode(self, text: str) -> list[int]:
        return [0] * self.bos + [ord(letter) for letter in text]

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return "".join(chr(token) for token in ids if token)


@pytest.mark.parametrize(
    ("count", "budget", "exact", "equal"),
    [
        (10, 10, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (10, 20, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (10, 4, [0, 1, 8, 9], [0, 1, 8, 9]),
        (10, 5, [0, 1, 7, 8, 9], [0, 1, 8, 9]),
        (10, 2, [0, 9], [0, 9]),
        (10, 3, [0, 8, 9], [0, 9]),
        (10, 9, [0, 1, 2, 3, 5, 6, 7, 8, 9], [0, 1, 2, 3, 6, 7, 8, 9]),
        (0, 2, [], []),
    ],
)
def test_the_first_and_the_last_half_are_kept(count, budget, exact, equal):
    assert list(keep_ends(range(count), budget)) == exact
    assert list(keep_ends(range(count), budget, halves="equal")) == equal


@pytest.mark.parametrize("budget", [1, 0, -3])
def test_a_budget_without_room_for_both_ends_is_refused(budget):
    with pytest.raises(ValueError, match="both ends"):
        keep_ends(range(5), budget)


def test_a_cut_text_reports_what_it_lost():
    cut = LongText("abcdefghij", tokenizer=Letters()).cut(4)
    assert cut == ("abij", 10, 6)


def test_a_text_that_fits_is_returned_unchanged():
    assert LongText("a<s>b", tokenizer=Letters()).cut(5) == ("a<s>b", 5, 0)


def test_the_tokenizers_start_token_counts_and_vanishes():
    cut = LongText("abcdefghij", tokenizer=Letters(bos=True)).cut(4)
    assert cut == ("aij", 11, 7)


def test_a_real_tokenizer_keeps_the_ends_of_a_text(tokenizer):
    text = " ".join(f"word{number}" for number in range(300))
    cut = LongText(text, tokenizer=tokenizer).cut(40)
    ids = tokenizer.encode(text)
    assert cut.tokens_in == len(ids)
    assert cut.tokens_cut == len(ids) - 40
    assert cut.text == tokenizer.decode(ids[:20] + ids[-20:])
    assert cut.text.startswith("word0 ")
    assert cut.text.endswith("word299")


def test_one_text_can_be_cut_to_several_budgets():
    text = LongText("abcdefghij", tokenizer=Letters())
    assert [text.cut(budget).text for budget in (4, 10, 3)] == ["abij", "abcdefghij", "aij"]
