"""Fixtures of the evaluation tests."""

import json
from pathlib import Path
from random import Random

import pytest
from transformers import AutoTokenizer

from longact_cli.evaluation.ruler.generator import RulerSource


@pytest.fixture(scope="session")
def tokenizer(tiny_checkpoint: Path):
    return AutoTokenizer.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny made-up corpus in the layout of the official files."""
    folder, rng = tmp_path_factory.mktemp("corpus"), Random(0)

    def sentence() -> str:
        words = [rng.choice(["ba", "do", "ki", "lu", "mo"]) * rng.randint(1, 2) for _ in range(6)]
        return " ".join(words).capitalize() + rng.choice([".", "?", '."'])

    essay = "\n\n".join(" ".join(sentence() for _ in range(4)) for _ in range(40))
    (folder / "PaulGrahamEssays.json").write_text(json.dumps({"text": essay}), "utf-8")
    paragraphs = [
        [
            {
                "context": f"A{article}P{number}. {sentence()}",
                "qas": [
                    {
                        "question": f"Which one is {article}.{number}?",
                        "answers": [{"text": f"A{article}P{number}"}, {"text": "that one"}],
                        "is_impossible": False,
                    },
                    {"question": "What is not here?", "answers": [], "is_impossible": True},
                ],
            }
            for number in range(3)
        ]
        for article in range(12)
    ]
    squad = {"data": [{"title": "t", "paragraphs": part} for part in paragraphs]}
    (folder / "squad.json").write_text(json.dumps(squad), "utf-8")
    hotpotqa = [
        {
            "question": f"Who is {row}?",
            "answer": f"name {row}",
            "context": [[f"Title {row}-{part}", ["One. ", "Two."]] for part in range(10)],
        }
        for row in range(20)
    ]
    (folder / "hotpotqa.json").write_text(json.dumps(hotpotqa), "utf-8")
    return folder


@pytest.fixture(scope="session")
def source(tokenizer, data_dir: Path) -> RulerSource:
    return RulerSource(tokenizer, seed=0, split="eval", data_dir=str(data_dir))
