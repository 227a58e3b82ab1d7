"""Score one stored prediction: what each benchmark expects in a row, and which rule applies."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from longact_cli.evaluation.benchmark import SampleScore
from longact_cli.evaluation.infinitebench import score as infinitebench
from longact_cli.evaluation.infinitebench.labels import first_text
from longact_cli.evaluation.longbench_v2 import score as longbench
from longact_cli.evaluation.ruler.score import (
    SCORER_VERSION,
    clean_completion,
    string_match_all,
    string_match_any,
)
from longact_cli.registry import unknown_name

Row = Mapping[str, object]

_PREDICTION = ("prediction", "pred")
_RESPONSE = ("response", "prediction")  # `pred` is the extracted letter in the official files
_OUTPUTS = ("outputs", "refs")
_REFERENCE = ("reference", "ground_truth", "label")

_RULER_FAMILIES: dict[str, Callable[[str, Sequence[str]], float]] = {
    **dict.fromkeys(("niah", "vt", "variable_tracking", "cwe", "fwe"), string_match_all),
    **dict.fromkeys(("common_words_extraction", "freq_words_extraction"), string_match_all),
    "qa": string_match_any,
}


class RowScore(NamedTuple):
    """What came out of one row; `score` is None where there is no prediction: a failed sample."""

    task: str
    context_length: int | None
    score: float | None
    parsed: str | None
    empty: bool
    labels: tuple[tuple[str, str], ...] = ()
    """What aggregates group by, e.g. `(("difficulty", "hard"),)`."""
    note: str | None = None
    """A trap that this row walked into; equal notes are counted together."""


class Rules(NamedTuple):
    """How the rows of one benchmark are scored under one scorer."""

    version: str
    score: Callable[[Row], RowScore]


def find_rules(benchmark: str, scorer: str | None) -> Rules:
    """Return the rules of a benchmark; without `scorer` those of its published numbers.

    Raises:
        UnknownNameError: There is no such benchmark or scorer.
    """
    makers: dict[str, tuple[Sequence[str], Callable[[str], Rules]]] = {
        "ruler": (("official",), _ruler_rules),
        "longbench-v2": (longbench.SCORERS, _longbench_rules),
        "infinitebench": (infinitebench.SCORERS, _infinitebench_rules),
    }
    if benchmark not in makers:
        raise unknown_name("--bench", benchmark, makers)
    names, make = makers[benchmark]
    if scorer is not None and scorer not in names:
        raise unknown_name("--scorer", scorer, names)
    return make(scorer or names[0])


def _ruler_rules(_: str) -> Rules:
    return Rules(SCORER_VERSION, _score_ruler)


def _longbench_rules(name: str) -> Rules:
    scorer: longbench.Scorer = "compensated" if name == "compensated" else "official"
    suffix = "" if scorer == "official" else f"-{scorer}"
    return Rules(longbench.SCORER_VERSION + suffix, lambda row: _score_longbench(row, scorer))


def _infinitebench_rules(name: str) -> Rules:
    scorer: infinitebench.Scorer = "2024-08" if name == "2024-08" else "2024-06"
    return Rules(f"infinitebench-{scorer}", lambda row: _score_infinitebench(row, scorer))


def _score_ruler(row: Row) -> RowScore:
    task = _text(row, "task")
    family = next((name for name in _RULER_FAMILIES if _is_family(task, name)), None)
    if family is None:
        raise unknown_name("task", task, _RULER_FAMILIES)
    references = _references(row)
    length = row.get("context_length")
    scored = RowScore(task, length if isinstance(length, int) else None, None, None, empty=False)
    prediction = _prediction(row, _PREDICTION)
    if prediction is None:
        return scored
    text = clean_completion(prediction)
    found = [reference for reference in references if reference.lower() in text.lower()]
    score = _RULER_FAMILIES[family](prediction, references)
    return scored._replace(score=score, parsed=", ".join(found) or None, empty=not text)


def _is_family(task: str, family: str) -> bool:
    bare = task.removeprefix("ruler_").removeprefix("ruler/")
    return bare == family or bare.startswith(f"{family}_")


def _references(row: Row) -> tuple[str, ...]:
    value = _first_present(row, _OUTPUTS)
    values = value if isinstance(value, list) else [value]
    if not values or value is None:
        raise ValueError("outputs is missing or empty; it must be a list of texts")
    return tuple(first_text(item) for item in values)


def _score_longbench(row: Row, scorer: longbench.Scorer) -> RowScore:
    answer = _one_of(row, "answer", longbench.LETTERS)
    length = _one_of(row, "length", longbench.LENGTHS)
    labels = [("difficulty", _one_of(row, "difficulty", longbench.DIFFICULTIES))]
    labels.append(("length", length))
    if isinstance(row.get("domain"), str):
        labels.append(("domain", _text(row, "domain")))
    scored = RowScore(length, None, None, None, empty=False, labels=tuple(labels))
    response = _prediction(row, _RESPONSE)
    if response is None:
        return scored
    parsed = longbench.extract_answer(response.strip())
    score = longbench.score_answer(parsed, answer, scorer=scorer)
    return scored._replace(score=score, parsed=parsed, empty=not response.strip())


def _score_infinitebench(row: Row, scorer: infinitebench.Scorer) -> RowScore:
    task, model = _text(row, "task"), str(row.get("model") or "")
    if task not in infinitebench.METRICS:
        raise unknown_name("task", task, infinitebench.METRICS)
    label = _first_present(row, _REFERENCE)
    if label is None:
        raise ValueError("reference is missing")
    prediction = _prediction(row, _PREDICTION)
    verdict = infinitebench.score_completion(
        task, prediction or "", label, scorer=scorer, model=model
    )
    if prediction is None:
        verdict = SampleScore(0.0, None)  # scored only to check the label
    list_for_kv = task == "kv_retrieval" and scorer == "2024-06" and isinstance(label, list)
    note = "kv_retrieval: scorer 2024-06 never matches a list as label; 2024-08 does"
    return RowScore(
        task,
        None,
        None if prediction is None else verdict.score,
        verdict.parsed,
        empty=prediction is not None and not prediction.strip(),
        labels=(("model", model),) if model else (),
        note=note if list_for_kv else None,
    )


def _prediction(row: Row, keys: Sequence[str]) -> str | None:
    """Return the stored text; None where it is missing or null.

    Raises:
        ValueError: It is neither text nor null.
    """
    value = _first_present(row, keys)
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{keys[0]} is {type(value).__name__}; it must be a text or null")


def _first_present(row: Row, keys: Sequence[str]) -> object:
    return next((row[key] for key in keys if key in row), None)


def _text(row: Row, key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{key} is missing or no text")
    return value


def _one_of(row: Row, key: str, allowed: Sequence[str]) -> str:
    value = _text(row, key)
    if value not in allowed:
        raise ValueError(f"{key} is '{value}'; it must be one of: {', '.join(allowed)}")
    return value
