"""Open a store with a plan in it, and ask MLflow itself what it holds."""

from longact_cli.plan import Plan
from longact_cli.tracking.client import connect
from longact_cli.tracking.store import open_store


def runs_of(uri, study="study"):
    client = connect(uri)
    experiment = client.get_experiment_by_name(study)
    runs = client.search_runs([experiment.experiment_id], "tags.`longact.kind` = 'cell'")
    return client, runs


def planned_store(tracked_runs, *cells, study="study"):
    runs_dir, uri = tracked_runs
    store = open_store(uri, runs_dir=runs_dir, study=study)
    return store, store.start_plan(Plan(study, cells), "longact ablate")
