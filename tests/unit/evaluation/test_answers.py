"""The journal around a backend, through lm-eval's own evaluator."""

from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate as lm_evaluate

from longact_cli.evaluation.answers import JournalLM, plan_batches
from longact_cli.evaluation.journal import Journal, Origin
from longact_cli.evaluation.ruler.generator import make_sample
from longact_cli.evaluation.task import RulerTask

ORIGIN = Origin("weights", "tokenizer", "hf", "float32", "greedy", "scorer", ("torch 1",))


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


def run(path, backend, samples, tokenizer, *, batch_size=4):
    seen = []
    journal = Journal(path, origin=ORIGIN)
    model = JournalLM(
        journal,
        load=lambda: backend,
        tokenizer=tokenizer,
        batch_size=batch_size,
        progress=lambda done, total: seen.append((done, total)),
    )
    output = lm_evaluate(
        model, {"task": RulerTask("task", samples)}, bootstrap_iters=0, log_samples=False
    )
    results = journal.finish(sample.id for sample in samples)
    return output["results"]["task"].get("string_match_all,none"), results, seen


def make(source, task="niah_single_1", length=512, limit=10):
    return [make_sample(task, length, index=index, source=source) for index in range(limit)]


def test_an_oracle_scores_one_and_a_silent_model_zero(tmp_path, source, tokenizer):
    for task, length in [("niah_single_1", 512), ("niah_multikey_3", 512), ("vt", 1000)]:
        samples = make(source, task, length, limit=3)
        oracle = run(tmp_path / f"{task}-1.jsonl", Backend(), samples, tokenizer)
        silent = run(tmp_path / f"{task}-0.jsonl", Backend(answer=lambda _: ""), samples, tokenizer)
        assert (oracle[0], silent[0]) == (1.0, 0.0)
        assert silent[1][0].completion_tokens == 0


def test_a_partial_vt_answer_has_the_share_of_names_found(tmp_path, source, tokenizer):
    samples = make(source, "vt", 1000, limit=2)
    backend = Backend(answer=lambda sample: " ".join(sample.references[:3]))
    score, results, _ = run(tmp_path / "samples.jsonl", backend, samples, tokenizer)
    assert score == 0.6
    assert [result.score for result in results] == [0.6, 0.6]


def test_a_failed_sample_is_counted_and_never_scored(tmp_path, source, tokenizer):
    samples = make(source)
    backend = Backend(broken=[samples[3].id])
    score, results, _ = run(tmp_path / "samples.jsonl", backend, samples, tokenizer)
    assert score == 1.0  # nine right answers, and not nine tenths
    assert [result.error for result in results if result.error] == ["RuntimeError: out of memory"]
    failed = results[3]
    assert (failed.score, failed.completion, failed.completion_tokens) == (None, None, None)


def test_a_task_where_everything_failed_has_no_score(tmp_path, source, tokenizer):
    samples = make(source, limit=2)
    backend = Backend(broken=[sample.id for sample in samples])
    score, results, _ = run(tmp_path / "samples.jsonl", backend, samples, tokenizer)
    assert score is None
    assert all(result.error for result in results)


def test_only_missing_and_failed_samples_are_asked_again(tmp_path, source, tokenizer):
    samples, path = make(source), tmp_path / "samples.jsonl"
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


def test_the_file_does_not_depend_on_interruptions(tmp_path, source, tokenizer):
    samples = make(source)
    run(tmp_path / "once.jsonl", Backend(), samples, tokenizer)
    run(tmp_path / "twice.jsonl", Backend(), samples[4:7], tokenizer)
    run(tmp_path / "twice.jsonl", Backend(), samples, tokenizer)
    assert (tmp_path / "once.jsonl").read_bytes() == (tmp_path / "twice.jsonl").read_bytes()


def test_batches_hold_like_lengths_and_one_answer_budget(source):
    samples = make(source, limit=3) + make(source, "vt", 1000, limit=2) + make(source, length=768)
    task = RulerTask("task", samples)
    task.build_all_requests()
    batches = [
        [(request.doc.tokens_to_generate, request.doc.prompt_tokens) for request in batch]
        for batch in plan_batches(task.instances, batch_size=4)
    ]
    assert [len(batch) for batch in batches] == [4, 4, 4, 1, 2]
    assert [{budget for budget, _ in batch} for batch in batches] == [{128}] * 4 + [{30}]
    lengths = [tokens for batch in batches[:4] for _, tokens in batch]
    assert lengths == sorted(lengths, reverse=True)
