"""An MLflow server asked over HTTP: runs as plain values, files in one request each.

Addresses, credentials and repeated tries are MLflow's. Its client turns every value into a message
and then into an object, and asks three questions for a file; for thousands of runs that is most of
the time.
"""

import json
from functools import lru_cache
from typing import Any, NamedTuple

from mlflow.exceptions import MlflowException, RestException
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request, verify_rest_response
from mlflow.utils.search_utils import SearchUtils

from longact_cli.tracking.client import translated
from longact_cli.tracking.database import RunRecord

_PAGE = 500
_API = "/api/2.0/mlflow"
_PROXIED = "mlflow-artifacts:"
_OK, _NOT_FOUND = 200, 404
_PATIENCE = 60  # seconds: a busy server takes its time over hundreds of runs


class Experiment(NamedTuple):
    """A study on a server: its number, and the address below which its runs have their files."""

    number: str
    location: str


class Question(NamedTuple):
    """Which runs of a study are asked for.

    Attributes:
        experiment: The number of the study.
        query: In MLflow's language; empty for all.
        order: What comes first, in MLflow's language; empty for those that started last.
        most: How many in one answer.
        deleted: Those that are deleted, instead of those that are not.
    """

    experiment: str
    query: str = ""
    order: str = ""
    most: int = _PAGE
    deleted: bool = False


class Page(NamedTuple):
    """Some runs, and what to ask the next ones with; empty after the last."""

    runs: tuple[RunRecord, ...]
    token: str


def find_experiment(uri: str, study: str) -> Experiment | None:
    """Return where a study is; None where there is none, or it is deleted.

    Raises:
        TrackingError: MLflow failed.
    """
    with translated(uri):
        try:
            found = _asked(uri, "GET", "experiments/get-by-name", {"experiment_name": study})
        except RestException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
    experiment = found.get("experiment", {})
    if experiment.get("lifecycle_stage") != "active":
        return None
    return Experiment(experiment["experiment_id"], experiment.get("artifact_location", ""))


@lru_cache(maxsize=64)
def artifact_location(uri: str, study: str) -> str:
    """Return the address of a study's files; empty where there is no such study.

    It is settled when a study is made.

    Raises:
        TrackingError: MLflow failed.
    """
    found = find_experiment(uri, study)
    return found.location if found else ""


def search(uri: str, question: Question, token: str = "") -> Page:
    """Return the first runs that answer a question, or those after `token`.

    Raises:
        MlflowException: The server failed, or does not understand the question.
    """
    body: dict[str, Any] = {
        "experiment_ids": [question.experiment],
        "filter": question.query,
        "max_results": question.most,
        "run_view_type": "DELETED_ONLY" if question.deleted else "ACTIVE_ONLY",
    }
    if question.order:
        body["order_by"] = [question.order]
    if token:
        body["page_token"] = token
    found = _asked(uri, "POST", "runs/search", body)
    return Page(tuple(map(_record, found.get("runs", ()))), found.get("next_page_token", ""))


def search_all(uri: str, question: Question) -> tuple[RunRecord, ...]:
    """Return all runs that answer a question, asked for page by page.

    Raises:
        MlflowException: The server failed, or does not understand the question.
    """
    page = search(uri, question)
    found = list(page.runs)
    while page.token:
        page = search(uri, question, page.token)
        found += page.runs
    return tuple({run.run_id: run for run in found}.values())


def counts(uri: str, experiment: str, runs: int) -> bool:
    """Return whether the server holds exactly so many runs that are not deleted.

    It is asked for what follows the last but one; a server that reads the place otherwise than
    MLflow's own gives another answer, never a wrong yes for a longer or shorter list.

    Raises:
        MlflowException: The server failed, or does not understand the place.
    """
    if runs < 2:
        return len(search(uri, Question(experiment, most=2)).runs) == runs
    place = SearchUtils.create_page_token(runs - 1).decode()
    found = search(uri, Question(experiment, most=1), place)
    return len(found.runs) == 1 and not found.token


def fetch(uri: str, location: str, run_id: str, name: str) -> bytes | None:
    """Return one file of a run; None where the server does not give out files by this way.

    Raises:
        TrackingError: MLflow failed.
    """
    if not location.startswith(_PROXIED):
        return None
    with translated(uri):
        base = MlflowArtifactsRepository.resolve_uri(f"{location}/{run_id}/artifacts", uri)
        answer = http_request(get_default_host_creds(base), f"/{name}", "GET")
        if answer.status_code == _NOT_FOUND:
            return None
        return _checked(answer)


def _asked(uri: str, method: str, name: str, values: dict[str, Any]) -> dict[str, Any]:
    endpoint = f"{_API}/{name}"
    given: dict[str, Any] = {"params": values} if method == "GET" else {"json": values}
    patience = {"timeout": _PATIENCE} if method == "POST" else {}
    answer = http_request(get_default_host_creds(uri), endpoint, method, **given, **patience)
    content = _checked(answer)
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise MlflowException(f"{endpoint} answers {content[:60]!r}; this is no MLflow server")
    return found


def _checked(answer: Any) -> bytes:
    """Return what was answered; MLflow says what an error is, after guessing its alphabet."""
    if answer.status_code != _OK:
        verify_rest_response(answer, answer.url)
    content: bytes = answer.content
    return content


def _record(run: dict[str, Any]) -> RunRecord:
    info, data = run["info"], run.get("data", {})
    return RunRecord(
        info["run_id"],
        info["status"],
        _whole(info.get("start_time")),
        _whole(info.get("end_time")),
        _texts(data.get("tags", ())),
        _texts(data.get("params", ())),
        {one["key"]: float(one["value"]) for one in data.get("metrics", ())},
    )


def _texts(values: Any) -> dict[str, str]:
    return {one["key"]: one.get("value", "") for one in values}


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
