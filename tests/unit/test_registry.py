import pytest

from longact_cli.errors import UnknownNameError
from longact_cli.registry import Registry


def test_a_wrong_name_is_answered_with_the_closest_right_one():
    registry = Registry[int]("mask.strategy")
    registry.register("salient")(1)
    registry.register("random")(2)
    with pytest.raises(UnknownNameError) as caught:
        registry.get("salint")
    assert str(caught.value) == (
        "mask.strategy is 'salint'; it must be one of: random, salient. Did you mean 'salient'?"
    )
    assert caught.value.exit_code == 2


def test_a_name_cannot_be_taken_twice():
    registry = Registry[int]("k")
    registry.register("a")(1)
    with pytest.raises(ValueError, match="registered twice"):
        registry.register("a")(2)
