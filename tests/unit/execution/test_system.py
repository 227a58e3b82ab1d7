import time

from longact_cli.execution.system import sampling
from longact_cli.files import read_lines


def test_samples_are_taken_while_the_block_runs_and_after_a_torn_line(tmp_path):
    path = tmp_path / "system.jsonl"
    path.write_text('{"time": 1.0, "process_cpu_percentage": 5.0}\n{"time": 2.')
    with sampling(path, seconds=0.05):
        deadline = time.monotonic() + 30
        while len(path.read_text().splitlines()) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
    rows = list(read_lines(path))
    assert rows[0]["time"] == 1.0
    assert len(rows) >= 3
    assert 1 < rows[1]["process_memory_megabytes"] < 1e6
    assert 0 <= rows[1]["system_memory_usage_percentage"] <= 100
    taken = len(rows)
    time.sleep(0.2)
    assert len(list(read_lines(path))) == taken


def test_a_file_that_cannot_be_written_does_not_disturb_the_block(tmp_path):
    with sampling(tmp_path / "nowhere" / "system.jsonl", seconds=0.01):
        time.sleep(0.05)
    assert not (tmp_path / "nowhere").exists()
