"""When a run was last written stands in it, by one clock for all writers."""

import hashlib

import pytest

from longact_cli.cells import Status, cell_dir, create, write_status
from longact_cli.files import append_lines
from longact_cli.tracking import WRITTEN_TAG, clock, listing
from longact_cli.tracking.clock import clock_of
from store_helpers import planned_store, runs_of
from synthetic_store import Setting, pair, rewards, write_cell

SALIENT = Setting("salient", 0.3, 0, 0.7)


@pytest.fixture
def ticking(monkeypatch):
    """A clock that never shows the same time twice."""
    times = iter(range(1000, 10_000))
    monkeypatch.setattr(clock, "_now", lambda: next(times))


def written(uri):
    (run,) = runs_of(uri)[1]
    return int(run.data.tags[WRITTEN_TAG])


def test_every_write_moves_the_time_and_a_sync_that_writes_nothing_does_not(tracked_runs, ticking):
    runs_dir, uri = tracked_runs
    train, _ = pair(SALIENT)
    directory = cell_dir(runs_dir, train.digest)
    create(directory, train)
    write_status(directory, Status("running", 1, started=1.0))
    store, run = planned_store(tracked_runs, train)
    times = []

    def synced(**changed):
        store.sync_cell(changed.get("cell", train), directory, parent_run=run)
        times.append(written(uri))

    synced()
    append_lines(directory.metrics, [rewards(train, 0.7)[0]._asdict()])
    synced()
    write_cell(runs_dir, train, 0.7)
    synced()
    synced(cell=train.__class__(**{**vars(train), "asked_by": ("another",)}))
    assert times == sorted(set(times))
    synced()
    assert times[-1] == times[-2]
    store, run = planned_store(tracked_runs, train)
    synced()
    assert times[-1] == times[-2]


def test_a_run_of_an_older_version_gets_the_time_with_the_next_sync(tracked_runs):
    runs_dir, uri = tracked_runs
    train, _ = pair(SALIENT)
    directory = write_cell(runs_dir, train, 0.7)
    store, run = planned_store(tracked_runs, train)
    store.sync_cell(train, directory, parent_run=run)
    client, (found,) = runs_of(uri)
    client.delete_tag(found.info.run_id, WRITTEN_TAG)
    store, run = planned_store(tracked_runs, train)
    assert store.sync_cell(train, directory, parent_run=run)
    assert written(uri) > 1_700_000_000_000


def test_writers_go_by_the_clock_of_the_server_which_is_asked_once(monkeypatch):
    asked = []
    monkeypatch.setattr(clock, "_now", iter([1000, 1010, 1500]).__next__)
    monkeypatch.setattr(clock, "server_time", lambda uri: asked.append(uri) or 61_000)
    now = clock_of("http://127.0.0.1:1")
    assert asked == []
    assert [now(), now()] == [61_010, 61_500]
    assert asked == ["http://127.0.0.1:1"]


@pytest.mark.parametrize(("runs", "parts"), [(0, 16), (16_000, 16), (16_001, 256)])
def test_known_runs_are_named_in_lists_that_a_server_can_read(runs, parts):
    ids = [hashlib.md5(str(n).encode()).hexdigest() for n in range(runs)]
    found = list(listing._parts(ids))
    assert len(found) == len({prefix for prefix, _ in found}) == parts
    assert sorted(run_id for _, some in found for run_id in some) == sorted(ids)
    assert max(len(some) for _, some in found) < 1200
    assert all(run_id.startswith(prefix) for prefix, some in found for run_id in some)
