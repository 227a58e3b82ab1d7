"""Secrets that were planted must not come out anywhere."""

import io
import json
import os
import subprocess
import sys

import pytest

from longact_cli.cells import Status, create, write_status
from longact_cli.execution.logs import read_tail
from longact_cli.files import read_json
from longact_cli.plan import Plan
from longact_cli.redaction import RedactingStream, holds_secret, redact, secret_values
from longact_cli.tracking.plans import read_plans, write_plan
from longact_cli.tracking.query import read_study
from longact_cli.tracking.store import open_store
from synthetic_store import Setting, cell_dir, pair

HUB = "hf_" + "AbCdEfGhIjKlMnOpQrSt"
PLANTED = "planted-value-1234"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("http://bob:pw@host:5000/x", "http://***@host:5000/x"),
        ("postgresql+psycopg2://u:p%40@db/mlflow", "postgresql+psycopg2://***@db/mlflow"),
        (f"HF_TOKEN={HUB} longact train", "HF_TOKEN=*** longact train"),
        ("key sk-abcdefghijklmnop1234", "key ***"),
        ("AKIAABCDEFGHIJKLMNOP", "***"),
        ('{"api_key": "abcdef123456"}', '{"api_key": "***"}'),
        ("Authorization: Bearer abcdefghijklmnop", "Authorization: Bearer ***"),
        ("authorization=Basic YWxhZGRpbjpvcGVu", "authorization=Basic ***"),
        (f"it said {PLANTED}!", "it said ***!"),
    ],
)
def test_a_secret_is_replaced_by_three_stars(text, clean):
    assert redact(text, known=(PLANTED,)) == clean


@pytest.mark.parametrize(
    "text",
    [
        "longact train --model qwen3-4b mask.sparsity=0.3",
        "max_tokens=4096 tokenizer=x token=None secret=null",
        "http://localhost:5000/#/experiments/1",
        "a basic understanding of tokens",
        "git@github.com/owner/name",
    ],
)
def test_ordinary_text_stays(text):
    assert redact(text, known=()) == text
    assert not holds_secret(text)


def test_variables_are_secret_by_their_name():
    environment = {
        "HF_TOKEN": "first-secret",
        "MLFLOW_TRACKING_PASSWORD": "second-secret-longer",
        "TOKENIZERS_PARALLELISM": "false-or-so",
        "HF_TOKEN_PATH": "/home/me/token",
        "PATH": "/usr/bin:/bin",
        "SHORT_TOKEN": "1",
    }
    assert secret_values(environment) == ("second-secret-longer", "first-secret")


def test_a_stream_passes_on_everything_but_secrets():
    inner = io.StringIO()
    stream = RedactingStream(inner)
    assert stream.write(f"a {HUB} b\n") == len(HUB) + 5
    assert inner.getvalue() == "a *** b\n"
    assert not stream.isatty()


def test_what_a_cell_prints_and_why_it_failed_hold_no_secret(tmp_path):
    train, _ = pair(Setting("salient", 0.3, 0, 0.7))
    directory = cell_dir(tmp_path, train.digest)
    create(directory, train)
    description = read_json(directory.path / "cell.json")
    description["model_revision"] = f"http://me:{PLANTED}@hub"
    (directory.path / "cell.json").write_text(json.dumps(description))
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv[1:] = ['_cell', {str(directory.path)!r}]\n"
         "from longact_cli.execution import child\n"
         "def fail(*_): print('out', sys.argv, __import__('os').environ['HF_TOKEN']); "
         "raise ValueError('no ' + __import__('os').environ['HF_TOKEN'])\n"
         "child._run = fail\n"
         "from longact_cli.cli.app import main; main()"],
        env={**os.environ, "HF_TOKEN": PLANTED}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no ***" in done.stderr
    written = done.stdout + done.stderr + (directory.path / "status.json").read_text()
    assert PLANTED not in written
    assert read_json(directory.path / "status.json")["error"] == "ValueError: no ***"


def test_what_is_tracked_holds_no_secret(tracked_runs):
    runs_dir, uri = tracked_runs
    train, _ = pair(Setting("salient", 0.3, 0, 0.7))
    data = train.config.data.model_copy(update={"path": f"https://me:{PLANTED}@hub/data"})
    train = type(train)(**{**vars(train), "config": train.config.model_copy(update={"data": data})})
    directory = cell_dir(runs_dir, train.digest)
    create(directory, train)
    write_status(directory, Status("failed", 1, 1, f"HF_TOKEN={HUB}", 1.0, 2.0))
    plan = Plan("study", (train,))
    write_plan(plan, runs_dir, command=f"longact train --api-key={PLANTED} token={HUB}")
    store = open_store(uri, runs_dir=runs_dir, study="study")
    run = store.start_plan(plan, f"longact train api_key={PLANTED}")
    store.sync_cell(train, directory, parent_run=run)
    (cell,) = read_study(uri, "study")
    assert cell.params["data.path"] == "https://***@hub/data"
    assert cell.error == "HF_TOKEN=***"
    assert read_plans(runs_dir)[0].command == "longact train --api-key=*** token=***"
    kept = [path for path in runs_dir.rglob("*") if path.is_file() and "cells" not in path.parts]
    for path in kept:
        content = path.read_bytes()
        assert PLANTED.encode() not in content, path
        assert HUB.encode() not in content, path


def test_a_log_is_shown_without_secrets(tmp_path):
    log = tmp_path / "stdout.log"
    log.write_text(f"one\ntwo {HUB}\nthree")
    assert read_tail(log, 2).lines == ("two ***", "three")
    assert read_tail(log, 5, whole=True) == (("one", "two ***"), len(f"one\ntwo {HUB}\n"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", f"data.path=https://me:{PLANTED}@hub/x"],
        ["eval", "--base-url", f"http://me:{PLANTED}@localhost:8000/v1", "--backend", "openai"],
        ["train", "--tracking-uri", f"ftp://me:{PLANTED}@host"],
    ],
)
def test_a_secret_among_the_settings_is_refused_without_repeating_it(arguments, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "longact_cli", *arguments],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert PLANTED not in done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
