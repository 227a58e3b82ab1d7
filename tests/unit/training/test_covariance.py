import pytest
import torch

from longact_cli.training.covariance import (
    ClipRange,
    TokenPool,
    clip_cov_tokens,
    clipped_tokens,
    kl_cov_tokens,
    selected_count,
    step_draws,
    token_covariance,
)

# mean advantage 0.5, mean log-prob -2
POOL = TokenPool(
    advantages=torch.tensor([1.0, 1.0, -0.5, 0.5]),
    log_probs=torch.tensor([-0.5, -3.0, -2.0, -2.5]),
    old_log_probs=torch.tensor([-0.5, -3.0, -2.0, -2.5]),
)
OPEN = ClipRange(None, None)


def test_the_covariance_is_the_product_of_the_centred_values() -> None:
    # advantages centred: .5, .5, -1, 0; log-probs centred: 1.5, -1, 0, -.5
    assert token_covariance(POOL).tolist() == [0.75, -0.5, 0.0, 0.0]


def test_equal_advantages_have_no_covariance() -> None:
    pool = POOL._replace(advantages=torch.full((4,), 0.7))
    assert token_covariance(pool).abs().max() == 0.0


def test_clipping_removes_what_moved_too_far_in_the_wanted_direction() -> None:
    ratio = torch.tensor([1.25, 1.35, 0.75, 0.85])
    pool = TokenPool(torch.tensor([1.0, 1.0, -1.0, -1.0]), ratio.log(), torch.zeros(4))
    assert clipped_tokens(pool, ClipRange(0.2, 0.3)).tolist() == [False, True, True, False]
    opposite = pool._replace(advantages=-pool.advantages)
    assert not clipped_tokens(opposite, ClipRange(0.2, 0.3)).any()
    smaller = pool._replace(advantages=-0.5 * pool.advantages)
    assert not clipped_tokens(smaller, ClipRange(0.2, 0.3)).any()
    indifferent = pool._replace(advantages=torch.zeros(4))
    assert not clipped_tokens(indifferent, ClipRange(0.2, 0.3)).any()
    assert not clipped_tokens(pool, OPEN).any()
    unmoved = pool._replace(log_probs=torch.zeros(4))
    assert not clipped_tokens(unmoved, ClipRange(0.0, 0.0)).any()  # a bound itself is inside


@pytest.mark.parametrize(
    ("tokens", "ratio", "count"), [(10000, 2e-4, 2), (99, 0.1, 9), (5, 0.1, 1)]
)
def test_the_count_is_rounded_down_and_at_least_one(tokens: int, ratio: float, count: int) -> None:
    assert selected_count(tokens, ratio) == count


def test_kl_cov_takes_the_highest_covariances() -> None:
    assert kl_cov_tokens(POOL, cov_ratio=0.25).tolist() == [True, False, False, False]
    assert kl_cov_tokens(POOL, cov_ratio=0.5).tolist() == [True, False, True, False]  # ties: first
    assert kl_cov_tokens(POOL, cov_ratio=1.0).all()


def draw(pool: TokenPool, *, step: int = 0, ratio: float = 1.0, bounds=OPEN, span=(0.5, 5.0)):
    generator = step_draws(0, step)
    selected = clip_cov_tokens(pool, bounds, cov_ratio=ratio, cov_range=span, generator=generator)
    return selected.nonzero().flatten().tolist()


def many(tokens: int = 100) -> TokenPool:
    """Half of the tokens have covariance 1, half 0.25."""
    sign = torch.tensor([1.0, -1.0]).repeat(tokens // 2)
    size = torch.cat([torch.ones(tokens // 2), torch.full((tokens // 2,), 0.25)])
    return TokenPool(sign, sign * size, sign * size)


def test_clip_cov_draws_only_inside_its_range() -> None:
    assert draw(many()) == list(range(50))
    assert draw(many(), span=(0.0, 0.5)) == list(range(50, 100))
    assert draw(many(), span=(1.0, 5.0)) == []  # the bounds are excluded
    assert draw(many(), span=(0.5, 1.0)) == []


def test_clip_cov_leaves_out_what_ppo_clipped() -> None:
    pool = many()
    moved = pool._replace(old_log_probs=pool.log_probs - 0.5 * pool.advantages)
    assert draw(moved, bounds=ClipRange(0.2, 0.2)) == []
    assert draw(moved, bounds=ClipRange(1.0, 1.0)) == list(range(50))


def test_clip_cov_draws_a_fraction_of_all_tokens_anew_in_every_step() -> None:
    first, again, other = (draw(many(), step=step, ratio=0.1) for step in (0, 0, 1))
    assert len(first) == 10
    assert first == again
    assert first != other


def test_an_empty_step_selects_nothing() -> None:
    empty = TokenPool(*(torch.zeros(0) for _ in range(3)))
    assert len(kl_cov_tokens(empty, cov_ratio=0.1)) == 0
    assert draw(empty) == []
