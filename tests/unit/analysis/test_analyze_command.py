"""`longact analyze` as a user runs it, on tiny random models."""

import csv
import json
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import Result
from typer.testing import CliRunner

from longact_cli.cli.app import app
from longact_cli.reporting.analysis import report
from longact_cli.tracking.client import connect
from longact_cli.tracking.query import list_studies

SMALL = ("--length", "48", "--short-length", "16", "--prompts", "2")


class Place(NamedTuple):
    runs: Path
    uri: str
    prompts: Path


@pytest.fixture
def place(tracked_runs: tuple[Path, str], prompt_file: Path) -> Place:
    return Place(*tracked_runs, prompt_file)


def analyze(place: Place, *options: str | Path) -> Result:
    always = ("--runs-dir", place.runs, "--data", place.prompts, *SMALL)
    return CliRunner().invoke(app, ["analyze", *map(str, (*always, *options))])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_hostile_names_are_escaped_and_every_file_repeats_to_the_byte(
    place: Place, hostile_checkpoint: Path, moved_checkpoint: Path, tmp_path: Path
) -> None:
    pair = ("--before", hostile_checkpoint, "--after", moved_checkpoint)
    options = (*pair, "--model", hostile_checkpoint, "--mask", "random,weight")
    first, second = tmp_path / "a", tmp_path / "b"
    for out in (first, second):
        result = analyze(place, *options, "--out", out, "--format", "csv,html,md,tex,svg,pdf")
        assert result.exit_code == 0, result.output
    assert names_in(first) == names_in(second)
    assert {"index.html", "changed_rows.csv", "changed.tex", "overlap_matrix.pdf"} < names_in(first)
    for name in names_in(first) - {"manifest.json"}:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    page = (first / "index.html").read_text()
    assert "<img src=x>" not in page
    assert "&lt;img src=x&gt;" in page
    assert page.count("<script") == 1  # the page's own, which sorts tables
    assert 'src="http' not in page
    assert r"\textless{}img" in (first / "concentration.tex").read_text()
    assert "<img" not in (first / "heatmap_q_long_norm.svg").read_text()
    manifest = json.loads((first / "manifest.json").read_text())
    assert set(manifest["files"]) == names_in(first) - {"manifest.json"}
    assert len(manifest["models"]) == 3  # the subject, and both sides of the pair


@pytest.mark.slow
def test_an_analysis_is_one_run_in_mlflow_and_no_study(place: Place, tiny_checkpoint: Path) -> None:
    options = ("--model", tiny_checkpoint, "--format", "md", "--mask", "random")
    for _ in range(2):
        result = analyze(place, *options, "--json")
        assert result.exit_code == 0, result.output
    events = [json.loads(line) for line in result.stdout.splitlines()]
    lengths = [e for e in events if e["event"] == "overlap" and e["comparison"] == "length"]
    assert [e["kind"] for e in lengths] == ["q", "k"]
    files = {Path(e["path"]).name for e in events if e["event"] == "file"}
    assert files == {"concentration.md", "layers.md", "overlap.md", "manifest.json"}
    client = connect(place.uri)
    experiment = client.get_experiment_by_name("longact-analysis")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["length/salient long - salient short/q/jaccard"] == pytest.approx(
        lengths[0]["jaccard"]
    )
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == files
    assert list_studies(place.uri) == ()


@pytest.mark.slow
def test_a_fused_layout_is_profiled_head_by_head(place: Place, fused_checkpoint: Path) -> None:
    out = place.runs / "out"
    options = ("--model", fused_checkpoint, "--format", "csv", "--site", "proj")
    result = analyze(place, *options, "--out", out)
    assert result.exit_code == 0, result.output
    measures = rows_of(out / "measures.csv")
    whole = {(row["kind"], row["layer"], row["head"]) for row in measures}
    heads = {"q": 4, "k": 2 if "Phi3" in (fused_checkpoint / "config.json").read_text() else 4}
    assert whole == {
        (kind, layer, head)
        for kind, count in heads.items()
        for layer in ("0", "1")
        for head in ("all", *map(str, range(count)))
    }
    salient = [row for row in rows_of(out / "channels.csv") if row["salient"] == "1"]
    assert len(salient) == 2 * 2 * (4 + (4 if heads["k"] == 4 else 2))  # floor(0.3 x 16 or 8)
    strategies = {row["second"] for row in rows_of(out / "overlaps.csv")}
    assert {"lowest long", "random", "weight", "wanda long"} < strategies


def test_a_broken_tracking_store_is_said_and_costs_no_file(
    place: Place, tiny_checkpoint: Path
) -> None:
    out = place.runs / "out"
    result = analyze(
        place, "--model", tiny_checkpoint, "--format", "csv", "--mask", "", "--seeds", "1",
        "--out", out, "--tracking-uri", f"sqlite:///{place.prompts}/mlflow.db",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "not logged: tracking at sqlite" in result.output
    assert "manifest.json" in names_in(out)


def test_an_interrupted_write_leaves_the_earlier_analysis_whole(
    place: Place, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = place.runs / "out"
    options = ("--model", tiny_checkpoint, "--format", "md", "--mask", "", "--out", out)
    assert analyze(place, *options).exit_code == 0
    before = {name: (out / name).read_bytes() for name in names_in(out)}
    written = []

    def stopped(path: Path, data: bytes) -> None:
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt
        path.write_bytes(data)

    with monkeypatch.context() as patch:
        patch.setattr(report, "write_bytes", stopped)
        assert analyze(place, *options, "--sparsity", "0.5").exit_code == 130
    assert {name: (out / name).read_bytes() for name in names_in(out)} == before
    assert not [name for name in names_in(place.runs) if name.startswith(".out")]
    assert analyze(place, *options, "--sparsity", "0.5").exit_code == 0
    assert "A set is 0.5 of the rows" in (out / "overlap.md").read_text()
    assert not [name for name in names_in(place.runs) if name.startswith(".out")]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--site", "nrom"), 2, "Did you mean 'norm'"),
        (("--statistic", "mean"), 2, "--statistic is 'mean'; it must be one of: max_abs"),
        (("--mask", "gradient"), 2, "--mask is 'gradient'; it must be one of: lowest"),
        (("--length", "4096"), 2, "micro has a window of 2048 tokens"),
        (("--short-length", "48"), 2, "the short context must be shorter"),
        (("--sparsity", "1"), 2, "--sparsity is 1.0; it must lie above 0 and below 1"),
        (("--prompts", "4"), 2, "holds 6 prompts, and 2 draws of 4 that share none take 8"),
        (("--seeds", "0,0"), 2, "give every seed once"),
        (("--before", "."), 2, "--before and --after belong together"),
        (("--cell", "ab", "--study", "x"), 2, "name a run each; give one"),
        (("--cell", "ab"), 3, "has no such cell"),
        (("--study", "x"), 3, "has no finished dense training run of it"),
        (("--format", "doc"), 2, "--format is 'doc'"),
        (("--out", "tests"), 2, "holds files that are no earlier analysis"),
        (("--short-data", "none.jsonl"), 2, "--short-data is none.jsonl; there is no such file"),
        (("mask.site=proj",), 2, "'mask.site' changes nothing in an analysis"),
        (("data=dataset",), 2, "give prompts by --data instead"),
        (("--sparsity", "0.001"), 2, "a matrix with 32 rows has none in the set"),
        (("--model", "micro,micro"), 2, "--model has 'micro' twice"),
    ],
)
def test_a_wrong_option_is_one_line_and_writes_nothing(
    place: Place, options: tuple[str, ...], code: int, said: str
) -> None:
    before = names_in(place.runs)
    result = analyze(place, *options)
    assert result.exit_code == code, result.output
    assert said in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert names_in(place.runs) == before


def test_a_file_without_long_prompts_is_refused(place: Place) -> None:
    place.prompts.with_name("short.jsonl").write_text('{"prompt": "one two"}\n' * 4)
    result = analyze(place, "--data", place.prompts.with_name("short.jsonl"))
    assert result.exit_code == 2
    assert "no prompt drawn from it has more than 16 tokens" in " ".join(result.output.split())


def test_a_dry_run_says_what_it_would_cost(place: Place) -> None:
    result = analyze(place, "--dry-run", "--json", "--site", "norm,proj")
    plan = json.loads(result.stdout)
    # Two seeds of two prompts: 48 + 16 tokens at two sites, and the long ones for wanda.
    assert (plan["forward_passes"], plan["tokens"]) == (20, 4 * (2 * 64 + 48))
    assert names_in(place.runs) == {"mlflow.db"}
