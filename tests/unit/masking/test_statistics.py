import pytest
import torch

from longact_cli.masking import MaskSchedule, MaskSettings, SaliencyProbe, find_projections
from longact_cli.masking.rotary import pair_magnitude
from longact_cli.masking.scores import wanda_scores, weight_norms

from .masking_toys import K, Q, Toy

IDS, ONES = torch.tensor([[1, 3]]), torch.ones(1, 2, dtype=torch.long)


def saliency(statistic: str, *batches: list[int]) -> torch.Tensor:
    probe = SaliencyProbe(Toy(), find_projections(Toy()), site="proj", statistic=statistic)
    model = Toy()
    probe = SaliencyProbe(model, find_projections(model), site="proj", statistic=statistic)
    for ids in batches:
        probe.add(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long))
    return probe.saliency()[Q]


@pytest.mark.parametrize(
    ("statistic", "of_embeddings_1_3_5"),
    [("mean_abs", 3.0), ("rms", (35 / 3) ** 0.5), ("max_abs", 5.0)],
)
def test_a_statistic_pools_all_tokens_of_all_batches(
    statistic: str, of_embeddings_1_3_5: float
) -> None:
    expected = [weight * of_embeddings_1_3_5 for weight in (1, 2, 3, 4)]
    assert saliency(statistic, [1, 5], [3]).tolist() == pytest.approx(expected, rel=1e-6)


def test_p99_is_within_a_bin_of_the_exact_quantile() -> None:
    values = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)).exp() * 7
    from longact_cli.masking.statistics import STATISTICS, merge

    p99 = STATISTICS["p99"]
    total = None
    for part in values.split(1000):
        total = merge(total, p99.measure(part), p99.operation)
    found = p99.finish(total, torch.tensor(4000.0))
    exact = torch.quantile(values, 0.99, dim=0)
    assert torch.allclose(found, exact, rtol=0.045)


def test_p99_is_read_linearly_in_log2_within_its_bin() -> None:
    from longact_cli.masking.statistics import STATISTICS

    p99 = STATISTICS["p99"]
    values = torch.ones(1000, 2)  # bins start at 1 and at 2 and are 1/16 octave wide
    values[:, 1] = 2.0
    found = p99.finish(p99.measure(values), torch.tensor(1000.0))
    assert found.tolist() == pytest.approx([2 ** (0.99 / 16), 2 * 2 ** (0.99 / 16)], rel=1e-6)


@pytest.mark.parametrize(("value", "edge"), [(0.0, -20), (2.0**-30, -20), (2.0**30, 20 - 1 / 16)])
def test_p99_of_values_beyond_its_bins_is_that_of_the_outermost_bin(
    value: float, edge: float
) -> None:
    from longact_cli.masking.statistics import STATISTICS

    p99 = STATISTICS["p99"]
    found = p99.finish(p99.measure(torch.full((50, 1), value)), torch.tensor(50.0))
    assert found.item() == pytest.approx(2 ** (edge + 0.99 / 16), rel=1e-6)


def test_p99_is_the_upper_edge_of_the_bin_that_completes_it() -> None:
    from longact_cli.masking.statistics import STATISTICS

    p99 = STATISTICS["p99"]
    values = torch.ones(100, 2)
    values[0] = 8.0  # the other 99 are exactly 99 % of the first column
    values[1, 1] = 8.0
    found = p99.finish(p99.measure(values), torch.tensor(100.0))
    assert found.tolist() == pytest.approx([2 ** (1 / 16), 8 * 2 ** (0.5 / 16)], rel=1e-6)


def test_p99_ignores_the_largest_hundredth() -> None:
    from longact_cli.masking.statistics import STATISTICS

    values = torch.ones(1000, 1)
    values[:9] = 500.0
    assert STATISTICS["p99"].finish(
        STATISTICS["p99"].measure(values), torch.tensor(1000.0)
    ).item() == pytest.approx(1.0, rel=0.045)


def test_pair_magnitude_gives_both_channels_of_a_pair_its_energy() -> None:
    vector = torch.tensor([3.0, 1.0, 4.0, 0.0, 7.0])  # rotary 4: pairs (0, 2) and (1, 3)
    assert pair_magnitude(vector, 4).tolist() == [5.0, 1.0, 5.0, 1.0, 7.0]


def test_pair_magnitude_is_what_the_rotary_embedding_leaves_unchanged() -> None:
    from transformers.models.qwen3.modeling_qwen3 import apply_rotary_pos_emb

    query = torch.randn(1, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    angles = torch.outer(torch.arange(5.0), 10.0 ** -torch.arange(0.0, 1.0, 0.25))
    angles = torch.cat([angles, angles], dim=-1).unsqueeze(0)
    rotated, _ = apply_rotary_pos_emb(query, query, angles.cos(), angles.sin())
    assert not torch.allclose(rotated, query, atol=0.1)
    assert torch.allclose(pair_magnitude(rotated, 8), pair_magnitude(query, 8), atol=1e-5)


def test_weight_and_wanda_scores_are_the_hand_computed_norms() -> None:
    model = Toy()
    projections = find_projections(model)
    assert weight_norms(projections)[Q].tolist() == [1.0, 2.0, 3.0, 4.0]
    schedule = MaskSchedule(model, MaskSettings("wanda", 0.5, "proj"))
    schedule.observe(0, IDS, ONES)
    schedule.arm(0)
    assert schedule.row_mask.mask[Q].tolist() == [False, False, True, True]
    rms = {name: torch.tensor([5.0**0.5]) for name in (Q, K)}  # of inputs 1 and 3
    expected = [weight * 5.0**0.5 for weight in (1, 2, 3, 4)]
    assert wanda_scores(projections, rms)[Q].tolist() == pytest.approx(expected)


def test_wanda_weighs_input_features_by_their_size() -> None:
    model = torch.nn.Module()
    model.q_proj, model.k_proj = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    with torch.no_grad():
        model.q_proj.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 2.0]]))
    projections = find_projections(model)
    rms = {p.parameter_name: torch.tensor([1.0, 10.0]) for p in projections}
    assert wanda_scores(projections, rms)["q_proj.weight"].tolist() == [3.0, 20.0]
    assert weight_norms(projections)["q_proj.weight"].tolist() == [3.0, 2.0]


def test_the_gradient_strategy_ranks_the_gradient_accumulated_over_micro_batches() -> None:
    model = Toy()
    schedule = MaskSchedule(model, MaskSettings("gradient", 0.5))
    gradients = ([1.0, 0.0, 5.0, 3.0], [1.0, 4.0, -5.0, 0.0])  # sum 2 4 0 3
    for last, gradient in enumerate(gradients):
        if last:
            schedule.arm(0)
        loss = (model.blocks[0].q_proj.weight * torch.tensor(gradient).unsqueeze(1)).sum()
        (loss + model.blocks[0].k_proj.weight.sum() * (1 + last)).backward()
    assert schedule.row_mask.mask[Q].tolist() == [False, True, False, True]
    assert model.blocks[0].q_proj.weight.grad.flatten().tolist() == [0.0, 4.0, 0.0, 3.0]
    report = schedule.finish_step()
    assert report.kept_norm == pytest.approx((16 + 9 + 9) ** 0.5)  # k: 3 and 0
    assert report.dense_norm == pytest.approx((4 + 16 + 9 + 9 + 9) ** 0.5)
