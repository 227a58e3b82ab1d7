"""Sums over chunks and batches equal what the whole array says."""

import numpy as np
import pytest
import scipy.stats
import torch

from longact_cli.analysis import totals as module
from longact_cli.analysis.concentration import bin_rows, measure_rows, ratio_rows
from longact_cli.analysis.profile import Draw, Matrix
from longact_cli.analysis.settings import STATISTIC_NAMES, Context
from longact_cli.analysis.totals import measure, merge

MATRIX = Matrix("w", 0, "q", 6, 3)


def vectors(seed: int, tokens: int = 500) -> torch.Tensor:
    scale = torch.tensor([1.0, 2.0, 0.5, 8.0, 1.0, 1.0])
    return torch.randn(tokens, 6, generator=torch.Generator().manual_seed(seed)) * scale


def draw_of(values: torch.Tensor, name: str = "long") -> Draw:
    totals = measure(values, head_dim=3, statistics=STATISTIC_NAMES)
    return Draw("m", "norm", Context(name, 100), 0, {"w": totals}, ())


def test_saliency_is_each_statistic_of_the_whole_array() -> None:
    values = vectors(0)
    found = measure(values, head_dim=3, statistics=STATISTIC_NAMES)
    exact = values.abs().numpy()
    assert found.saliency("mean_abs").numpy() == pytest.approx(exact.mean(axis=0), rel=1e-5)
    assert found.saliency("rms").numpy() == pytest.approx(
        np.sqrt((exact**2).mean(axis=0)), rel=1e-5
    )
    assert found.saliency("max_abs").numpy() == pytest.approx(exact.max(axis=0))
    assert found.saliency("p99").numpy() == pytest.approx(np.quantile(exact, 0.99, axis=0), rel=0.1)


def test_chunks_and_merged_batches_give_the_totals_of_one_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = torch.cat([vectors(1, 300), vectors(2, 50)])
    whole = measure(both, head_dim=3, statistics=STATISTIC_NAMES)
    monkeypatch.setattr(module, "_CHUNK_VALUES", 70)  # eleven tokens at a time
    parts = [measure(v, head_dim=3, statistics=STATISTIC_NAMES) for v in (both[:300], both[300:])]
    merged = merge(*parts)
    assert merged.tokens == 350
    assert torch.equal(merged.counts, whole.counts)
    assert torch.allclose(merged.powers, whole.powers, rtol=1e-12)
    for name in STATISTIC_NAMES:
        assert torch.allclose(merged.saliency(name), whole.saliency(name), rtol=1e-5)


def test_the_measures_of_a_head_are_those_of_its_channels_alone() -> None:
    values = vectors(3, 2000)
    rows = list(measure_rows(draw_of(values), [MATRIX], statistics=("mean_abs",), seed="0"))
    assert [row.head for row in rows] == ["all", "0", "1"]
    for row, part in zip(rows, (slice(0, 6), slice(0, 3), slice(3, 6)), strict=True):
        exact = values[:, part].double().numpy().ravel()
        assert row.mean_abs == pytest.approx(np.abs(exact).mean())
        assert row.kurtosis == pytest.approx(scipy.stats.kurtosis(exact), rel=1e-6)
        assert row.median_abs == pytest.approx(np.median(np.abs(exact)), rel=0.045)
        above = (np.abs(exact) > 3 * np.median(np.abs(exact))).mean()
        assert row.above_3 == pytest.approx(above, rel=0.1)
        assert (row.tokens, row.channels) == (2000, part.stop - part.start)
    # Mean |x| of the channels is about 0.8 x (1, 2, .5, 8, 1, 1): one in six is above 3 medians.
    assert rows[0].channels_above_3 == pytest.approx(1 / 6)
    assert rows[0].top_50 == pytest.approx((8 + 2 + 1) / 13.5, abs=0.02)


def test_long_against_short_compares_the_channels_that_are_salient_on_long() -> None:
    short = vectors(4)
    long = short.clone()
    long[:, 3] *= 2.0
    rows = list(
        ratio_rows(
            draw_of(long), draw_of(short, "short"), [MATRIX], statistics=("rms",), sparsity=0.34
        )
    )
    sizes = short.square().mean(dim=0).sqrt().double().numpy()
    assert rows[0].mean_ratio == pytest.approx((sizes.sum() + sizes[3]) / sizes.sum(), rel=1e-5)
    top = sizes[[1, 3]]  # floor(0.34 x 6) = 2 rows
    assert rows[0].salient_ratio == pytest.approx((top.sum() + sizes[3]) / top.sum(), rel=1e-5)
    assert rows[2].salient_ratio == pytest.approx(2.0, rel=1e-5)  # one of three rows in the head


def test_the_bins_of_a_matrix_and_of_its_heads_hold_every_activation_once() -> None:
    values = vectors(5, 200)
    rows = list(bin_rows(draw_of(values), [MATRIX]))
    for head, part in (("all", slice(0, 6)), ("0", slice(0, 3)), ("1", slice(3, 6))):
        exact = values[:, part].abs()
        own = [row for row in rows if row.head == head]
        assert sum(row.activations for row in own) == exact.numel()
        for row in own:
            inside = (exact >= row.lower) & (exact < row.upper)
            assert int(inside.sum()) == row.activations
