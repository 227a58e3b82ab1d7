"""Every table in every format from a frozen store of several hundred runs."""

import hashlib
import os
from pathlib import Path

import pytest

from longact_cli import __version__
from longact_cli.reporting.pivot import parse_pivot
from longact_cli.reporting.report import write_report
from longact_cli.reporting.request import ReportRequest
from longact_cli.reporting.tables import TABLES

GOLDEN = Path(__file__).parents[2] / "golden" / "study"
SUMS = GOLDEN / "SHA256SUMS"
COMMAND = "longact report --experiment paper --table all"
LARGE = 40_000


@pytest.mark.slow
def test_all_tables_of_a_large_study_are_as_the_golden_files_say(paper_store, tmp_path):
    """Rewrite them with LONGACT_UPDATE_GOLDEN=1 and read the difference of the Markdown files.

    Markdown is kept as it is; of the other formats, and of long tables, the checksum.
    """
    pivot = parse_pivot("mask,sparsity", "bench,length", ["model=qwen3-4b", "algo=dapo"])
    request = ReportRequest(TABLES.names(), ("csv", "json", "md", "tex"), COMMAND, pivot)
    files = [path for path in write_report(paper_store, ("paper",), request, out=tmp_path).paths
             if path.name != "runs.csv"]  # fmt: skip
    assert len(files) == 4 * (len(TABLES.names()) + 1)
    texts = {path.name: _stable(path) for path in files}
    shown = {name: text for name, text in texts.items()
             if name.endswith(".md") and len(text) < LARGE}  # fmt: skip
    sums = "".join(f"{_sha256(text)}  {name}\n" for name, text in sorted(texts.items()))
    if os.environ.get("LONGACT_UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        for name, text in shown.items():
            (GOLDEN / name).write_text(text, "utf-8")
        SUMS.write_text(sums, "utf-8")
    for name, text in shown.items():
        assert text == (GOLDEN / name).read_text("utf-8"), name
    assert sums == SUMS.read_text("utf-8")


def _stable(path: Path) -> str:
    return path.read_text("utf-8").replace(__version__, "VERSION")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
