import pytest
import torch

from longact_cli.config.algorithm import AlgorithmConfig
from longact_cli.config.compose import compose, parse
from longact_cli.training.token_selection import ScoredBatch, TokenSelection


class OneProcess:
    num_processes = 1


class Second:
    """The second of two processes: the first one holds `theirs` in each gather."""

    num_processes = 2
    process_index = 1

    def __init__(self, theirs: list[torch.Tensor]) -> None:
        self._theirs = iter(theirs)

    def gather(self, own: torch.Tensor) -> torch.Tensor:
        return torch.cat([next(self._theirs), own])


def algorithm(name: str, **changes: object) -> AlgorithmConfig:
    base = compose(parse(["model=path", f"algorithm={name}"])).algorithm
    return AlgorithmConfig.model_validate({**base.model_dump(), **changes})


def batch(advantages: list[float], log_probs: list[list[float]], counted) -> ScoredBatch:
    scores = torch.tensor(log_probs)
    return ScoredBatch(torch.tensor(advantages), scores, scores, torch.tensor(counted).bool())


# One rollout per micro-batch; mean advantage 0, mean log-prob -1.75.
FIRST = batch([1.0], [[-1.0, -2.5, -9.0]], [[1, 1, 0]])
SECOND = batch([-1.0], [[-9.0, -1.0, -2.5]], [[0, 1, 1]])
BOTH = (FIRST, SECOND)
MEAN = (-1.0 - 2.5 - 1.0 - 2.5) / 4


def chosen(selection: TokenSelection, batches) -> list[list[list[bool]]]:
    return [mask.tolist() for mask in selection.select(batches, step=0).tokens]


def test_the_pool_is_the_step_and_uncounted_tokens_are_no_part_of_it() -> None:
    selection = TokenSelection(algorithm("kl-cov", cov_ratio=0.5), seed=0, accelerator=OneProcess())
    assert MEAN == -1.75
    # covariances: .75, -.75 | -.75, .75
    assert chosen(selection, BOTH) == [[[True, False, False]], [[False, False, True]]]


def test_clip_cov_draws_inside_its_range_over_the_whole_step() -> None:
    settings = {"cov_ratio": 1.0, "cov_low": 0.5, "cov_high": 5.0}
    selection = TokenSelection(algorithm("clip-cov", **settings), seed=0, accelerator=OneProcess())
    assert chosen(selection, BOTH) == [[[True, False, False]], [[False, False, True]]]
    outside = {**settings, "cov_low": 0.8}
    selection = TokenSelection(algorithm("clip-cov", **outside), seed=0, accelerator=OneProcess())
    assert not any(mask.any() for mask in selection.select(BOTH, step=0).tokens)


def test_a_rollout_alone_has_no_covariance() -> None:
    settings = {"cov_ratio": 1.0, "cov_low": 0.0, "cov_high": 5.0}
    selection = TokenSelection(algorithm("clip-cov", **settings), seed=0, accelerator=OneProcess())
    assert chosen(selection, (FIRST,)) == [[[False, False, False]]]


def test_clip_cov_draws_other_tokens_with_another_seed_and_in_another_step() -> None:
    wide = batch([1.0, -1.0], [[-1.0] * 40, [-3.0] * 40], [[1] * 40] * 2)
    config = algorithm("clip-cov", cov_ratio=0.1, cov_low=0.5)
    one, two = (TokenSelection(config, seed=seed, accelerator=OneProcess()) for seed in (0, 1))
    first = one.select((wide,), step=0).tokens[0]
    assert int(first.sum()) == 8
    assert torch.equal(first, one.select((wide,), step=0).tokens[0])
    assert not torch.equal(first, one.select((wide,), step=1).tokens[0])
    assert not torch.equal(first, two.select((wide,), step=0).tokens[0])


@pytest.mark.parametrize(("longer", "name"), [(0, "kl-cov"), (1, "kl-cov"), (1, "clip-cov")])
def test_tokens_of_other_processes_are_part_of_the_pool(longer: int, name: str) -> None:
    """The other process holds FIRST, padded to the longest; this one holds SECOND."""

    def padded(values: list[float]) -> torch.Tensor:
        return torch.tensor([values + [0.0] * longer])

    own = SECOND
    if longer:  # a third token of this process, at the mean of both
        own = batch([-1.0], [[-1.75, -1.0, -2.5]], [[1, 1, 1]])
    theirs = [
        torch.tensor([2]),
        padded([1.0, 1.0]),
        padded([-1.0, -2.5]),
        padded([-1.0, -2.5]),
    ]
    config = algorithm(name, cov_ratio=0.5 if name == "kl-cov" else 1.0, cov_low=0.5)
    selection = TokenSelection(config, seed=0, accelerator=Second(theirs))
    (mask,), fraction = selection.select((own,), step=0)
    assert mask.tolist() == [[False, False, True]]
    assert fraction == 2 / (4 + longer)  # the first token of FIRST as well
