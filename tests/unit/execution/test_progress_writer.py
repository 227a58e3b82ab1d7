"""How far a cell is, as its process writes it."""

from longact_cli.execution import child
from longact_cli.execution.child import ProgressWriter
from longact_cli.files import read_json


def test_the_time_left_follows_the_tokens_and_not_the_samples(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(child.time, "time", lambda: clock[0])
    writer = ProgressWriter(tmp_path / "progress.json")
    writer(2, 10, (1000, 3000))
    clock[0] = 110.0
    writer(4, 10, (1500, 2000))
    assert read_json(tmp_path / "progress.json") == {
        "done": 4,
        "total": 10,
        "rate": 0.2,
        "tokens_per_second": 50.0,
        "seconds_left": 40.0,
    }


def test_without_tokens_there_is_a_rate_alone(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(child.time, "time", lambda: clock[0])
    writer = ProgressWriter(tmp_path / "progress.json")
    writer(0, 4)
    clock[0] = 2.0
    writer(4, 4)
    assert read_json(tmp_path / "progress.json") == {"done": 4, "total": 4, "rate": 2.0}
