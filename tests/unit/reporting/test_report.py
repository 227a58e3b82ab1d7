import csv
import html.parser
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from longact_cli import __version__
from longact_cli.errors import ConfigError, NotFoundError
from longact_cli.plan import Plan
from longact_cli.reporting.render import FORMATS
from longact_cli.reporting.report import formats, write_report
from longact_cli.reporting.request import ReportRequest
from longact_cli.tracking.query import read_study
from longact_cli.tracking.store import open_store
from synthetic_store import Setting, base_cell, write_study

GOLDEN = Path(__file__).parents[2] / "golden"
COMMAND = "longact report --experiment 'x|y' --table sparsity <b>\nsecond line"


TABLE_FORMATS = ("csv", "json", "md", "tex")


def _report(uri, study, out, *, tables=("sparsity", "scores"), formats=TABLE_FORMATS):
    request = ReportRequest(tables, formats, COMMAND)
    written = write_report(uri, (study,), request, out=out)
    return [path for path in written.paths if path.name != "runs.csv"]


def _stable(text):
    """The text without the version of the code."""
    return text.replace(__version__, "VERSION")


def test_odd_names_are_in_every_format_as_the_golden_files_say(hostile_study, tmp_path):
    """Rewrite them with LONGACT_UPDATE_GOLDEN=1 and read the difference."""
    uri, study = hostile_study
    files = _report(uri, study, tmp_path / "out")
    assert len(files) == 2 * len(FORMATS.names()) == 8
    for path in files:
        found = _stable(path.read_text("utf-8"))
        golden = GOLDEN / path.name
        if os.environ.get("LONGACT_UPDATE_GOLDEN"):
            golden.write_text(found, "utf-8")
        assert found == golden.read_text("utf-8"), path.name


@pytest.mark.slow
def test_the_same_command_gives_the_same_bytes(hostile_study, tmp_path):
    uri, study = hostile_study
    names = formats()
    first = _report(uri, study, tmp_path / "a", formats=names)
    second = _report(uri, study, tmp_path / "b", formats=names)
    assert [path.name for path in first] == [path.name for path in second]
    names = {path.name for path in first}
    assert {"rewards.pdf", "rewards.svg", "rewards.png", "rewards.csv", "report.html"} <= names
    assert {"ruler_heat_map.svg", "differences.pdf", "score_by_length.png"} <= names
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_every_file_says_where_its_numbers_come_from(hostile_study, tmp_path):
    uri, study = hostile_study
    digests = [cell.digest[:12] for cell in read_study(uri, study) if cell.status == "FINISHED"]
    names = (*FORMATS.names(), "svg", "html")
    for path in _report(uri, study, tmp_path, formats=names):
        text = path.read_text("utf-8")
        assert "second line" in text, path.name
        assert __version__ in text, path.name
        assert all(digest in text for digest in digests), path.name


def test_the_runs_file_leads_from_cells_to_tracked_runs(hostile_study, tmp_path):
    uri, study = hostile_study
    _report(uri, study, tmp_path, formats=("md",))
    with (tmp_path / "runs.csv").open(encoding="utf-8") as stream:
        rows = {row["cell"]: row["run_id"] for row in csv.DictReader(stream)}
    assert rows == {cell.digest: cell.run_id or "" for cell in read_study(uri, study)}


def test_html_has_no_tag_but_its_own(hostile_study, tmp_path):
    uri, study = hostile_study
    tags = set()

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.add(tag)

    for path in _report(uri, study, tmp_path, formats=("html",)):
        Parser().feed(path.read_text("utf-8"))
    assert {"table", "script", "img"} <= tags
    assert not tags & {"b", "i", "link", "iframe", "object", "form"}


def test_latex_leaves_no_special_character_of_the_data_bare(hostile_study, tmp_path):
    uri, study = hostile_study
    for path in _report(uri, study, tmp_path, formats=("tex",)):
        lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("%")]
        text = "\n".join(lines)
        assert not re.search(r"(?<!\\)[%#$_~^](?!-\$)", text.replace("$-$", "")), path.name
        assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
        assert "漢" not in text
        assert not re.search(r"\\\\\s*[\[*]", text), path.name
        rows = [line for line in lines if line.endswith(r"\\") and r"\multicolumn" not in line]
        ampersands = {len(re.findall(r"(?<!\\)&", row)) for row in rows if " & " in row}
        assert len(ampersands) == 1, path.name


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_compiles(hostile_study, tmp_path):
    uri, study = hostile_study
    _report(uri, study, tmp_path, formats=("tex",))
    _compile(tmp_path, ("sparsity", "scores"), "booktabs")


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_with_siunitx_compiles(hostile_study, tmp_path):
    if not subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True, check=False).stdout:
        pytest.skip("the LaTeX package siunitx is not installed")
    uri, study = hostile_study
    tables = ("sparsity", "controls", "compute")
    request = ReportRequest(tables, ("tex",), COMMAND, siunitx=True)
    write_report(uri, (study,), request, out=tmp_path)
    assert "S[table-format=" in (tmp_path / "sparsity.tex").read_text("utf-8")
    _compile(tmp_path, tables, "booktabs,siunitx")


def _compile(folder, tables, packages):
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{textcomp,"
    head += packages + "}"
    inputs = "".join(rf"\input{{{name}}}" for name in tables)
    (folder / "main.tex").write_text(rf"{head}\begin{{document}}{inputs}\end{{document}}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_markdown_rows_all_have_the_width_of_the_header(hostile_study, tmp_path):
    uri, study = hostile_study
    for path in _report(uri, study, tmp_path, formats=("md",)):
        rows = [line for line in path.read_text("utf-8").splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_csv_holds_raw_numbers_that_agree_with_the_json(hostile_study, tmp_path):
    uri, study = hostile_study
    _report(uri, study, tmp_path, tables=("sparsity",), formats=("csv", "json"))
    lines = (tmp_path / "sparsity.csv").read_text("utf-8").splitlines(keepends=True)
    rows = list(csv.DictReader(io.StringIO("".join(x for x in lines if not x.startswith("# ")))))
    (section,) = json.loads((tmp_path / "sparsity.json").read_text("utf-8"))["sections"]
    assert [row["arm"] for row in rows] == ["base", "dense", "salient", "random", "salient"]
    for row, entries in zip(rows, section["rows"], strict=True):
        value = entries["score"]["value"]
        assert row["score"] == ("" if value is None else repr(value))
    assert rows[4]["score"] == ""
    assert rows[4]["seeds"] == "0"
    assert rows[0]["failed"] == "1"
    assert rows[0]["questions"] == "39"


def test_an_unknown_study_is_answered_with_those_there_are(tracked_runs, tmp_path):
    runs_dir, uri = tracked_runs
    with pytest.raises(NotFoundError, match="holds none; run `longact ablate` first"):
        _report(uri, "pilot", tmp_path / "out")
    write_study(runs_dir, uri, "pilot", ())
    with pytest.raises(NotFoundError, match=r"it has: pilot. Did you mean 'pilot'\?") as caught:
        _report(uri, "pilto", tmp_path / "out")
    assert caught.value.exit_code == 3
    assert not (tmp_path / "out").exists()


def test_a_study_without_a_finished_evaluation_says_so(tracked_runs, tmp_path):
    runs_dir, uri = tracked_runs
    store = open_store(uri, runs_dir=runs_dir, study="pilot")
    store.start_plan(Plan("pilot", (base_cell(),)), "longact ablate")
    with pytest.raises(NotFoundError, match=r"no finished evaluation \(1 cells, .*: pending\)"):
        _report(uri, "pilot", tmp_path)


@pytest.mark.parametrize(
    ("tables", "names", "hint"),
    [
        (("sparsty",), ("md",), "report.table .*'sparsity'"),
        (("scores",), ("mkd",), "report.format"),
    ],
)
def test_a_wrong_table_or_format_is_refused_before_anything_is_read(tables, names, hint):
    with pytest.raises(ConfigError, match=hint):
        write_report(
            "sqlite:////nowhere.db", ("x",), ReportRequest(tables, names, ""), out=Path("x")
        )


def test_the_report_reads_the_database_and_not_the_cells(tracked_runs, tmp_path):
    runs_dir, uri = tracked_runs
    write_study(runs_dir, uri, "pilot", [Setting("dense", 1.0, 0, 0.5)])
    shutil.rmtree(runs_dir / "cells")
    _report(uri, "pilot", tmp_path, tables=("sparsity",), formats=("md",))
    assert "| dense |" in (tmp_path / "sparsity.md").read_text("utf-8")


def test_matplotlib_is_only_imported_for_figures():
    code = (
        "import sys, longact_cli.reporting.report; "
        "sys.exit(any(name in sys.modules for name in ('matplotlib', 'torch', 'trl', 'lm_eval')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
