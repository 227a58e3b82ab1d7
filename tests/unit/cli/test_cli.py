"""The command line as a user meets it: real processes, exit codes, one-line errors."""

import json
import os
import subprocess
import sys

import pytest
import typer

from longact_cli.cli.options import guarded
from longact_cli.config.compose import compose, parse
from longact_cli.console.output import Output
from longact_cli.console.plans import Failure, show_outcome
from longact_cli.controls import plan_train
from longact_cli.execution.runner import Outcome
from longact_cli.files import write_text

HEAVY = ("torch", "transformers", "trl", "mlflow", "pandas", "numpy", "hydra", "lm_eval")
WRONG = {
    "sparsity too large": (
        ["ablate", "--sparsity", "1.5"],
        "mask.sparsity is 1.5; it must be a number from 0 to 1",
    ),
    "sparsity no number": (
        ["train", "--sparsity", "abc"],
        "mask.sparsity is 'abc'; it must be a number from 0 to 1",
    ),
    "unknown mask": (["train", "--mask", "salint"], "Did you mean 'salient'?"),
    "unknown model": (["train", "--model", "mirco"], "Did you mean 'micro'?"),
    "missing folder": (["train", "--model", "/nowhere"], "model.path is '/nowhere'; it must be"),
    "unknown key": (["train", "mask.refresh_evry=4"], "Did you mean 'mask.refresh_every'?"),
    "length zero": (["eval", "--length", "0"], "benchmark.context_lengths is 0; it must be"),
    "length past the window": (
        ["eval", "--length", "1000000"],
        "benchmark.context_lengths is 1000000; micro has a window of",
    ),
    "empty sweep": (["ablate", "--seeds", "0"], "the sweep is empty: --seeds is 0"),
    "empty option": (["ablate", "--sparsity", ""], "the sweep is empty: mask.sparsity"),
    "sweep of one run": (["train", "--sparsity", "0.1,0.3"], "use `longact ablate` to sweep"),
    "hostile study": (["train", "--study", "../../etc"], "--study is '../../etc'; it must be"),
    "missing experiment": (["ablate", "--experiment", "no.yaml"], "there is no such file"),
    "unknown benchmark": (["eval", "--bench", "rulr"], "Did you mean 'ruler'?"),
}


def longact(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "longact_cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )


@pytest.mark.parametrize(
    "command", [[], ["train"], ["ablate"], ["eval"], ["report"], ["models"], ["power"]]
)
def test_help_imports_nothing_heavy(command, tmp_path):
    script = (
        "import sys\n"
        "from longact_cli.cli.app import app\n"
        f"sys.argv = ['longact', *{command!r}, '--help']\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: longact" in done.stdout


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG.keys())
def test_bad_input_is_one_line_and_writes_nothing(arguments, message, tmp_path):
    done = longact(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_runs_dir_that_is_a_file_is_refused_and_kept(tmp_path):
    (tmp_path / "runs").write_text("mine")
    done = longact("ablate", cwd=tmp_path)
    assert done.returncode == 2
    assert "--runs-dir is runs" in done.stderr
    assert "is a file" in done.stderr
    assert (tmp_path / "runs").read_text() == "mine"


def test_an_error_is_an_object_for_a_script(tmp_path):
    done = longact("train", "--sparsity", "7", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert json.loads(done.stdout)["exit_code"] == 2


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    done = longact("ablate", "--sparsity", "0.1,0.3,0.5", "--dry-run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    cells = [row for row in rows if row["event"] == "cell"]
    assert len(cells) == 15
    assert sum("control" in row["asked_by"] for row in cells) == 8
    assert rows[-1]["event"] == "estimate"
    assert rows[-1]["cells"] == 15
    assert list(tmp_path.iterdir()) == []


def test_status_of_an_empty_store_is_exit_code_3(tmp_path):
    done = longact("status", cwd=tmp_path)
    assert done.returncode == 3
    assert "holds no cells" in done.stderr


def test_config_show_prints_what_a_run_would_use(tmp_path):
    done = longact("config", "show", "mask.sparsity=0.5", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert "mask.sparsity = 0.5" in lines
    # As they can be given back.
    again = longact("config", "show", *(line.replace(" = ", "=") for line in lines), cwd=tmp_path)
    assert (again.stderr, again.stdout.splitlines()) == ("", lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--sparsty", "0.3"], "--sparsty"),
        (["logs"], "Missing argument"),
        (["status", "--runs-dir"], "'--runs-dir' requires an argument"),
        (["statu"], "No such command 'statu'. Did you mean 'status'?"),
        (["status", "extra"], "extra argument"),
    ],
)
def test_a_wrong_option_or_argument_is_one_line_too(arguments, message, tmp_path):
    done = longact(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    row = json.loads(longact(arguments[0], "--json", *arguments[1:], cwd=tmp_path).stdout)
    assert row["exit_code"] == 2


def test_without_a_command_the_help_is_shown(tmp_path):
    done = longact(cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "")
    assert "ablate" in done.stdout


def test_brackets_in_a_message_are_text_and_not_markup(tmp_path):
    done = longact("doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    rows = [line for line in done.stdout.splitlines() if "vllm" in line]
    assert rows
    assert rows[0].startswith("ok") or "longact[vllm]" in rows[0]


def test_verbose_shows_where_a_cell_lies_and_quiet_shows_results_only(tmp_path):
    few = ["eval", "--length", "256", "--limit", "1", "--task", "niah_single_1"]
    loud = longact(*few, "-v", cwd=tmp_path)
    assert loud.returncode == 0, loud.stderr
    assert "runs/cells/" in loud.stderr
    silent = longact(*few, "-q", cwd=tmp_path)
    assert silent.stderr == ""
    assert "niah_single_1" in silent.stdout


def test_a_failed_evaluation_is_tried_again_by_the_same_command(tmp_path):
    short = ["eval", "--task", "vt", "--length", "256", "--limit", "1"]
    for attempt in ("1", "2"):
        done = longact(*short, cwd=tmp_path)
        assert done.returncode == 1, done.stderr
        assert "fix the cause and run the same command again" in done.stderr
        assert "--retry-failed" not in done.stderr
        rows = longact("status", "--json", cwd=tmp_path).stdout.splitlines()
        assert [str(json.loads(row)["attempt"]) for row in rows] == [attempt]


def test_a_quiet_run_still_says_what_failed(capsys):
    plan = plan_train("s", compose(parse([])), revision=lambda _model: "w")
    digest = plan.cells[0].digest
    outcome = Outcome({digest: "failed"}, interrupted=False)
    failures = {digest: Failure("out of memory", "")}
    show_outcome(Output(quiet=True), plan, outcome, failures, retries=False)
    said = capsys.readouterr().err
    assert said == "failed: train micro dapo salient 0.3 seed 0: out of memory\n"


def test_no_color_of_the_environment_counts(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert Output().out.no_color
    assert Output().err.no_color
    monkeypatch.delenv("NO_COLOR")
    assert not Output().out.no_color
    assert Output(color=False).out.no_color


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "--runs-dir", "x" * 300],
        ["ablate", "--dry-run", "--runs-dir", "x" * 300],
    ],
)
def test_a_path_that_cannot_be_used_is_one_line(arguments, tmp_path):
    done = longact(*arguments, cwd=tmp_path)
    assert done.returncode in (2, 4)
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_file_in_the_way_of_a_result_is_one_line_and_a_lost_file_stays_a_bug(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(typer.Exit) as ended:
        guarded(lambda: write_text(tmp_path / "file" / "result", "x"))()
    assert ended.value.exit_code == 4
    said = capsys.readouterr().err
    assert said.endswith("file cannot be used (file exists): give another path\n")
    with pytest.raises(FileNotFoundError):
        guarded(lambda: (tmp_path / "lost").read_text())()
