import os
from pathlib import Path

import pytest

from longact_cli.files import (
    append_lines,
    flush_tree,
    read_json,
    read_lines,
    sha256_json,
    write_json,
    write_text,
)


def test_write_replaces_the_whole_file_and_leaves_no_temporary_behind(tmp_path):
    path = tmp_path / "a" / "x.txt"
    write_text(path, "long first version")
    write_text(path, "short")
    assert path.read_text() == "short"
    assert [entry.name for entry in path.parent.iterdir()] == ["x.txt"]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


@pytest.fixture
def flushed(monkeypatch):
    """What is flushed to the disk, in order."""
    found = []
    real = os.fsync

    def fsync(handle):
        real(handle)
        found.append(Path(f"/proc/self/fd/{handle}").readlink())

    monkeypatch.setattr("os.fsync", fsync)
    return found


def test_a_written_file_is_flushed_and_then_its_name(tmp_path, flushed):
    write_text(tmp_path / "a", "x")
    content, names = flushed
    assert (content.parent, names) == (tmp_path, tmp_path)
    assert content.name.startswith(".a.")


def test_a_tree_is_flushed_contents_before_names(tmp_path, flushed):
    folder = tmp_path / "checkpoint"
    (folder / "shards").mkdir(parents=True)
    for name in ("weights", "shards/0"):
        (folder / name).write_text(name)
    flush_tree(folder)
    assert set(flushed[:2]) == {folder / "weights", folder / "shards/0"}
    assert set(flushed[2:]) == {folder / "shards", folder, tmp_path}


def test_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "x.jsonl"
    append_lines(path, [{"n": 1}, {"n": 2}])
    with path.open("a") as stream:
        stream.write('{"n": 3')
    assert list(read_lines(path)) == [{"n": 1}, {"n": 2}]


def test_a_torn_json_file_reads_as_none(tmp_path):
    (tmp_path / "x.json").write_text('{"a": ')
    assert read_json(tmp_path / "x.json") is None
    assert read_json(tmp_path / "missing.json") is None


def test_the_json_digest_ignores_key_order_and_nothing_else():
    assert sha256_json({"a": 1, "b": 2}) == sha256_json({"b": 2, "a": 1})
    assert sha256_json([1, 2]) != sha256_json([2, 1])
    # printf '{"a":1}' | sha256sum
    assert sha256_json({"a": 1}) == (
        "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    )
