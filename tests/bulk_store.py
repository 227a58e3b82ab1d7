"""Large made-up stores: rows put straight into MLflow's tables, hundreds of runs in a second.

What is written is what `tracking.store` writes; `test_bulk_store` compares the two.
"""

import json
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from longact_cli.config.compose import compose
from longact_cli.config.schema import RunConfig
from longact_cli.files import sha256_json
from longact_cli.plan import Cell
from longact_cli.results import SampleResult
from longact_cli.tracking import WRITTEN_TAG, artifact_folder
from longact_cli.tracking.sync import cell_params, identity_tags
from synthetic_store import COMMIT, results

WRITTEN = "1700000000000"
COMMAND = "longact ablate --experiment experiments/made-up.yaml"
INFINITEBENCH = (
    *("passkey", "number_string", "kv_retrieval", "longbook_sum_eng", "longbook_qa_eng"),
    *("longbook_choice_eng", "longdialogue_qa_eng", "longbook_qa_chn", "code_debug", "code_run"),
    *("math_calc", "math_find"),
)


@dataclass(frozen=True)
class Bench:
    """Questions of a made-up benchmark: for each task and length, so many."""

    name: str
    tasks: tuple[str, ...]
    lengths: tuple[int, ...]
    questions: int


BENCHES = (
    Bench("ruler", ("niah_single_1", "niah_multikey_2", "vt"), (4096, 8192), 10),
    Bench("longbench-v2", ("short", "medium", "long"), (131072,), 16),
    Bench("infinitebench", INFINITEBENCH, (131072,), 4),
)


@dataclass(frozen=True)
class Trained:
    """One training setting with its seed; `gain` moves the chance of a right answer."""

    model: str
    algorithm: str
    strategy: str
    sparsity: float
    seed: int
    gain: float


@cache
def _config() -> RunConfig:
    return compose(())


def _cells(one: Trained | str, benches: Sequence[Bench]) -> list[tuple[Cell, Bench | None]]:
    """The train cell of a setting and its evaluations; for a model's name, those of the base."""
    base = _config()
    if isinstance(one, str):
        one, trained = Trained(one, "dapo", "salient", 0.3, 0, 0.0), False
    else:
        trained = True
    config = base.model_copy(
        update={
            "seed": one.seed,
            "model": base.model.model_copy(update={"name": one.model}),
            "algorithm": base.algorithm.model_copy(update={"name": one.algorithm}),
            "mask": base.mask.model_copy(
                update={"strategy": one.strategy, "sparsity": one.sparsity}
            ),
        }
    )
    name = [one.model, one.algorithm, one.strategy, one.sparsity, one.seed, trained]
    parent = sha256_json([*name, "train"]) if trained else None
    found: list[tuple[Cell, Bench | None]] = []
    if parent:
        found.append((Cell("train", config, "rev", None, parent, ("sweep",)), None))
    for bench in benches:
        benchmark = config.benchmark.model_copy(update={"name": bench.name})
        made = config.model_copy(update={"benchmark": benchmark})
        digest = sha256_json([*name, bench.name])
        found.append((Cell("eval", made, "rev", parent, digest, ("sweep",)), bench))
    return found


def answers(cell: Cell, bench: Bench, gain: float) -> list[SampleResult]:
    """Answers that depend on the question first, then on the arm, then on chance."""
    shape = (len(bench.tasks), len(bench.lengths), bench.questions)
    luck = np.random.default_rng(7).random(shape)
    noise = np.random.default_rng(int(cell.digest[:8], 16)).random(shape)
    right = 0.7 * luck + 0.3 * noise < 0.35 + gain
    failing = cell.digest.startswith(("0", "1"))
    found = []
    for (t, n, q), value in np.ndenumerate(right):
        failed = failing and (t, n, q) == (0, 0, 0)
        task, length = bench.tasks[t], bench.lengths[n]
        found.append(
            SampleResult(
                id=f"{bench.name}/{task}/{length}/{q}",
                benchmark=bench.name,
                task=task,
                context_length=length,
                prompt_sha256="0" * 64,
                prompt_tokens=length - 128,
                completion=None if failed else f"The answer is {q}." if value else "I do not know.",
                completion_tokens=None if failed else 5,
                references=(str(q),),
                score=None if failed else float(value),
                truncated=bench.name == "longbench-v2" and task == "long",
                error="generation failed" if failed else None,
                difficulty=("easy" if q % 2 else "hard") if "longbench" in bench.name else None,
            )
        )
    return found


def write_store(
    runs_dir: Path,
    template: Path,
    study: str,
    trained: Iterable[Trained],
    *,
    models: Sequence[str] = (),
    benches: Sequence[Bench] = BENCHES,
    failed: Iterable[Trained] = (),
) -> str:
    """Write a study of finished cells into a copy of the empty database; return the URI.

    Args:
        runs_dir: An empty folder.
        template: A migrated MLflow database without studies.
        study: Its name.
        trained: What was trained and evaluated on every bench.
        models: Whose untrained weights were evaluated.
        benches: The benchmarks.
        failed: Planned as well; their training failed.
    """
    shutil.copy(template, runs_dir / "mlflow.db")
    write_study(runs_dir, study, trained, models=models, benches=benches, failed=failed)
    return f"sqlite:///{runs_dir}/mlflow.db"


def write_study(
    runs_dir: Path,
    study: str,
    trained: Iterable[Trained],
    *,
    models: Sequence[str] = (),
    benches: Sequence[Bench] = BENCHES,
    failed: Iterable[Trained] = (),
) -> None:
    """Write a study into the database of a store; see `write_store`."""
    folder = artifact_folder(runs_dir, study)
    planned: list[dict] = []
    with sqlite3.connect(runs_dir / "mlflow.db") as sql:
        experiment = _experiment(sql, study, folder)
        for one in (*models, *trained):
            for cell, bench in _cells(one, benches):
                gain = 0.0 if isinstance(one, str) else one.gain
                _write_run(sql, experiment, folder, cell, bench, gain)
                planned.append({"tags": identity_tags(cell), "params": cell_params(cell)})
        for one in failed:
            for cell, _ in _cells(one, benches):
                error = "CUDA out of memory" if cell.stage == "train" else "its training failed"
                state = ("FAILED", "failed") if cell.stage == "train" else ("KILLED", "blocked")
                _insert(sql, experiment, folder, cell, *state, {"longact.error": error})
                planned.append({"tags": identity_tags(cell), "params": cell_params(cell)})
        _write_plan(sql, experiment, folder, study, planned)


def serve_files(runs_dir: Path) -> None:
    """Make a store one of a server, which gives out the files that lie in the folder."""
    address = f"{artifact_folder(runs_dir, 'x').parent.as_uri()}/"
    with sqlite3.connect(runs_dir / "mlflow.db") as sql:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            change = f"UPDATE {table} SET {column} = replace({column}, ?, 'mlflow-artifacts:/')"
            sql.execute(change, (address,))


def add_runs(
    runs_dir: Path, study: str, trained: Iterable[Trained], *, benches: Sequence[Bench] = BENCHES
) -> None:
    """Add runs to a store of `write_store`, as another sweep of the same study would."""
    folder = artifact_folder(runs_dir, study)
    with sqlite3.connect(runs_dir / "mlflow.db") as sql:
        query = "SELECT experiment_id FROM experiments WHERE name = ?"
        (experiment,) = sql.execute(query, (study,)).fetchone()
        for one in trained:
            for cell, bench in _cells(one, benches):
                _write_run(sql, experiment, folder, cell, bench, one.gain)


def _experiment(sql: sqlite3.Connection, study: str, folder: Path) -> int:
    row = (study, folder.as_uri(), "active", 0, 0)
    found = sql.execute(
        "INSERT INTO experiments (name, artifact_location, lifecycle_stage, creation_time, "
        "last_update_time) VALUES (?, ?, ?, ?, ?)",
        row,
    )
    return found.lastrowid


def _run(sql: sqlite3.Connection, experiment: int, folder: Path, name: str, status: str) -> str:
    run_id = sha256_json([folder.name, name])[:32]
    artifacts = folder / run_id / "artifacts"
    artifacts.mkdir(parents=True)
    sql.execute(
        "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, "
        "status, start_time, end_time, source_version, lifecycle_stage, artifact_uri, "
        "experiment_id) VALUES (?, ?, 'UNKNOWN', '', '', 'x', ?, ?, ?, '', 'active', ?, ?)",
        (run_id, name[:200], status, 0, 90_000, artifacts.as_uri(), experiment),
    )
    return run_id


def _insert(
    sql: sqlite3.Connection,
    experiment: int,
    folder: Path,
    cell: Cell,
    status: str,
    state: str,
    extra: dict[str, str],
) -> Path:
    run_id = _run(sql, experiment, folder, cell.digest, status)
    tags = (
        identity_tags(cell)
        | extra
        | {
            "longact.state": state,
            "longact.git_commit": COMMIT,
            "longact.asked_by": ",".join(cell.asked_by),
            "longact.replicated": f"{state} 1 90.0",
            WRITTEN_TAG: WRITTEN,
        }
    )
    sql.executemany(
        "INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)",
        [(key, value, run_id) for key, value in tags.items()],
    )
    sql.executemany(
        "INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)",
        [(key, value, run_id) for key, value in cell_params(cell).items()],
    )
    return folder / run_id / "artifacts"


def _write_run(
    sql: sqlite3.Connection,
    experiment: int,
    folder: Path,
    cell: Cell,
    bench: Bench | None,
    gain: float,
) -> None:
    measured = {"longact.tokens": "2000000", "longact.seconds": "75.0"} if bench is None else {}
    measured["longact.peak_memory_bytes"] = str(3 << 30)
    artifacts = _insert(sql, experiment, folder, cell, "FINISHED", "done", measured)
    if bench is None:
        run_id = artifacts.parent.name
        noise = np.random.default_rng(int(cell.digest[:8], 16)).normal(0, 0.02, 20)
        rewards = [float(0.3 + (0.2 + gain) * step / 20 + noise[step]) for step in range(20)]
        sql.executemany(
            "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) "
            "VALUES ('reward', ?, ?, ?, ?, 0)",
            [(value, step, run_id, step) for step, value in enumerate(rewards)],
        )
        sql.execute(
            "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) "
            "VALUES ('reward', ?, 19, 19, 0, ?)",
            (rewards[-1], run_id),
        )
        return
    found = answers(cell, bench, gain)
    lines = (json.dumps(one._asdict()) for one in found)
    (artifacts / "samples.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    scores = [one._asdict() for one in results(found)]
    (artifacts / "results.json").write_text(json.dumps(scores), "utf-8")


def _write_plan(
    sql: sqlite3.Connection, experiment: int, folder: Path, study: str, cells: list[dict]
) -> None:
    run_id = _run(sql, experiment, folder, "plan", "FINISHED")
    tags = {"longact.kind": "plan", "longact.plan": "p", "longact.command": COMMAND}
    tags[WRITTEN_TAG] = WRITTEN
    sql.executemany(
        "INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)",
        [(key, value, run_id) for key, value in tags.items()],
    )
    plan = {"study": study, "cells": cells}
    (folder / run_id / "artifacts" / "plan.json").write_text(json.dumps(plan), "utf-8")


def paper_settings(seeds: int = 3) -> list[Trained]:
    """Two sizes, two algorithms, the masks and sparsities of the paper's questions, and SFT."""
    masks = [("dense", 1.0, 0.14), ("frozen", 0.0, 0.05), ("lowest", 0.3, 0.08)]
    masks += [("salient", s, 0.1 + g) for s, g in ((0.1, 0.05), (0.3, 0.15), (0.5, 0.09))]
    masks += [("random", s, 0.1) for s in (0.1, 0.3, 0.5)]
    found = []
    for model, algorithm, more in (
        ("qwen3-4b", "dapo", 0.0),
        ("qwen3-4b", "grpo", -0.03),
        ("qwen3-8b", "dapo", 0.1),
    ):
        found += [
            Trained(model, algorithm, name, sparsity, seed, gain + more)
            for name, sparsity, gain in masks
            for seed in range(seeds)
        ]
    found += [Trained(f"qwen3-{n}b", "sft", "dense", 1.0, 0, 0.06) for n in (4, 8)]
    return found
