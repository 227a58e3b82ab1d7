"""The whole pipeline as a user runs it: sweep, kill, continue, report; and from a wheel."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SWEEP = [
    "ablate", "--sparsity", "0.3", "--no-controls", "--steps", "6", "--study", "kill",
    "algorithm.checkpoint_every=2", "algorithm.prompts_per_step=2", "algorithm.group_size=4",
    "algorithm.micro_batch_size=8", "data.context_lengths=[256]", "benchmark.tasks=[niah_single_1]",
    "benchmark.context_lengths=[256]", "benchmark.limit=8",
]  # fmt: skip
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "COLUMNS": "200",
}

pytestmark = pytest.mark.slow


def longact(*arguments, cwd, check=True):
    done = subprocess.run(
        [sys.executable, "-m", "longact_cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert not check or done.returncode == 0, done.stderr + done.stdout
    return done


def kill_once_training_has_a_checkpoint(folder):
    """Start the sweep, kill -9 the orchestrator after the first whole checkpoint."""
    process = subprocess.Popen(
        [sys.executable, "-m", "longact_cli", *SWEEP],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob("runs/cells/*/checkpoints/*/COMPLETE")):
        assert process.poll() is None, "the sweep ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint after two minutes"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()


def weights(folder):
    return {
        path.parents[1].name: path.read_bytes()
        for path in folder.glob("runs/cells/*/model/model.safetensors")
    }


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """The same sweep twice: undisturbed, and killed in the middle and run again."""
    whole, killed = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("killed")
    longact(*SWEEP, cwd=whole)
    kill_once_training_has_a_checkpoint(killed)
    longact(*SWEEP, cwd=killed)
    for folder in (whole, killed):
        longact("report", "--experiment", "kill", "--out", "report", cwd=folder)
    return whole, killed


def test_a_killed_sweep_ends_with_the_weights_of_an_undisturbed_one(studies):
    whole, killed = studies
    assert len(weights(whole)) == 1
    assert weights(whole) == weights(killed)


def test_a_killed_sweep_ends_with_the_table_bytes_of_an_undisturbed_one(studies):
    whole, killed = studies
    names = sorted(path.name for path in (whole / "report").glob("sparsity.*"))
    assert names == [f"sparsity.{ending}" for ending in ("csv", "json", "md", "tex")]
    for name in names:
        assert (whole / "report" / name).read_bytes() == (killed / "report" / name).read_bytes()


def test_the_killed_sweep_trained_each_step_once_in_its_journal(studies):
    for folder in studies:
        (journal,) = folder.glob("runs/cells/*/metrics.jsonl")
        rows = [json.loads(line) for line in journal.read_text().splitlines()]
        steps = [row["step"] for row in rows if row["name"] == "grad_norm"]
        assert steps == [1, 2, 3, 4, 5, 6]


def test_a_finished_sweep_has_nothing_to_run_and_changes_nothing(studies):
    whole, _ = studies
    before = {path: path.stat().st_mtime_ns for path in whole.glob("runs/cells/*/DONE")}
    done = longact(*SWEEP, cwd=whole)
    assert "3 of 3 cells done" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in whole.glob("runs/cells/*/DONE")} == before


def test_a_changed_configuration_cannot_resume_a_cell(studies):
    whole, _ = studies
    (journal,) = whole.glob("runs/cells/*/metrics.jsonl")
    digest = journal.parent.name
    done = longact("train", "--resume", digest, "--sparsity", "0.5", cwd=whole, check=False)
    assert done.returncode == 2
    assert "mask.sparsity: 0.3 -> 0.5" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_trained_model_is_a_stock_checkpoint(studies):
    whole, _ = studies
    (folder,) = whole.glob("runs/cells/*/model")
    script = (
        "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "print(type(model).__name__, len(tokenizer) == model.config.vocab_size)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, folder], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["Qwen3ForCausalLM", "True"]


def test_the_wheel_trains_outside_the_checkout(tmp_path):
    """The installed wheel runs alone; its dependencies come from this environment."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", tmp_path, ROOT],
        check=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("longact-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "longact_cli/conf/train.yaml" in names
    assert "longact_cli/models/micro_checkpoint/model.safetensors" in names
    clean = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", clean], check=True)
    # A path file makes the dependencies of this environment visible, but not its editable longact.
    site = next((clean / "lib").glob("python*")) / "site-packages"
    outer = next(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
    (site / "outer.pth").write_text(f"{outer}\n")
    subprocess.run([clean / "bin/pip", "install", "--quiet", "--no-deps", "--force-reinstall",
                    wheel], check=True)  # fmt: skip
    command = [clean / "bin/python", "-m", "longact_cli"]
    where = subprocess.run(
        [clean / "bin/python", "-c", "import longact_cli; print(longact_cli.__file__)"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(clean))
    done = subprocess.run(
        [*command, "train", "--model", "micro", "--steps", "2"],
        cwd=tmp_path, capture_output=True, text=True, check=False, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("runs/cells/*/model/model.safetensors"))
