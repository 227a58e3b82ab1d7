import pytest

from longact_cli.errors import ConfigError, NotFoundError, UnknownNameError
from longact_cli.reporting.frame import load_study
from longact_cli.reporting.pivot import parse_pivot, pivot_table
from longact_cli.reporting.table import Provenance

NOWHERE = Provenance("longact report", "0", "pilot", (), ())


@pytest.fixture(scope="module")
def study(paper_store):
    return load_study(paper_store, "paper")


def _rows(table):
    keys = [column.key for column in table.columns]
    return [dict(zip(keys, row, strict=True)) for row in table.sections[0].rows]


def test_a_pivot_averages_what_falls_into_each_cell(study):
    pivot = parse_pivot("mask,sparsity", "bench", ["model=qwen3-8b", "algo=dapo", "mask=salient"])
    table = pivot_table(study, NOWHERE, pivot)
    asked = study.samples
    asked = asked[(asked["model"] == "qwen3-8b") & (asked["algorithm"] == "dapo")]
    asked = asked[(asked["arm"] == "salient") & (asked["benchmark"] == "ruler")]
    rows = _rows(table)
    assert [row["sparsity"].value for row in rows] == ["0.1", "0.3", "0.5"]
    for row in rows:
        part = asked[asked["sparsity"] == float(row["sparsity"].value)]
        by_question = part.groupby(["task", "context_length", "sample"])["score"].mean()
        expected = by_question.groupby(["task", "context_length"]).mean().mean()
        assert row["score_ruler"].value == pytest.approx(expected)
        assert (row["score_ruler"].n, row["score_ruler"].seeds) == (60, 3)
    assert not any("different settings" in note for note in table.notes)


def test_a_pivot_says_which_settings_it_mixes(study):
    table = pivot_table(study, NOWHERE, parse_pivot("mask", "bench", ["model=qwen3-4b"]))
    (note,) = (note for note in table.notes if "different settings" in note)
    assert "algorithm (dapo, grpo, sft)" in note
    assert "sparsity (0.1, 0.3, 0.5)" not in note.partition("algorithm")[0]


def test_any_setting_can_be_a_field(study):
    table = pivot_table(study, NOWHERE, parse_pivot("mask.scope", "model", []))
    assert [row["mask.scope"].value for row in _rows(table)] == ["n/a", "matrix"]


@pytest.mark.parametrize(
    ("rows", "cols", "where", "error", "hint"),
    [
        ("maks", "bench", [], UnknownNameError, "--rows is 'maks'.*Did you mean 'mask'"),
        ("mask", "bnech", [], UnknownNameError, "--cols is 'bnech'.*Did you mean 'bench'"),
        ("mask", "bench", ["modle=x"], UnknownNameError, "--where is 'modle'.*'model'"),
        ("mask", "bench", ["model=qwen3-8"], UnknownNameError, "Did you mean 'qwen3-8b'"),
        ("mask", "mask", [], ConfigError, "in --rows and in --cols"),
        ("mask", "seed,task,bench", [], ConfigError, "columns; at most 40"),
        ("sparsity", "mask", ["mask=base", "sparsity=0.3"], NotFoundError, "leaves no answers"),
    ],
)
def test_a_wrong_pivot_is_answered_in_one_line(study, rows, cols, where, error, hint):
    with pytest.raises(error, match=hint) as caught:
        pivot_table(study, NOWHERE, parse_pivot(rows, cols, where))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "cols", "where", "hint"),
    [("", "task", [], "--rows is empty"), ("mask", "task", ["model"], "must be FIELD=VALUE")],
)
def test_a_malformed_pivot_is_refused(rows, cols, where, hint):
    with pytest.raises(ConfigError, match=hint):
        parse_pivot(rows, cols, where)
