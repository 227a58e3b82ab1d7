"""Made-up LongBench v2 and InfiniteBench files of the official sizes."""

import json
from pathlib import Path

from longact_cli.evaluation.infinitebench.tasks import TASKS

SIZES = {"short": 180, "medium": 215, "long": 108}

INPUTS = {
    "passkey": ("What is the pass key?", ["71432"]),
    "number_string": ("What is the sequence?", ["2200"]),
    "kv_retrieval": ("Key: 'k'", ["v-1"]),
    "longdialogue_qa_eng": ("", ["ACE", "ACE ROTHSTEIN"]),
    "longbook_sum_eng": ("", ["a summary"]),
    "longbook_choice_eng": ("Who?", ["two"]),
    "longbook_qa_eng": ("Who?", ["Bob", "Bobby"]),
    "longbook_qa_chn": ("谁", ["小明"]),
    "math_find": ("The largest number of the list is:", [88]),
    "math_calc": ("", [[1, 4, 8]]),
    "code_run": ("Give me the value of func_1(-3).", [-12]),
    "code_debug": ("", ["two"]),
}


def longbench_item(number: int, length: str = "short") -> dict[str, str]:
    return {
        "_id": f"id{number}",
        "domain": "Code" if number % 2 else "Novel",
        "sub_domain": "x",
        "difficulty": "easy" if number % 3 else "hard",
        "length": length,
        "question": f"Question {number}?",
        "choice_A": "one",
        "choice_B": "two",
        "choice_C": "three",
        "choice_D": "four",
        "answer": "ABCD"[number % 4],
        "context": f"Document {number}. " + "word " * 50,
    }


def longbench_items() -> list[dict[str, str]]:
    lengths = [length for length, count in SIZES.items() for _ in range(count)]
    return [longbench_item(number, length) for number, length in enumerate(lengths)]


def write_longbench(folder: Path, items: list[dict[str, str]] | None = None) -> Path:
    path = folder / "data.json"
    path.write_text(json.dumps(longbench_items() if items is None else items), encoding="utf-8")
    return path


def infinitebench_row(task: str, number: int) -> dict[str, object]:
    question, answer = INPUTS[task]
    options = ["one", "two", "three", "four"] if task.endswith(("choice_eng", "debug")) else []
    context = f"Text {number}. " + "word " * 50
    return {
        "id": number,
        "context": context,
        "input": question,
        "answer": answer,
        "options": options,
    }


def write_infinitebench(folder: Path, task: str) -> Path:
    path = folder / f"{task}.jsonl"
    rows = (infinitebench_row(task, number) for number in range(TASKS[task].samples))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
