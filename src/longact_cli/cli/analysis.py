"""What `longact analyze` does once it has settings: show the plan, or measure, write and track."""

import time
from dataclasses import dataclass
from pathlib import Path
from sys import argv
from typing import TYPE_CHECKING

from longact_cli.cli.analysis_identity import Identity, identify, repeatable
from longact_cli.console.output import Output

if TYPE_CHECKING:
    from longact_cli.analysis.analyze import Analysis
    from longact_cli.analysis.settings import AnalysisSettings
    from longact_cli.reporting.analysis.report import Written

_EXPERIMENT = "longact-analysis"
_SHOWN_DIGITS = 12


@dataclass(frozen=True)
class AnalysisRequest:
    """How an analysis is to be handled."""

    output: Output
    runs_dir: Path
    formats: tuple[str, ...]
    out: Path | None
    tracking_uri: str | None
    dry_run: bool


def run_analysis(settings: "AnalysisSettings", request: AnalysisRequest) -> int:
    """Show what would be measured, or measure and write it; return the exit code."""
    from longact_cli.execution.preflight import check_runs_dir
    from longact_cli.reporting.analysis.report import check_folder, check_formats

    check_runs_dir(request.runs_dir)
    check_formats(request.formats)
    identity = identify(settings)
    out = request.out or request.runs_dir / "analysis" / identity.digest[:_SHOWN_DIGITS]
    check_folder(out)
    _show_plan(request.output, settings, out)
    if request.dry_run:
        return 0
    started = time.time()
    found = _measure(settings, request.output)
    written = _write(found, identity, request, out=out, started=started)
    _track(found, identity, request, written)
    _show(found, written, request.output)
    return 0


def _show_plan(output: Output, settings: "AnalysisSettings", out: Path) -> None:
    labels = ", ".join(subject.label for subject in settings.subjects)
    lengths = " and ".join(f"{c.name} {c.length}" for c in settings.contexts)
    seeds = ", ".join(map(str, settings.seeds))
    output.note(f"models: {labels}; contexts: {lengths}; sites: {', '.join(settings.sites)}")
    output.note(
        f"{settings.prompts} prompts per context and seed ({seeds}): {settings.forward_passes} "
        f"forward passes, at most {settings.tokens:,} tokens; to {out}"
    )
    output.data(
        {
            "event": "plan",
            "models": [subject.label for subject in settings.subjects],
            "changes": [change.label for change in settings.changes],
            "contexts": {context.name: context.length for context in settings.contexts},
            "forward_passes": settings.forward_passes,
            "tokens": settings.tokens,
            "out": str(out),
        }
    )


def _measure(settings: "AnalysisSettings", output: Output) -> "Analysis":
    from transformers.utils import logging

    from longact_cli.analysis.analyze import analyze
    from longact_cli.console.progress import step_progress

    logging.disable_progress_bar()  # one bar is enough
    with step_progress(output, "tokens") as report:
        return analyze(settings, report)


def _write(
    found: "Analysis", identity: Identity, request: AnalysisRequest, *, out: Path, started: float
) -> "Written":
    from longact_cli.reporting.analysis.report import write_analysis

    return write_analysis(
        found,
        formats=request.formats,
        out=out,
        provenance=identity.provenance(repeatable(argv)),
        manifest=identity.manifest(("longact", *argv[1:]), started),
    )


def _track(
    found: "Analysis", identity: Identity, request: AnalysisRequest, written: "Written"
) -> None:
    """Log the analysis; what fails in MLflow is said and costs nothing else."""
    from longact_cli.tracking import TrackingError, default_tracking_uri
    from longact_cli.tracking.records import AnalysisRecord
    from longact_cli.tracking.store import open_store

    labels = ", ".join(subject.label for subject in found.settings.subjects)
    record = AnalysisRecord(
        digest=identity.digest,
        name=f"analysis {labels}"[:200],
        command=" ".join(repeatable(argv)),
        params={key: str(value) for key, value in identity.settings.items()},
        metrics=_metrics(found),
    )
    uri = request.tracking_uri or default_tracking_uri(request.runs_dir)
    try:
        store = open_store(uri, runs_dir=request.runs_dir, study=_EXPERIMENT)
        store.log_analysis(record, written.folder)
    except TrackingError as error:
        request.output.note(f"not logged: {error}; the files are in {written.folder}")


def _metrics(found: "Analysis") -> dict[str, float]:
    """Return overlaps and their chance level by a name MLflow allows."""
    metrics = {}
    for row in found.agreements:
        name = f"{row.comparison}/{row.first} - {row.second}/{row.kind}"
        safe = "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)[:230]
        if row.jaccard == row.jaccard:
            metrics[f"{safe}/jaccard"] = row.jaccard
            metrics[f"{safe}/expected"] = row.expected
    return metrics


def _show(found: "Analysis", written: "Written", output: Output) -> None:
    from longact_cli.reporting.render.terminal import to_terminal

    for table in written.tables[:2]:
        output.show(to_terminal(table))
    for row in found.agreements:
        output.data({"event": "overlap", **row._asdict()})
    for name in written.names:
        output.detail(f"written: {written.folder / name}")
        output.data({"event": "file", "path": str(written.folder / name)})
    output.note(f"written: {len(written.names)} files to {written.folder}")
