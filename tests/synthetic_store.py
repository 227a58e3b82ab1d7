"""Small made-up studies, written through the real cell files and the real tracking writer."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from longact_cli.cells import (
    CellDir,
    State,
    Status,
    cell_dir,
    create,
    mark_done,
    write_results,
    write_status,
)
from longact_cli.config.compose import compose
from longact_cli.config.schema import RunConfig
from longact_cli.files import append_lines, sha256_json, write_json
from longact_cli.plan import Cell, Plan
from longact_cli.results import EvalResult, MetricPoint, SampleResult

TASKS = ("niah_single_1", "niah_multikey_2")
LENGTHS = (512, 768)
N_QUESTIONS = 10
COMMIT = "c0ffee" + "0" * 34


@dataclass(frozen=True)
class Setting:
    """One arm and seed of a made-up study; `probability` is the chance of a right answer."""

    strategy: str
    sparsity: float
    seed: int
    probability: float
    model: str = "micro"


@cache
def _config() -> RunConfig:
    return compose(())


def config(setting: Setting) -> RunConfig:
    base = _config()
    return base.model_copy(
        update={
            "seed": setting.seed,
            "model": base.model.model_copy(update={"name": setting.model}),
            "mask": base.mask.model_copy(
                update={"strategy": setting.strategy, "sparsity": setting.sparsity}
            ),
        }
    )


def pair(setting: Setting, **config_update) -> tuple[Cell, Cell]:
    """The train and eval cell of a setting; digests come from the label, not from the schema."""
    made = config(setting).model_copy(update=config_update)
    name = [setting.model, setting.strategy, setting.sparsity, setting.seed, str(config_update)]
    digests = [sha256_json([*name, stage]) for stage in ("train", "eval")]
    train = Cell("train", made, "rev", None, digests[0], ("sweep",))
    return train, Cell("eval", made, "rev", digests[0], digests[1], ("sweep",))


def base_cell(model: str = "micro") -> Cell:
    """The eval cell of the untrained model."""
    made = config(Setting("salient", 0.3, 0, 0.0, model))
    return Cell("eval", made, "rev", None, sha256_json([model, "base"]), ("base",))


def answers(cell: Cell, probability: float, *, fail_first: bool = False) -> list[SampleResult]:
    """Answers whose scores depend on the question first and on the arm second, as real ones do."""
    benchmark = cell.config.benchmark.name
    luck = np.random.default_rng(7).random((len(TASKS), len(LENGTHS), N_QUESTIONS))
    noise = np.random.default_rng(int(cell.digest[:8], 16)).random(luck.shape)
    right = 0.7 * luck + 0.3 * noise < probability
    found = []
    for (t, n, q), value in np.ndenumerate(right):
        failed = fail_first and (t, n, q) == (0, 0, 0)
        found.append(
            SampleResult(
                id=f"{TASKS[t]}-{LENGTHS[n]}-{q}",
                benchmark=benchmark,
                task=TASKS[t],
                context_length=LENGTHS[n],
                prompt_sha256="0" * 64,
                prompt_tokens=LENGTHS[n] - 128,
                completion=None if failed else "answer",
                completion_tokens=None if failed else 3,
                references=("answer",),
                score=None if failed else float(value),
                truncated=False,
                error="generation failed" if failed else None,
            )
        )
    return found


def results(samples: Iterable[SampleResult]) -> tuple[EvalResult, ...]:
    """Scores per task and length, as an evaluation writes them."""
    groups: dict[tuple[str, str, int], list[SampleResult]] = {}
    for s in samples:
        groups.setdefault((s.benchmark, s.task, s.context_length), []).append(s)
    rows = []
    for (benchmark, task, length), group in groups.items():
        scores = [s.score for s in group if s.score is not None]
        rows.append(
            EvalResult(
                benchmark=benchmark,
                task=task,
                protocol="official",
                context_length=length,
                metric="string_match_all",
                score=float(np.mean(scores)) if scores else None,
                n_scored=len(scores),
                n_failed=len(group) - len(scores),
                n_truncated=sum(s.truncated for s in group),
            )
        )
    return tuple(rows)


def rewards(cell: Cell, probability: float, steps: int = 12) -> list[MetricPoint]:
    """A reward that rises towards `probability`."""
    noise = np.random.default_rng(int(cell.digest[:8], 16)).normal(0, 0.02, steps)
    return [
        MetricPoint(step, "reward", float(probability * step / steps + noise[step - 1]))
        for step in range(1, steps + 1)
    ]


def write_cell(
    runs_dir: Path,
    cell: Cell,
    probability: float,
    *,
    state: State = "done",
    error: str | None = None,
    fail_first: bool = False,
) -> CellDir:
    """Write a cell's directory as its process would have left it."""
    directory = cell_dir(runs_dir, cell.digest)
    create(directory, cell)
    write_json(
        directory.provenance,
        {
            "longact": "0.1.0",
            "git_commit": COMMIT,
            "git_dirty": False,
            "packages": {"trl": "1.16.0"},
        },
    )
    if state == "done":
        if cell.stage == "train":
            append_lines(directory.metrics, [p._asdict() for p in rewards(cell, probability)])
        else:
            found = answers(cell, probability, fail_first=fail_first)
            append_lines(directory.samples, [s._asdict() for s in found])
            write_results(directory, results(found))
        mark_done(directory)
    write_status(directory, Status(state, 1, None, error, started=1.0, finished=2.0))
    return directory


def write_study(
    runs_dir: Path, uri: str, study: str, settings: Iterable[Setting], *, model: str = "micro"
) -> Plan:
    """Write and track the base and every setting as finished cells."""
    from longact_cli.tracking.store import open_store

    base = base_cell(model)
    written = [(base, write_cell(runs_dir, base, 0.2))]
    for setting in settings:
        for cell in pair(setting):
            written.append((cell, write_cell(runs_dir, cell, setting.probability)))
    plan = Plan(study, tuple(cell for cell, _ in written))
    store = open_store(uri, runs_dir=runs_dir, study=study)
    run = store.start_plan(plan, "longact ablate --sparsity 0.3")
    for cell, directory in written:
        store.sync_cell(cell, directory, parent_run=run)
    store.close(run, "FINISHED")
    return plan
