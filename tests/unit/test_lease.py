"""Leases between machines. Another machine is a lease whose `machine` is not this one's."""

import json
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace

import pytest

from longact_cli import lease
from longact_cli.cells import CellDir
from longact_cli.errors import CellHeldError, ConfigError
from longact_cli.holding import Holders, hold, is_held
from longact_cli.lease import Lease, Watch, acquire, current, lease_seconds

SHORT = 0.6


@pytest.fixture(autouse=True)
def short_lease(monkeypatch):
    monkeypatch.setenv("LONGACT_LEASE_SECONDS", str(SHORT))


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "cell" / "lease"
    path.mkdir(parents=True)
    return path


def foreign(folder, *, number=1, beat=0, released=False):
    """Write the lease of a process on another machine."""
    other = Lease(number, "t", "elsewhere", "another boot", 1, beat, SHORT, released)
    (folder / f"{number:08d}.json").write_text(json.dumps(vars(other)))
    return other


def test_numbers_only_grow(folder):
    for number in (1, 2, 3):
        claim = acquire(folder)
        assert current(folder).number == number
        claim.release()
        assert current(folder).released
    assert len(list(folder.iterdir())) == 1


def test_a_lease_of_another_machine_is_taken_over_once_its_beat_stands_still(folder):
    foreign(folder)
    begun = time.monotonic()
    acquire(folder)
    assert SHORT <= time.monotonic() - begun < 4 * SHORT
    assert current(folder).number == 2


def test_a_lease_that_beats_is_left_alone_however_old_its_clock_says_it_is(folder):
    import os

    stop = threading.Event()

    def beat():
        for count in range(1, 100):
            foreign(folder, beat=count)
            os.utime(folder / "00000001.json", (0, 0))
            if stop.wait(SHORT / 6):
                return

    thread = threading.Thread(target=beat)
    thread.start()
    time.sleep(0.05)
    with pytest.raises(CellHeldError):
        acquire(folder)
    stop.set()
    thread.join()


def test_a_released_lease_and_a_lease_of_this_machine_are_free_at_once(folder):
    foreign(folder, released=True)
    begun = time.monotonic()
    acquire(folder)  # never released: its process is gone, as the free lock would show
    acquire(folder)
    assert time.monotonic() - begun < SHORT / 2
    assert current(folder).number == 3


def test_a_lease_that_cannot_be_read_is_waited_for(folder):
    (folder / "00000007.json").write_text("")
    assert Watch().alive(folder)
    assert current(folder).number == 7


def test_only_one_of_many_takes_a_stale_lease(folder):
    foreign(folder)
    results = []

    def work():
        try:
            results.append(acquire(folder))
        except CellHeldError:
            results.append(None)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(result is not None for result in results) == 1


def test_an_owner_that_was_replaced_cannot_confirm_and_hears_of_it(folder):
    claim = acquire(folder)
    lost = threading.Event()
    claim.keep(lost.set, lambda: None)
    claim.confirm()
    assert claim.valid()
    foreign(folder, number=9)
    assert not claim.valid()
    with pytest.raises(CellHeldError, match="taken over"):
        claim.confirm()
    assert lost.wait(3)
    claim.release()
    assert not current(folder).released


def test_the_beat_counts_up(folder):
    claim = acquire(folder)
    claim.keep(lambda: None, lambda: None)
    deadline = time.monotonic() + 5
    while current(folder).beat < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    claim.release()


def test_without_hard_links_the_number_is_still_taken_once(folder, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    first = Lease(1, "a")
    assert lease._create(folder, first)
    assert not lease._create(folder, replace(first, token="b"))
    assert current(folder).token == "a"


def test_who_asks_again_learns_that_another_machine_has_died(tmp_path):
    directory = CellDir(tmp_path / "cell")
    directory.leases.mkdir(parents=True)
    (directory.path / "lock").touch()
    foreign(directory.leases)
    holders = Holders()
    assert holders.is_held(directory)
    time.sleep(SHORT + 0.1)
    assert not holders.is_held(directory)


def test_a_suspended_process_that_was_replaced_kills_itself(tmp_path):
    """The owner is stopped, loses the cell to another machine, and must not go on after that."""
    import os
    import signal

    directory = CellDir(tmp_path / "cell")
    script = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from longact_cli.cells import CellDir
        from longact_cli.holding import hold
        with hold(CellDir(Path({str(directory.path)!r}))):
            print("held", flush=True)
            time.sleep(60)
            print("went on", flush=True)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout.readline() == b"held\n"
    assert is_held(directory)
    os.kill(process.pid, signal.SIGSTOP)
    foreign(directory.leases, number=5)
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(timeout=10) == -signal.SIGKILL
    assert process.stdout.read() == b""


def test_holding_twice_in_a_row_needs_no_wait(tmp_path):
    directory = CellDir(tmp_path / "cell")
    for _ in range(2):
        with hold(directory) as claim:
            assert claim.valid()
        assert not is_held(directory)


def test_doctor_tells_whether_the_store_has_file_locks(tmp_path, monkeypatch):
    from longact_cli import holding
    from longact_cli.execution.diagnosis import _locks

    assert _locks(tmp_path / "runs").state == "ok"
    assert list(tmp_path.iterdir()) == []

    def without(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(holding.fcntl, "flock", without)
    check = _locks(tmp_path / "runs")
    assert (check.state, check.detail.split(":")[0]) == ("optional", f"no flock in {tmp_path}")
    # Locks that keep nobody out are none.
    monkeypatch.setattr(holding.fcntl, "flock", lambda *_: None)
    assert _locks(tmp_path / "runs").state == "optional"


@pytest.mark.parametrize("text", ["abc", "0", "-1", "inf", "nan", ""])
def test_a_time_out_that_is_no_time_is_refused_in_one_line(text, monkeypatch):
    monkeypatch.setenv("LONGACT_LEASE_SECONDS", text)
    with pytest.raises(ConfigError, match=f"LONGACT_LEASE_SECONDS is '{text}'; it must be"):
        lease_seconds()
