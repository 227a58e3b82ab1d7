"""The HTML report in a real browser."""

import json

import pytest

from browser import CHROMIUM, browse
from longact_cli.reporting.report import write_report
from longact_cli.reporting.request import ReportRequest
from longact_cli.reporting.tables import TABLES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]
COLUMN = """[...document.querySelectorAll('#sparsity tbody tr:not(.part)')]
    .map(row => row.cells[2].dataset.v ?? null)"""
HEAD = "document.querySelectorAll('#sparsity thead tr:last-child th')[2]"


@pytest.fixture(scope="module")
def page_file(hostile_study, tmp_path_factory):
    uri, study = hostile_study
    out = tmp_path_factory.mktemp("page")
    request = ReportRequest(TABLES.names(), ("html",), "longact report <script>alert(1)</script>")
    write_report(uri, (study,), request, out=out)
    return out / "report.html"


def test_the_report_sorts_expands_and_asks_for_nothing(page_file, tmp_path):
    async def visit(page):
        await page.open(page_file)
        before = await page.evaluate(COLUMN)
        await page.evaluate(f"{HEAD}.querySelector('button').click()")
        down = await page.evaluate(COLUMN)
        sign = await page.evaluate(f"{HEAD}.getAttribute('aria-sort')")
        await page.evaluate(f"{HEAD}.querySelector('button').focus()")
        await page.press("Enter")
        up = await page.evaluate(COLUMN)
        await page.evaluate("document.querySelector('details.question summary').click()")
        opened = await page.evaluate("document.querySelector('details.question').open")
        await page.evaluate("document.querySelector('#split').click()")
        visible = await page.evaluate(
            "[...document.querySelectorAll('details.question')].filter(x => !x.hidden).length"
        )
        split = await page.evaluate("document.querySelectorAll('details[data-split]').length")
        return before, down, sign, up, opened, visible, split, page

    before, down, sign, up, opened, visible, split, page = browse(tmp_path, visit)
    numbers = [float(value) for value in before if value is not None]
    assert None in before
    assert [float(v) for v in down if v] == sorted(numbers, reverse=True)
    assert [float(v) for v in up if v] == sorted(numbers)
    assert down[-1] is up[-1] is None
    assert sign == "descending"
    assert opened
    assert 0 < visible == split
    assert page.errors == []
    assert {url.split(":")[0] for url in page.requests} <= {"file", "data"}
    assert sum(url.startswith("file:") for url in page.requests) == 1


def test_the_report_reads_without_scripts_in_the_dark_and_on_paper(page_file, tmp_path):
    ground = "getComputedStyle(document.body).backgroundColor"

    async def visit(page):
        await page.open(page_file)
        light = await page.evaluate(ground)
        dark = [{"name": "prefers-color-scheme", "value": "dark"}]
        await page.call("Emulation.setEmulatedMedia", features=dark)
        black = await page.evaluate(ground)
        await page.call("Emulation.setEmulatedMedia", media="print", features=[])
        printed = await page.evaluate("getComputedStyle(document.querySelector('nav')).display")
        await page.call("Emulation.setEmulatedMedia", media="")
        await page.call("Emulation.setScriptExecutionDisabled", value=True)
        await page.call("Page.navigate", url=page_file.as_uri())
        return light, black, printed, await page.html(until="</html>")

    light, black, printed, html = browse(tmp_path, visit)
    assert light != black
    assert printed == "none"
    assert "<th" in html
    assert "<button" not in html


def test_names_that_look_like_code_stay_text(page_file, tmp_path):
    async def visit(page):
        await page.open(page_file)
        return await page.evaluate(
            "JSON.stringify([document.querySelectorAll('script').length,"
            "document.querySelectorAll('main b, main i').length,"
            "document.title, document.querySelector('#provenance pre').textContent])"
        )

    scripts, tags, title, text = json.loads(browse(tmp_path, visit))
    assert (scripts, tags) == (1, 0)
    assert "<b>x</b>" in title
    assert "<script>alert(1)</script>" in text
