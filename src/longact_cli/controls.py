"""A sweep's plan: every asked cell, the controls that isolate its cause, and the untrained base."""

from collections.abc import Iterator, Sequence

from longact_cli.config.schema import MaskConfig, RunConfig
from longact_cli.plan import Cell, Plan, Revision, build_plan, eval_cell, train_cell


def plan_sweep(
    study: str, configs: Sequence[RunConfig], *, revision: Revision, controls: bool
) -> Plan:
    """Return the plan of a sweep.

    Each configuration becomes a train cell and an eval cell. With `controls`, every masked
    configuration brings a random mask at the same sparsity and the dense update. The untrained
    model is always scored, once per model and benchmark.
    """
    cells: list[Cell] = []
    for config in configs:
        cells += _pair(config, revision, "sweep")
        cells.append(eval_cell(config, revision, parent=None, asked_by="base"))
        if controls:
            for control in control_masks(config.mask):
                cells += _pair(config.model_copy(update={"mask": control}), revision, "control")
    return build_plan(study, cells)


def _pair(config: RunConfig, revision: Revision, reason: str) -> Iterator[Cell]:
    trained = train_cell(config, revision, asked_by=reason)
    yield trained
    yield eval_cell(config, revision, parent=trained, asked_by=reason)


def control_masks(mask: MaskConfig) -> tuple[MaskConfig, ...]:
    """Return the masks a masked run is compared with: random at its sparsity, and dense.

    How many rows a saved mask updates is known when it is read: it has the dense control only.
    """
    if mask.strategy in ("dense", "frozen"):
        return ()
    dense = mask.model_copy(update={"strategy": "dense", "sparsity": 1.0})
    if mask.strategy == "file":
        return (dense,)
    random = mask.model_copy(update={"strategy": "random"})
    return (random, dense)


def plan_train(study: str, config: RunConfig, *, revision: Revision) -> Plan:
    """Return the plan that trains one configuration."""
    return build_plan(study, [train_cell(config, revision)])


def plan_eval(study: str, configs: Sequence[RunConfig], *, revision: Revision) -> Plan:
    """Return the plan that scores one model on one or more benchmarks."""
    return build_plan(study, [eval_cell(config, revision, parent=None) for config in configs])
