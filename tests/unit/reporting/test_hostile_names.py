"""Line breaks and markup in any text of a table stay inside their place in every format."""

import csv
import io
import json
import re

from longact_cli.reporting.render import FORMATS
from longact_cli.reporting.render.html_ import table_fragment
from longact_cli.reporting.render.latex import to_siunitx
from longact_cli.reporting.table import Column, Entry, Provenance, Section, Table

NAME = 'a\nb\r\n| & % $x$ \\input{y} </td><script>alert(1)</script> "q" \u2028 漢 {z}'
TABLE = Table(
    name="t",
    title=NAME,
    columns=(Column("arm", NAME, "text", NAME), Column("score", "Score %", "percent", NAME)),
    sections=(Section(NAME, ((Entry(NAME), Entry(0.5, 0.4, 0.6, n=3, cells=("c",))),)),),
    notes=(NAME,),
    missing=(NAME,),
    provenance=Provenance(NAME, "0", NAME, (), ()),
)


def test_markdown_keeps_one_row_per_line():
    lines = FORMATS.get("md")(TABLE).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 3
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3}
    assert "<script>" not in "\n".join(lines).replace(r"\<", "").split("```")[0]


def test_latex_keeps_one_row_per_line_and_runs_nothing():
    for render in (FORMATS.get("tex"), to_siunitx):
        lines = [x for x in render(TABLE).splitlines() if not x.startswith("%")]
        assert sum(" & " in line for line in lines) == 2
        assert r"\input" not in "\n".join(lines)


def test_csv_and_json_read_back_what_was_written():
    text = "".join(
        line for line in FORMATS.get("csv")(TABLE).splitlines(keepends=True) if line[0] != "#"
    )
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["arm"] == row["section"] == NAME
    data = json.loads(FORMATS.get("json")(TABLE))
    assert data["sections"][0]["rows"][0]["arm"]["value"] == NAME


def test_html_holds_no_tag_of_a_name():
    html = table_fragment(TABLE)
    assert "<script" not in html
    assert html.count("</td>") == 2
