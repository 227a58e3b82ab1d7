"""Load lm-eval's own long-context tasks: generated, from the hub, or from a local folder.

Source: EleutherAI/lm-evaluation-harness 0.4.13, lm_eval/tasks/{ruler,longbench2,infinitebench}.
"""

import contextlib
import io
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.evaluation.infinitebench.data import find_rows as infinitebench_rows
from longact_cli.evaluation.infinitebench.data import read_row, task_file
from longact_cli.evaluation.infinitebench.tasks import TASKS as INFINITEBENCH_TASKS
from longact_cli.evaluation.longbench_v2.data import data_file, load_items
from longact_cli.evaluation.longbench_v2.score import LENGTHS
from longact_cli.evaluation.ruler.templates import TASKS as RULER_TASKS
from longact_cli.registry import unknown_name

_RULER = {"vt": "ruler_vt", "cwe": "ruler_cwe", "fwe": "ruler_fwe"} | {
    "qa_1": "ruler_qa_squad",
    "qa_2": "ruler_qa_hotpot",
}
# lm-eval's task by (domain, sub-domain) of the official file.
LONGBENCH_TASKS = {
    ("Single-Document QA", "Academic"): "longbench2_academic_single",
    ("Single-Document QA", "Literary"): "longbench2_lit_single",
    ("Single-Document QA", "Legal"): "longbench2_legal_single",
    ("Single-Document QA", "Financial"): "longbench2_fin_single",
    ("Single-Document QA", "Governmental"): "longbench2_govt_single",
    ("Single-Document QA", "Detective"): "longbench2_detective",
    ("Single-Document QA", "Event ordering"): "longbench2_event_order",
    ("Multi-Document QA", "Academic"): "longbench2_academic_multi",
    ("Multi-Document QA", "Legal"): "longbench2_legal_multi",
    ("Multi-Document QA", "Financial"): "longbench2_fin_multi",
    ("Multi-Document QA", "Governmental"): "longbench2_govt_multi",
    ("Multi-Document QA", "Multi-news"): "longbench2_news_multi",
    ("Long In-context Learning", "User guide QA"): "longbench2_user_guide",
    ("Long In-context Learning", "New language translation"): "longbench2_translate",
    ("Long In-context Learning", "Many-shot learning"): "longbench2_many_shot",
    ("Long-dialogue History Understanding", "Agent history QA"): "longbench2_agent_history",
    ("Long-dialogue History Understanding", "Dialogue history QA"): "longbench2_dialogue_history",
    ("Code Repository Understanding", "Code repo QA"): "longbench2_code",
    ("Long Structured Data Understanding", "Knowledge graph reasoning"): "longbench2_graph",
    ("Long Structured Data Understanding", "Table QA"): "longbench2_table",
}
_FOLDERS = {"ruler": "ruler", "longbench-v2": "longbench2", "infinitebench": "infinitebench"}
_SHORTEST_VT = 1024
"""Below it the search for a size has no end where its example alone is too long."""
_DATA_FAILURES = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    LookupError,
    ZeroDivisionError,
)


class Asked(NamedTuple):
    """Which tasks are wanted, and where their data are."""

    benchmark: str
    tasks: tuple[str, ...]
    lengths: tuple[int, ...]
    tokenizer: str
    data_dir: str | None
    seed: int


def comparable_tasks(benchmark: str, tasks: Sequence[str]) -> tuple[str, ...]:
    """Return the tasks that lm-eval has too: all but Math.Calc.

    Raises:
        UnknownNameError: There is no such task.
        ConfigError: None is left.
    """
    names = {
        "ruler": tuple(RULER_TASKS),
        "longbench-v2": (*LENGTHS, *LONGBENCH_TASKS.values()),
        "infinitebench": tuple(INFINITEBENCH_TASKS),
    }[benchmark]
    for task in tasks:
        if task not in names:
            raise unknown_name("benchmark.tasks", task, names)
    kept = [x for x in dict.fromkeys(tasks) if (benchmark, x) != ("infinitebench", "math_calc")]
    if not kept:
        raise ConfigError(
            "benchmark.tasks is math_calc, which lm-eval does not have; give other tasks or use "
            "benchmark.protocol=official"
        )
    return tuple(kept)


def their_names(benchmark: str, tasks: Sequence[str]) -> tuple[str, ...]:
    """Return lm-eval's names of our tasks; its own names stand for themselves.

    LongBench v2 has one task per sub-domain there; any of our length classes asks for all of them.
    """
    if benchmark == "longbench-v2":
        known = tuple(LONGBENCH_TASKS.values())
        return tuple(task for task in tasks if task in known) or known
    prefix = "" if benchmark == "ruler" else "infinitebench_"
    names = []
    for task in tasks:
        name = task.removeprefix("infinitebench_")
        names.append(prefix + _RULER.get(name, name.removesuffix("g") if "_eng" in name else name))
    return tuple(names)


def load_tasks(asked: Asked) -> Iterator[tuple[str, Any]]:
    """Yield our name and lm-eval's task object, one after another.

    lm-eval draws from the global random state; it is seeded for each task and put back, so that a
    task's questions do not depend on the others.

    Raises:
        ConfigError: A length is too short for the generator, or local data are wrong.
        PrerequisiteError: The data are neither generated nor to be loaded.
    """
    import lm_eval
    from lm_eval.tasks import TaskManager

    folder = Path(lm_eval.__file__).parent / "tasks" / _FOLDERS[asked.benchmark]
    metadata = {"max_seq_lengths": list(asked.lengths), "tokenizer": asked.tokenizer}
    manager = TaskManager(include_defaults=False, include_path=str(folder), metadata=metadata)
    names = their_names(asked.benchmark, asked.tasks)
    if asked.benchmark == "longbench-v2" and asked.data_dir is not None:
        names = tuple(name for name in names if name in _longbench_rows(asked.data_dir))
    ours = names if asked.benchmark == "longbench-v2" else asked.tasks
    for name, task in zip(ours, names, strict=True):
        with _quiet_and_seeded(asked.seed), _without_punkt(task):
            yield name, _load(manager, task, asked)


def _load(manager: Any, task: str, asked: Asked) -> Any:
    local = _local_dataset(task, asked)
    changed = {"custom_dataset": local, "dataset_kwargs": None, "test_split": "test"}
    # A group of one: that is where lm-eval lets a known task be changed.
    spec: Any = {"group": "local", "task": [{"task": task, **changed}]} if local else task
    try:
        return manager.load([spec])["tasks"][task]
    except _DATA_FAILURES as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise PrerequisiteError(
            f"lm-eval's task {task} does not load ({reason[:160]}); leave it out, "
            "give --data-dir where the benchmark has files, or use --protocol official"
        ) from None


def _local_dataset(task: str, asked: Asked) -> Callable[..., Any] | None:
    """Return what replaces lm-eval's download; None where the task makes its own data."""
    if asked.benchmark == "ruler" or asked.data_dir is None:
        return None
    if asked.benchmark == "longbench-v2":
        found = _longbench_rows(asked.data_dir)[task]
    else:
        found = _infinitebench_rows(task, asked.data_dir)

    def rows(**_: object) -> dict[str, Any]:
        from datasets import Dataset

        return {"test": Dataset.from_list(found)}

    return rows


@lru_cache(maxsize=1)
def _longbench_rows(data_dir: str) -> dict[str, list[dict[str, object]]]:
    """Return the rows of each task that has some.

    Raises:
        ConfigError: An item belongs to no task: its score would be lost.
    """
    found: dict[str, list[dict[str, object]]] = {}
    for item in load_items(data_dir):
        task = LONGBENCH_TASKS.get((item.domain, item.sub_domain))
        if task is None:
            raise ConfigError(
                f"item {item.id} of {data_file(data_dir)} has domain '{item.domain}' and "
                f"sub_domain '{item.sub_domain}', for which lm-eval has no task: use "
                "benchmark.protocol=official"
            )
        row: dict[str, object] = {
            "context": item.context,
            "question": item.question,
            "choices": list(item.choices),
            "answer": item.answer,
        }
        found.setdefault(task, []).append(row)
    return found


def _infinitebench_rows(task: str, data_dir: str) -> list[dict[str, object]]:
    bare = task.removeprefix("infinitebench_")
    name = f"{bare}g" if bare.endswith("_en") else bare
    return [
        {
            "id": place.line,
            "context": row.context,
            "input": row.input,
            "answer": [str(value) for value in row.answer],
            "options": list(row.options),
        }
        for place in infinitebench_rows(name, data_dir)
        for row in [read_row(place)]
    ]


def data_files(benchmark: str, tasks: Sequence[str], data_dir: str | None) -> tuple[Path, ...]:
    """Return the local files that these tasks are made from.

    Raises:
        ConfigError: One is missing.
    """
    if data_dir is None or benchmark == "ruler":
        return ()
    if benchmark == "longbench-v2":
        return (data_file(data_dir),)
    return tuple(task_file(task, data_dir) for task in tasks)


def check_lengths(tasks: Sequence[str], lengths: Sequence[int]) -> None:
    """Refuse lengths at which lm-eval's generator would not end.

    Raises:
        ConfigError: One is too short.
    """
    if "vt" in tasks and min(lengths) < _SHORTEST_VT:
        raise ConfigError(
            f"benchmark.context_lengths is {min(lengths)}; lm-eval's vt does not end below "
            f"{_SHORTEST_VT}: choose a larger length or leave vt out"
        )


def documents(task: Any, *, length: int | None, limit: int) -> list[int]:
    """Return the numbers of the first documents of a length; None takes any."""
    numbered = enumerate(task.eval_docs)
    wanted = (n for n, doc in numbered if length is None or doc.get("max_length") == length)
    return list(islice(wanted, limit))


@contextlib.contextmanager
def _quiet_and_seeded(seed: int) -> Iterator[None]:
    """Seed what lm-eval draws from, and keep its bars and hints off the screen."""
    import logging

    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - lm-eval's own source of randomness
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)  # noqa: NPY002
        logger.setLevel(level)


@contextlib.contextmanager
def _without_punkt(task: str) -> Iterator[None]:
    """Show nltk an empty folder where a task without essays would download a sentence splitter."""
    if not task.startswith(("niah", "ruler")):
        yield
        return
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
        yield
        return
    except LookupError:
        pass
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tokenizers" / "punkt_tab").mkdir(parents=True)
        nltk.data.path.append(folder)
        try:
            yield
        finally:
            nltk.data.path.remove(folder)


def choice_letters(likelihoods: str) -> list[tuple[float, bool]]:
    """Read the likelihoods of choices back from a stored completion."""
    return [(float(value), bool(greedy)) for value, greedy in json.loads(likelihoods)]
