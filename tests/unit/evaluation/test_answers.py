"""The journal around a backend, through lm-eval's own evaluator."""

from dataclasses import replace

import pytest
from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate as lm_evaluate

from longact_cli.config.schema import BenchmarkConfig
from longact_cli.evaluation.answers import JournalLM, Journals
from longact_cli.evaluation.batches import Question, plan_batches
from longact_cli.evaluation.benchmark import (
    EMPTY,
    Answered,
    SampleScore,
    open_benchmark,
    score_row,
)
from longact_cli.evaluation.journal import Journal, Origin
from longact_cli.evaluation.task import SampleTask
from longact_cli.evaluation.usage import read_usage, usage_path

ORIGIN = Origin("weights", "tokenizer", "hf", "float32", "greedy", "scorer", ("torch 1",))
RULER = open_benchmark(
    BenchmarkConfig(name="ruler", tasks=("niah_single_1",), context_lengths=(512,), limit=1)
)


class Backend(LM):
    """Answers with the reference; fails on some samples; remembers what it was asked."""

    def __init__(self, *, answer=lambda sample: ", ".join(sample.references), broken=()):
        super().__init__()
        self.answer, self.broken, self.calls = answer, set(broken), []

    def generate_until(self, requests, disable_tqdm=False):
        self.calls.append([request.doc.id for request in requests])
        if self.broken & set(self.calls[-1]):
            raise RuntimeError("out of memory\nwith details")
        return [self.answer(request.doc) for request in requests]

    def loglikelihood(self, requests):
        raise NotImplementedError

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError


def run(path, backend, samples, tokenizer, *, batch_size=4, rules=RULER, flows=False):
    seen = []
    first, journal = (
        Journal(file, origin=ORIGIN) for file in (path.with_suffix(".first.jsonl"), path)
    )
    model = JournalLM(
        Journals(first, journal, usage_path(path)),
        rules,
        load=lambda: backend,
        tokenizer=tokenizer,
        batch_size=batch_size,
        progress=lambda *state: seen.append(state if flows else state[:2]),
    )
    lm_evaluate(model, {"task": SampleTask("task", samples)}, bootstrap_iters=0, log_samples=False)
    results = journal.finish(sample.id for sample in samples)
    pairs = [Answered(*pair) for pair in zip(samples, results, strict=True)]
    return rules.aggregate(pairs)[0].score, results, seen


def make(tokenizer, task="niah_single_1", length=512, limit=10):
    config = BenchmarkConfig(name="ruler", tasks=(task,), context_lengths=(length,), limit=limit)
    return open_benchmark(config).samples(tokenizer)


def test_an_oracle_scores_one_and_a_silent_model_has_only_failed_samples(tmp_path, tokenizer):
    for task, length in [("niah_single_1", 512), ("niah_multikey_3", 512), ("vt", 1000)]:
        samples = make(tokenizer, task, length, limit=3)
        oracle = run(tmp_path / f"{task}-1.jsonl", Backend(), samples, tokenizer)
        silent = run(tmp_path / f"{task}-0.jsonl", Backend(answer=lambda _: ""), samples, tokenizer)
        assert (oracle[0], silent[0]) == (1.0, None)
        empty = silent[1][0]
        assert (empty.score, empty.error, empty.completion) == (None, EMPTY, "")
        assert empty.completion_tokens == 0


@pytest.mark.parametrize("text", ["", " \n", "\x00\x1f", "<think>1234567</think>", "x</think> \t"])
def test_an_empty_answer_is_a_failed_sample_that_officially_scores_zero(tmp_path, tokenizer, text):
    samples, path = make(tokenizer, limit=4), tmp_path / "s.jsonl"
    backend = Backend(answer=lambda one: text if one.id == samples[1].id else one.references[0])
    score, results, _ = run(path, backend, samples, tokenizer)
    row = RULER.aggregate([Answered(*pair) for pair in zip(samples, results, strict=True)])[0]
    assert score == row.score == 1.0  # over the three that answered
    assert row.score_all == 0.75  # over all four, as the official scorer counts
    assert (row.n_scored, row.n_failed) == (3, 1)
    assert (results[1].error, results[1].completion) == (EMPTY, text)
    again = Backend()
    run(path, again, samples, tokenizer)
    assert again.calls == []  # the model gave that answer: nothing is generated twice


def test_tokens_and_seconds_are_summed_up_over_interruptions(tmp_path, tokenizer):
    samples, path = make(tokenizer, limit=4), tmp_path / "s.jsonl"
    run(path, Backend(), samples[:2], tokenizer)
    run(path, Backend(), samples, tokenizer)
    usage = read_usage(usage_path(path))
    assert usage.samples == 4
    assert usage.prompt_tokens == sum(sample.prompt_tokens for sample in samples)
    assert usage.reserved_tokens == 4 * 128
    assert 0 < usage.generated_tokens < usage.reserved_tokens
    assert usage.seconds > 0
    assert usage.hit_share is None  # this backend has no prefix cache


def test_progress_tells_tokens_done_and_left(tmp_path, tokenizer):
    samples, path = make(tokenizer, limit=4), tmp_path / "s.jsonl"
    _, results, seen = run(path, Backend(), samples, tokenizer, batch_size=2, flows=True)
    spent = [one.prompt_tokens + (one.completion_tokens or 0) for one in results]
    left = sum(one.prompt_tokens + 128 for one in samples)
    assert [flow.left for _, _, flow in seen][-1] == 0
    assert seen[-1][2].tokens == sum(spent)
    assert 0 < seen[0][2].left < left


def test_a_partial_vt_answer_has_the_share_of_names_found(tmp_path, tokenizer):
    samples = make(tokenizer, "vt", 1000, limit=2)
    backend = Backend(answer=lambda sample: " ".join(sample.references[:3]))
    score, results, _ = run(tmp_path / "samples.jsonl", backend, samples, tokenizer)
    assert score == 0.6
    assert [result.score for result in results] == [0.6, 0.6]


def test_a_failed_sample_is_counted_and_never_scored(tmp_path, tokenizer):
    samples = make(tokenizer)
    backend = Backend(broken=[samples[3].id])
    score, results, _ = run(tmp_path / "samples.jsonl", backend, samples, tokenizer)
    assert score == 1.0  # nine right answers, and not nine tenths
    assert [result.error for result in results if result.error] == ["RuntimeError: out of memory"]
    failed = results[3]
    assert (failed.score, failed.completion, failed.completion_tokens) == (None, None, None)


def test_a_task_where_everything_failed_has_no_score(tmp_path, tokenizer):
    samples = make(tokenizer, limit=2)
    backend = Backend(broken=[sample.id for sample in samples])
    score, results, _ = run(tmp_path / "samples.jsonl", backend, samples, tokenizer)
    assert score is None
    assert all(result.error for result in results)


def test_only_missing_and_failed_samples_are_asked_again(tmp_path, tokenizer):
    samples, path = make(tokenizer), tmp_path / "samples.jsonl"
    run(path, Backend(broken=[samples[3].id]), samples[:6], tokenizer)
    backend = Backend()
    score, _, seen = run(path, backend, samples, tokenizer)
    assert sorted(name for call in backend.calls for name in call) == sorted(
        [samples[3].id, *(sample.id for sample in samples[6:])]
    )
    assert score == 1.0
    assert [done for done, _ in seen] == [4, 8, 10]
    complete = Backend()
    run(path, complete, samples, tokenizer)
    assert complete.calls == []


def test_the_file_does_not_depend_on_interruptions(tmp_path, tokenizer):
    samples = make(tokenizer)
    run(tmp_path / "once.jsonl", Backend(), samples, tokenizer)
    run(tmp_path / "twice.jsonl", Backend(), samples[4:7], tokenizer)
    run(tmp_path / "twice.jsonl", Backend(), samples, tokenizer)
    assert (tmp_path / "once.jsonl").read_bytes() == (tmp_path / "twice.jsonl").read_bytes()


def test_batches_hold_like_lengths_and_one_answer_budget(tokenizer):
    samples = make(tokenizer, limit=3) + make(tokenizer, "vt", 1000, limit=2)
    samples += make(tokenizer, length=768)
    batches = [
        [(asked.tokens_to_generate, asked.prompt_tokens) for _, asked in batch]
        for batch in plan_batches([Question(one, one) for one in samples], batch_size=4)
    ]
    assert [len(batch) for batch in batches] == [4, 4, 4, 1, 2]
    assert [{budget for budget, _ in batch} for batch in batches] == [{128}] * 4 + [{30}]
    lengths = [tokens for batch in batches[:4] for _, tokens in batch]
    assert lengths == sorted(lengths, reverse=True)


def test_samples_of_one_document_are_answered_one_after_another(tokenizer):
    long, short = make(tokenizer, length=768, limit=2), make(tokenizer, limit=2)
    grouped = [replace(one, group=name) for one, name in zip(long + short, "abab", strict=True)]
    batches = plan_batches([Question(one, one) for one in grouped], batch_size=2)
    assert [[asked.group for _, asked in batch] for batch in batches] in (
        [["a", "a"], ["b", "b"]],
        [["b", "b"], ["a", "a"]],
    )


class TwoCalls:
    """Asks once more, with the first answer pasted; an answer that says `enough` stands."""

    protocol, scorer_version = "two calls", "1"

    def follow_up(self, sample, completion):
        if completion == "enough":
            return None
        return replace(sample, read_prompt=lambda: f"again: {completion}", tokens_to_generate=5)

    def score(self, sample, completion):
        return SampleScore(float(completion.endswith("second")), completion or None)

    def aggregate(self, answered):
        rows = [one.result for one in answered]
        named = {"task": "t", "context_length": 0, "metric": "m", "protocol": self.protocol}
        return (score_row(rows, **named),)


class TwoCallBackend(Backend):
    def generate_until(self, requests, disable_tqdm=False):
        self.calls.append([request.args[0][:9] for request in requests])
        if self.broken and any(call.startswith("again") for call in self.calls[-1]):
            raise RuntimeError("killed")
        return [
            f"{text} second" if (text := request.args[0]).startswith("again") else "thought"
            for request in requests
        ]


def test_the_second_answer_is_the_one_that_is_scored(tmp_path, tokenizer):
    samples = make(tokenizer, limit=3)
    backend = TwoCallBackend()
    score, results, seen = run(
        tmp_path / "s.jsonl", backend, samples, tokenizer, rules=TwoCalls(), batch_size=2
    )
    assert score == 1.0
    assert {result.completion for result in results} == {"again: thought second"}
    assert results[0].parsed == "again: thought second"
    assert [len(call) for call in backend.calls] == [2, 1, 2, 1]
    assert seen == [(0, 3), (0, 3), (2, 3), (3, 3)]


def test_a_first_answer_is_not_asked_for_again_after_an_interruption(tmp_path, tokenizer):
    samples, path = make(tokenizer, limit=3), tmp_path / "s.jsonl"
    run(path, TwoCallBackend(broken=["x"]), samples, tokenizer, rules=TwoCalls())
    backend = TwoCallBackend()
    score, _, _ = run(path, backend, samples, tokenizer, rules=TwoCalls())
    assert score == 1.0
    assert backend.calls == [["again: th"] * 3]


def test_thoughts_are_no_part_of_the_scored_answer(tmp_path, tokenizer):
    samples = make(tokenizer, limit=1)
    number = samples[0].references[0]
    backend = Backend(answer=lambda _: f"<think>is it {number}?</think> no idea")
    score, results, _ = run(tmp_path / "s.jsonl", backend, samples, tokenizer)
    assert score == 0.0
    assert number in results[0].completion


def test_a_prompt_longer_than_its_window_is_refused_and_not_cut(tmp_path, tokenizer):
    sample = replace(make(tokenizer, limit=1)[0], context_length=300)
    backend = Backend()
    _, results, _ = run(tmp_path / "s.jsonl", backend, [sample], tokenizer)
    tokens = sample.prompt_tokens
    assert results[0].error == f"the prompt has {tokens} tokens; the context length leaves 172"
    assert backend.calls == []
