"""A page of samples to read: prompt head and tail, answer, references and score. One HTML file."""

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from longact_cli.evaluation.benchmark import Sample
from longact_cli.files import write_text
from longact_cli.results import SampleResult

SHOWN_CHARACTERS = 600
"""How much of the start and of the end of a prompt is shown."""

_STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
article { border-top: 1px solid #8888; padding: 0.5rem 0 1rem; }
h2 { font-size: 1rem; margin: 0.5rem 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #8881; padding: 0.5rem; }
.cut { color: #888; }
.failed { color: #b00; }
@media (prefers-color-scheme: dark) { body { background: #111; color: #ddd; } }
"""


def write_sample_page(
    path: Path, *, title: str, results: Iterable[SampleResult], samples: Mapping[str, Sample]
) -> None:
    """Write one self-contained page; everything that comes from data is escaped.

    Args:
        path: The HTML file.
        title: What was evaluated.
        results: The answers, in the order in which they are shown.
        samples: Where the prompts come from, by id; a result without one is shown without prompt.
    """
    articles = "\n".join(_article(result, samples.get(result.id)) for result in results)
    write_text(
        path,
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{articles}\n</body>\n</html>\n",
    )


def _article(result: SampleResult, sample: Sample | None) -> str:
    prompt = "" if sample is None else f"<pre>{_shortened(sample.prompt)}</pre>\n"
    if result.error is not None:
        verdict = f'<span class="failed">failed: {escape(result.error)}</span>'
    else:
        verdict = f"score {result.score:.2f}"
    parsed = "" if result.parsed is None else f", read as <code>{escape(result.parsed)}</code>"
    references = " &middot; ".join(f"<code>{escape(text)}</code>" for text in result.references)
    cut = ", truncated" if result.truncated else ""
    return (
        f'<article id="{escape(result.id, quote=True)}">\n<h2>{escape(result.id)}: {verdict}</h2>\n'
        f"<p>{result.prompt_tokens} tokens in{cut}, {result.completion_tokens or 0} out{parsed}"
        f"</p>\n{prompt}<pre>{escape(result.completion or '')}</pre>\n"
        f"<p>expected: {references}</p>\n</article>"
    )


def _shortened(prompt: str) -> str:
    if len(prompt) <= 2 * SHOWN_CHARACTERS:
        return escape(prompt)
    left = len(prompt) - 2 * SHOWN_CHARACTERS
    head, tail = prompt[:SHOWN_CHARACTERS], prompt[-SHOWN_CHARACTERS:]
    cut = f'<span class="cut">\n[... {left:,} characters ...]\n</span>'
    return f"{escape(head)}{cut}{escape(tail)}"
