"""Which sets are compared, and what the comparison says."""

from itertools import product

import pytest
import torch

from longact_cli.analysis.overlap import agreements, comparisons, matrix_of_sets, overlap_rows
from longact_cli.analysis.profile import Matrix
from longact_cli.analysis.row_sets import RowSet

MATRICES = (Matrix("a", 0, "q", 4, 2), Matrix("b", 1, "q", 4, 2))


def rows(*places: int) -> torch.Tensor:
    chosen = torch.zeros(4, dtype=torch.bool)
    chosen[list(places)] = True
    return chosen


def salient(first: torch.Tensor, **parts: object) -> RowSet:
    found = {"context": "long", "seed": 0, "site": "norm", "statistic": "mean_abs", **parts}
    strategy = found.pop("strategy", "salient")
    return RowSet({"a": first, "b": rows(0, 1)}, found.pop("subject", "m"), strategy, **found)


def test_sets_are_compared_where_exactly_one_thing_differs() -> None:
    sets = [
        salient(rows(0, 1), context=context, seed=seed, statistic=statistic)
        for context, seed, statistic in product(("long", "short"), (0, 1), ("mean_abs", "rms"))
    ]
    found = {(c.name, c.first, c.second): len(c.pairs) for c in comparisons(sets)}
    assert found == {
        ("length", "salient long mean_abs", "salient short mean_abs"): 2,
        ("length", "salient long rms", "salient short rms"): 2,
        ("seed", "salient long mean_abs", "salient long mean_abs"): 1,
        ("seed", "salient long rms", "salient long rms"): 1,
        ("seed", "salient short mean_abs", "salient short mean_abs"): 1,
        ("seed", "salient short rms", "salient short rms"): 1,
        ("statistic", "salient long mean_abs", "salient long rms"): 2,
        ("statistic", "salient short mean_abs", "salient short rms"): 2,
    }


def test_single_prompts_are_paired_within_a_seed_only() -> None:
    sets = [
        salient(rows(0), seed=seed, prompt=prompt) for seed, prompt in product((0, 1), (0, 1, 2))
    ]
    (found,) = comparisons(sets)
    assert (found.name, len(found.pairs)) == ("prompt", 6)  # three pairs in each of two seeds


def test_other_strategies_are_compared_with_salient_rows_of_the_same_draw() -> None:
    sets = [
        salient(rows(0, 1)),
        salient(rows(2, 3), strategy="lowest"),
        salient(rows(1, 2), strategy="random"),
        salient(rows(0, 2), context="short"),
    ]
    found = {(c.name, c.first, c.second) for c in comparisons(sets)}
    assert found == {
        ("length", "salient long", "salient short"),
        ("strategy", "salient long", "lowest long"),
        ("strategy", "salient long", "random"),
    }


def changed(run: str, measure: str) -> RowSet:
    return RowSet({"a": rows(0, 3), "b": rows(0, 1)}, run, "changed", statistic=measure)


def test_changed_rows_are_compared_with_every_set_and_between_runs() -> None:
    runs = [
        changed("run 1", "relative"),
        changed("run 1", "absolute"),
        changed("run 2", "relative"),
    ]
    sets = [salient(rows(0, 1)), salient(rows(0, 1), strategy="lowest"), *runs]
    found = {(c.first, c.second) for c in comparisons(sets) if c.name == "changed"}
    names = [f"changed by {run.subject}, {run.statistic}" for run in runs]
    against = {(name, other) for name in names for other in ("salient", "lowest")}
    assert found == against | {(names[0], names[1]), (names[0], names[2])}


def test_overlap_is_averaged_over_pairs_for_each_matrix_and_head() -> None:
    sets = [
        salient(rows(0, 1)), salient(rows(0, 2), context="short"),  # 1 of 3
        salient(rows(0, 1), seed=1), salient(rows(0, 1), context="short", seed=1),  # 2 of 2
    ]  # fmt: skip
    length = next(c for c in comparisons(sets) if c.name == "length")
    found = list(overlap_rows(length, MATRICES))
    assert [(row.layer, row.head) for row in found] == [
        (0, "all"), (0, "0"), (0, "1"), (1, "all"), (1, "0"), (1, "1")
    ]  # fmt: skip
    whole, first, second = found[:3]
    assert whole.jaccard == pytest.approx((1 / 3 + 1) / 2)
    assert (whole.lowest, whole.highest) == (pytest.approx(1 / 3), 1.0)
    # Two of four rows twice: 0, 1 or 2 shared with chance 1/6, 4/6, 1/6.
    assert whole.expected == pytest.approx(4 / 6 * 1 / 3 + 1 / 6)
    assert first.jaccard == pytest.approx((0.5 + 1) / 2)
    assert (second.pairs, second.jaccard) == (1, 0.0)  # empty on both sides with seed 1
    assert (whole.model, whole.site, whole.context) == ("m", "norm", "")


def test_the_agreement_of_a_model_is_the_mean_over_its_matrices() -> None:
    sets = [salient(rows(0, 1)), salient(rows(2, 3), context="short")]
    (length,) = comparisons(sets)
    (found,) = agreements(overlap_rows(length, MATRICES))
    assert (found.jaccard, found.lowest, found.highest) == (0.5, 0.0, 1.0)


def test_the_matrix_of_sets_leaves_out_single_prompts_and_names_what_differs() -> None:
    sets = [
        salient(rows(0, 1)),
        salient(rows(1, 2), context="short", site="proj"),
        salient(rows(0), prompt=0),
        salient(rows(2, 3), strategy="lowest"),
        changed("run", "relative"),
    ]
    found = matrix_of_sets(sets, MATRICES)
    assert found.labels == ("long seed 0", "short seed 0 proj", "lowest", "changed relative")
    assert found.jaccard[0][1] == pytest.approx((1 / 3 + 1) / 2)
    assert [found.jaccard[i][i] for i in range(4)] == [1.0] * 4
