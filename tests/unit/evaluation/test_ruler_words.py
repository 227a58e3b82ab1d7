from hashlib import sha256
from random import Random

import pytest

from longact_cli.evaluation.ruler.words import (
    draw_number,
    draw_uuid,
    draw_variable,
    draw_word,
    is_train_key,
    word_list,
)

DRAWS = [draw_word, draw_uuid, draw_number, draw_variable]


def test_the_first_hash_bit_decides_the_half():
    # sha256("abc") = ba7816bf...: 0xba is even; sha256("hello") = 2cf24d...: even;
    # sha256("") = e3b0c4...: 0xe3 is odd.
    assert sha256(b"abc").hexdigest().startswith("ba")
    assert is_train_key("abc")
    assert is_train_key("hello")
    assert not is_train_key("")


@pytest.mark.parametrize("draw", DRAWS)
def test_training_and_evaluation_never_share_a_string(draw):
    train_rng, eval_rng = Random(1), Random(1)
    train = {draw(train_rng, "train") for _ in range(2000)}
    evaluation = {draw(eval_rng, "eval") for _ in range(2000)}
    assert min(len(train), len(evaluation)) > 1500
    assert not train & evaluation


@pytest.mark.parametrize("draw", DRAWS)
def test_equal_streams_draw_equal_strings(draw):
    assert [draw(Random(7), "eval") for _ in range(3)] == [draw(Random(7), "eval")] * 3


def test_shapes_are_the_official_ones():
    rng = Random(0)
    adjective, _, noun = draw_word(rng, "eval").partition("-")
    assert adjective in word_list("adjectivelist.txt")
    assert noun in word_list("nounlist.txt")
    uuid = draw_uuid(rng, "eval")
    assert [len(part) for part in uuid.split("-")] == [8, 4, 4, 4, 12]
    assert uuid[14] == "4"
    assert all(len(draw_number(rng, "eval")) == 7 for _ in range(100))
    assert all(draw_number(rng, "eval", digits=5)[0] != "0" for _ in range(100))
    name = draw_variable(rng, "eval", letters=3)
    assert len(name) == 3
    assert name.isupper()


def test_word_lists_are_long_enough_for_keys_to_be_rare():
    assert len(word_list("nounlist.txt")) > 6000
    assert len(word_list("adjectivelist.txt")) > 900
