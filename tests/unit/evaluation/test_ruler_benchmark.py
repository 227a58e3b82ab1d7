"""RULER as a benchmark: modes, cache, scores and averages."""

import pytest

from longact_cli.config.schema import BenchmarkConfig
from longact_cli.errors import ConfigError, UnknownNameError
from longact_cli.evaluation.answers import failed_result
from longact_cli.evaluation.benchmark import Answered, open_benchmark
from longact_cli.evaluation.ruler import benchmark as module
from longact_cli.evaluation.ruler.cache import cache_dir


def config(**changes) -> BenchmarkConfig:
    values = {"tasks": ("niah_single_1",), "context_lengths": (512,), "limit": 3}
    return BenchmarkConfig(name="ruler", **{**values, **changes})


def samples(tokenizer, **changes):
    return open_benchmark(config(**changes)).samples(tokenizer)


def test_modes_differ_in_template_and_prefix(tokenizer):
    chat, free, base = (
        samples(tokenizer, mode=mode)[0].prompt for mode in ("prefix", "no-prefix", "base")
    )
    assert chat.startswith("<|im_start|>user\n")
    assert chat.endswith("mentioned in the provided text is")
    assert free.endswith("<|im_start|>assistant\n")
    assert base.startswith("A special magic number")
    assert base.endswith("mentioned in the provided text is")
    assert open_benchmark(config(mode="no-prefix")).protocol == "official, no-prefix"
    with pytest.raises(UnknownNameError, match=r"benchmark\.mode is 'chat'"):
        open_benchmark(config(mode="chat"))


def test_thoughts_take_their_tokens_from_the_prompt(tokenizer):
    thinking = samples(tokenizer, mode="no-prefix", thinking_tokens=100)[0]
    assert thinking.tokens_to_generate == 228
    assert thinking.prompt_tokens <= 512 - 228
    with pytest.raises(ConfigError, match=r"set benchmark\.mode=no-prefix"):
        open_benchmark(config(thinking_tokens=100))


def test_sizes_come_from_the_cache_the_second_time(tokenizer, monkeypatch, tmp_path):
    monkeypatch.setenv("LONGACT_CACHE", str(tmp_path))
    first = samples(tokenizer)
    monkeypatch.setattr(module, "make_sample", None)
    again = samples(tokenizer)
    assert again == first
    assert [one.prompt for one in again] == [one.prompt for one in first]
    assert len(samples(tokenizer, limit=2)) == 2


def test_a_damaged_cache_line_costs_only_its_sample(tokenizer, monkeypatch, tmp_path):
    monkeypatch.setenv("LONGACT_CACHE", str(tmp_path))
    first = samples(tokenizer)
    (path,) = (cache_dir() / "ruler").iterdir()
    lines = path.read_text("utf-8").split("\n")
    lines[1] = lines[1].replace("[1, ", "[2, ")
    path.write_text("\n".join([*lines[:-1], '[2, "torn']), "utf-8")
    made, make = [], module.make_sample
    monkeypatch.setattr(
        module,
        "make_sample",
        lambda *a, index, source: made.append(index) or make(*a, index=index, source=source),
    )
    assert samples(tokenizer) == first
    assert made == [1]


def test_a_cache_that_cannot_be_written_is_no_error(tokenizer, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LONGACT_CACHE", str(tmp_path / "file"))
    assert len(samples(tokenizer)) == 3


def test_other_settings_have_other_cache_files(tokenizer, monkeypatch, tmp_path):
    monkeypatch.setenv("LONGACT_CACHE", str(tmp_path))
    for changes in ({}, {"seed": 1}, {"mode": "base"}, {"mode": "no-prefix"}):
        samples(tokenizer, **changes)
    assert len(list((tmp_path / "ruler").iterdir())) == 4


def test_any_reference_is_enough_for_questions_and_all_count_elsewhere(tokenizer, data_dir):
    rules = open_benchmark(
        config(tasks=("qa_1", "vt"), context_lengths=(1000,), data_dir=str(data_dir), limit=1)
    )
    question, chain = rules.samples(tokenizer)
    assert rules.score(question, "THAT ONE").score == 1.0
    assert rules.score(question, "none").score == 0.0
    assert rules.score(chain, " ".join(chain.references[:2])).score == 0.4


def test_missing_data_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match=r"PaulGrahamEssays\.json is not in it"):
        open_benchmark(config(tasks=("niah_single_2",), data_dir=str(tmp_path))).check_data()


def answered(tokenizer, scores):
    """One sample per (task, length) with this score; None is a failed sample."""
    pairs = []
    for (task, length), score in scores.items():
        sample = samples(tokenizer, tasks=(task,), context_lengths=(length,), limit=1)[0]
        result = failed_result(sample, error="e" if score is None else None)
        if score is not None:
            result = result._replace(score=score, completion="x", completion_tokens=1)
        pairs.append(Answered(sample, result))
    return pairs


def test_averages_are_over_tasks_then_lengths_and_weighted_by_length(tokenizer):
    single, multi = "niah_single_1", "niah_multikey_2"
    rows = open_benchmark(config()).aggregate(
        answered(
            tokenizer,
            {
                (single, 400): 1.0,
                (single, 600): 0.5,
                (single, 800): 0.4,
                (multi, 400): 0.8,
                (multi, 600): 0.3,
                (multi, 800): 0.0,
            },
        )
    )
    found = {(row.task, row.context_length): row.score for row in rows}
    assert [found["mean", length] for length in (400, 600, 800)] == pytest.approx([0.9, 0.4, 0.2])
    assert found["mean", 0] == pytest.approx(0.5)
    assert found["weighted_increasing", 0] == pytest.approx((0.9 + 0.8 + 0.6) / 6)
    assert found["weighted_decreasing", 0] == pytest.approx((2.7 + 0.8 + 0.2) / 6)
    assert 0.9 < found["fill", 800] <= 1.0
    assert found["empty", 0] == 0.0
    assert len(found) == len(rows)


def test_a_mean_with_a_hole_is_no_mean(tokenizer):
    rows = open_benchmark(config()).aggregate(
        answered(tokenizer, {("niah_single_1", 400): 1.0, ("niah_multikey_2", 400): None})
    )
    mean = next(row for row in rows if row.task == "mean" and row.context_length == 400)
    assert (mean.score, mean.n_scored, mean.n_failed) == (None, 1, 1)
