import errno

import pytest

from longact_cli.execution.disk import disk_full_message, is_disk_full


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        caused(ValueError("cannot save"), OSError(errno.ENOSPC, "x")),
    ],
)
def test_a_full_disk_is_recognised_whatever_it_is_called(error, tmp_path):
    assert is_disk_full(error, tmp_path)


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "denied"), RuntimeError("out of memory")])
def test_other_failures_are_not_a_full_disk(error, tmp_path):
    assert not is_disk_full(error, tmp_path)


def test_a_failed_write_of_torch_is_a_full_disk_only_where_room_is_short(tmp_path):
    error = RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")
    assert not is_disk_full(error, tmp_path)  # this disk has more than 32 MiB
    assert str(tmp_path / "runs") in disk_full_message(tmp_path / "runs")
