"""A cell's imports: the right modules, and a garbage collector that works afterwards."""

import importlib.util
import json
import subprocess
import sys

import pytest

from longact_cli.config.compose import compose, parse
from longact_cli.execution.imports import modules_of
from longact_cli.plan import eval_cell, train_cell

STATE = """
import gc, json, os, sys
from longact_cli.config.compose import compose
from longact_cli.execution.imports import import_for
from longact_cli.plan import train_cell
import_for(train_cell(compose(()), lambda _: ""))
print(json.dumps({
    "enabled": gc.isenabled(), "frozen": gc.get_freeze_count(),
    "trl": "longact_cli.training.grpo" in sys.modules, "mlflow": "mlflow" in sys.modules,
}))
"""


def cell(*overrides, stage="train"):
    config = compose(parse(overrides))
    if stage == "train":
        return train_cell(config, lambda _: "")
    return eval_cell(config, lambda _: "", parent=None)


@pytest.mark.parametrize(
    ("planned", "last"),
    [
        (cell(), "longact_cli.training.grpo"),
        (cell("algorithm=sft"), "longact_cli.training.sft"),
        (cell(stage="eval"), "lm_eval.models.huggingface"),
    ],
)
def test_every_named_module_exists(planned, last):
    names = modules_of(planned)
    assert names[-1] == last
    assert [name for name in names if importlib.util.find_spec(name) is None] == []


def test_trl_is_left_alone_where_vllm_has_to_be_prepared_first():
    assert "longact_cli.training.grpo" not in modules_of(cell("algorithm.use_vllm=true"))


@pytest.mark.slow
def test_collection_goes_on_afterwards_and_leaves_out_what_was_imported():
    done = subprocess.run([sys.executable, "-c", STATE], check=True, capture_output=True, text=True)
    state = json.loads(done.stdout)
    assert state["enabled"]
    assert state["frozen"] > 100_000
    assert state["trl"]
    assert not state["mlflow"]
