from dataclasses import replace

from longact_cli.evaluation.answers import failed_result
from longact_cli.evaluation.benchmark import Sample
from longact_cli.evaluation.sample_page import write_sample_page

SAMPLE = Sample(
    id="ruler/vt/512/<0>",
    benchmark="ruler",
    task="vt",
    context_length=512,
    references=("A&B",),
    prompt_tokens=400,
    tokens_to_generate=30,
    prompt_sha256="x",
    read_prompt=lambda: "<script>alert(1)</script>" + "noise " * 1000 + "the end?",
)


def page(tmp_path, result, sample=SAMPLE):
    path = tmp_path / "samples.html"
    write_sample_page(path, title="a < b", results=[result], samples={sample.id: sample})
    return path.read_text("utf-8")


def test_the_page_shows_head_tail_answer_references_and_score(tmp_path):
    result = failed_result(SAMPLE, error=None)._replace(
        completion="it is <A&B>", completion_tokens=5, score=0.5, parsed="A"
    )
    text = page(tmp_path, result)
    for part in (
        "&lt;script&gt;alert(1)&lt;/script&gt;noise",
        "the end?</pre>",
        "it is &lt;A&amp;B&gt;",
        "<code>A&amp;B</code>",
        "score 0.50",
        "400 tokens in, 5 out, read as <code>A</code>",
        "[... 4,833 characters ...]",  # 25 + 6000 + 8 - 2 x 600
    ):
        assert part in text


def test_the_page_is_self_contained_and_escaped(tmp_path):
    text = page(tmp_path, failed_result(SAMPLE, error="RuntimeError: <b>"))
    assert "<script" not in text
    assert "src=" not in text
    assert "href=" not in text
    assert "failed: RuntimeError: &lt;b&gt;" in text
    assert "ruler/vt/512/&lt;0&gt;" in text


def test_a_short_prompt_is_shown_whole(tmp_path):
    short = replace(SAMPLE, read_prompt=lambda: "a short one")
    assert "<pre>a short one</pre>" in page(tmp_path, failed_result(short, error="e"), short)
