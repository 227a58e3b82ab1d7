"""Import what a cell is about to need, in about half the usual time.

The garbage collector walks through everything that exists each time enough has been added: with
torch, transformers and TRL that is a third of the import. It rests meanwhile, and leaves what was
imported alone afterwards, in each of its later rounds.
"""

import gc
import importlib
import os
from contextlib import suppress

from longact_cli.plan import Cell

_TRAINING = ("longact_cli.training.stopping", "longact_cli.training.train")
_EVALUATION = (
    "longact_cli.evaluation.evaluate",
    "longact_cli.evaluation.answers",
    "longact_cli.evaluation.task",
    "lm_eval.evaluator",
)


def import_for(cell: Cell) -> None:
    """Import the modules of a cell's stage; what is missing is left to who needs it."""
    # Cells write to a journal, not to MLflow: TRL would import it for nothing (0.8 s).
    os.environ.setdefault("DISABLE_MLFLOW_INTEGRATION", "TRUE")
    gc.disable()
    try:
        for module in modules_of(cell):
            with suppress(ImportError):
                importlib.import_module(module)
    finally:
        gc.freeze()
        gc.enable()


def modules_of(cell: Cell) -> tuple[str, ...]:
    """Return the modules that the stage of this cell imports in any case."""
    if cell.stage == "eval":
        local = cell.config.benchmark.backend == "hf"
        return (*_EVALUATION, "lm_eval.models.huggingface") if local else _EVALUATION
    algorithm = cell.config.algorithm
    if algorithm.kind == "sft":
        return (*_TRAINING, "longact_cli.training.sft")
    # vLLM comes with TRL, and has to be prepared before.
    return _TRAINING if algorithm.use_vllm else (*_TRAINING, "longact_cli.training.grpo")
