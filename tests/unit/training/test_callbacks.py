from pathlib import Path
from types import SimpleNamespace

from longact_cli.files import append_lines, read_lines
from longact_cli.results import MetricPoint
from longact_cli.training.callbacks import (
    JournalCallback,
    ProgressCallback,
    metric_points,
    rewind,
)

LOGS = {
    "loss": 0.5,
    "grad_norm": 2,
    "kl": float("nan"),
    "clip_ratio/low_min": float("inf"),
    "rewards/a/mean": None,
    "epoch": 0.1,
    "train_runtime": 3.0,
    "clip_ratio/region_mean": 0.25,
    "completions/mean_length": 9.0,
    "mask/update_ratio": 0.3,
}


def test_finite_numbers_are_kept_under_the_names_of_the_glossary() -> None:
    assert list(metric_points(7, LOGS)) == [
        MetricPoint(7, "loss", 0.5),
        MetricPoint(7, "grad_norm", 2.0),
        MetricPoint(7, "clip_fraction", 0.25),
        MetricPoint(7, "completion_length", 9.0),
        MetricPoint(7, "mask/update_ratio", 0.3),
    ]


def test_the_journal_appends_each_step_with_its_duration(tmp_path: Path) -> None:
    journal = JournalCallback(tmp_path / "metrics.jsonl")
    for step in (1, 2):
        state = SimpleNamespace(global_step=step, is_world_process_zero=True)
        journal.on_step_begin(None, state, None)
        journal.on_log(None, state, None, logs={"loss": 1.0, "grad_norm": 0.0})
    journal.on_log(None, state, None, logs={"train_loss": 1.0})  # the trainer's closing summary
    rows = list(read_lines(tmp_path / "metrics.jsonl"))
    assert [(row["step"], row["name"]) for row in rows] == [
        (1, "loss"),
        (1, "grad_norm"),
        (1, "step_seconds"),
        (2, "loss"),
        (2, "grad_norm"),
        (2, "step_seconds"),
    ]
    assert 0 <= rows[2]["value"] < 1


def test_rewind_drops_points_after_the_resumed_step_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    points = [MetricPoint(step, "loss", float(step)) for step in (1, 2, 3, 4)]
    append_lines(path, [point._asdict() for point in points])
    with path.open("a") as stream:
        stream.write('{"step": 5, "na')
    rewind(path, 2)
    assert [row["step"] for row in read_lines(path)] == [1, 2]
    assert path.read_text().count("\n") == 2


def test_rewind_starts_an_empty_journal_where_there_is_none(tmp_path: Path) -> None:
    rewind(tmp_path / "metrics.jsonl", 0)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_progress_reports_done_and_total() -> None:
    seen = []
    callback = ProgressCallback(lambda done, total: seen.append((done, total)))
    callback.on_step_end(None, SimpleNamespace(global_step=3, max_steps=40), None)
    assert seen == [(3, 40)]
