"""A sweep as an ordered set of cells, each known by a digest of its science. Pure: no I/O."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from longact_cli.config.schema import MaskConfig, ModelConfig, RunConfig
from longact_cli.errors import ConfigError
from longact_cli.files import sha256_json
from longact_cli.results import Stage

SCHEMA_VERSION = 1
BASE_ARM = "base"
_MASK_DEFAULTS = MaskConfig(strategy="salient", sparsity=0.3).model_dump()
_SCIENCE_SECTIONS = ("model", "data", "algorithm", "mask", "benchmark", "parallel")
# Settings that change how a cell runs, never what it computes.
_NOT_SCIENCE = {"algorithm": {"checkpoint_every"}, "benchmark": {"batch_size", "base_url"}}

# Local files that decide what a train cell computes; the digest covers their content.
_INPUT_FILES = ("data.path", "mask.file", "mask.prompts_file")
# What supervised fine-tuning never reads.
_RL_ONLY = {
    "data": {"reward", "extra_rewards"},
    "algorithm": {
        *("loss_type", "importance_sampling_level", "scale_rewards", "clip_low", "clip_high"),
        *("kl_coef", "mask_truncated_completions", "covariance", "cov_ratio", "cov_low"),
        *("cov_high", "cov_kl_coef", "dynamic_sampling", "max_generation_batches"),
        *("overlong_cache", "force", "group_size", "updates_per_rollout", "temperature", "top_p"),
        *("use_vllm", "share_prompt_prefix", "prefix_attention", "whole_groups"),
        "micro_batch_tokens",
    },
}


class InputFile(NamedTuple):
    """A file or folder that a cell reads, and the key of the configuration that names it."""

    key: str
    path: str


Revision = Callable[[ModelConfig | InputFile], str]
"""What identifies the weights of a model, or the content of an input file."""


@dataclass(frozen=True)
class Cell:
    """One stage of one configuration: the unit that runs, resumes and is stored.

    Attributes:
        stage: `train`, or `eval` of the parent's checkpoint (of the untrained model without one).
        config: The whole configuration; the digest covers the part this stage depends on.
        model_revision: Hash or revision of the starting weights.
        parent: Digest of the train cell whose checkpoint is evaluated.
        digest: SHA-256 of the science, in hex.
        asked_by: Every reason the plan holds this cell: `sweep`, `control`, `base`.
        inputs: Each key that names a file which training reads, with the identity of its content.
    """

    stage: Stage
    config: RunConfig
    model_revision: str
    parent: str | None
    digest: str
    asked_by: tuple[str, ...]
    inputs: tuple[tuple[str, str], ...] = ()

    @property
    def arm(self) -> str:
        """What was trained: the mask strategy, or `base` for the untrained model."""
        trained = self.stage == "train" or self.parent is not None
        return canonical_mask(self.config.mask).strategy if trained else BASE_ARM

    @property
    def sparsity(self) -> float | None:
        """Fraction of query/key rows that were updated; None for the untrained model."""
        return None if self.arm == BASE_ARM else canonical_mask(self.config.mask).sparsity

    @property
    def label(self) -> str:
        """A short name for people, unique within most plans."""
        if self.arm == BASE_ARM:
            return f"{self.stage} {self.config.model.name} {BASE_ARM} {self.config.benchmark.name}"
        tail = f" {self.config.benchmark.name}" if self.stage == "eval" else ""
        return (
            f"{self.stage} {self.config.model.name} {self.config.algorithm.name} "
            f"{self.arm} {_amount(self.config.mask)} seed {self.config.seed}{tail}"
        )


@dataclass(frozen=True)
class Plan:
    """Cells in an order in which every parent comes before its children."""

    study: str
    cells: tuple[Cell, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over the study's name and its cells, in hex."""
        return sha256_json([self.study, [cell.digest for cell in self.cells]])


def _amount(mask: MaskConfig) -> str:
    mask = canonical_mask(mask)
    return f"{mask.sparsity:g}" if mask.mass is None else f"mass {mask.mass:g}"


def canonical_mask(mask: MaskConfig) -> MaskConfig:
    """Return the one spelling of a mask: all rows is `dense`, no rows is `frozen`.

    Settings without effect (statistic, site, schedule of a mask that never changes) fall back to
    their defaults, so that equal experiments are equal cells.
    """
    if mask.strategy == "dense" or (mask.sparsity == 1.0 and mask.mass is None and not mask.file):
        return MaskConfig(strategy="dense", sparsity=1.0)
    if mask.strategy == "frozen" or mask.sparsity == 0.0:
        kept = {"targets": mask.targets, "update_semantics": mask.update_semantics}
        return MaskConfig(strategy="frozen", sparsity=0.0).model_copy(update=kept)
    if mask.strategy == "file":
        kept = {name: getattr(mask, name) for name in ("targets", "update_semantics")}
        return MaskConfig(strategy="file", sparsity=1.0, file=mask.file).model_copy(update=kept)
    neutral = {name: _MASK_DEFAULTS[name] for name in _without_effect(mask)}
    return mask.model_copy(update=neutral)


def _without_effect(mask: MaskConfig) -> tuple[str, ...]:
    """Return the settings that this strategy never reads."""
    probe = ("prompts", "prompt_length", "prompts_file")
    activations = ("statistic", "site")
    if mask.strategy == "wanda":
        return activations
    if mask.strategy in ("gradient", "weight") or (mask.strategy == "random" and mask.mass is None):
        return (*activations, *probe)
    return () if mask.prompts in ("long", "short") else ("prompt_length",)


def train_cell(config: RunConfig, revision: Revision, *, asked_by: str = "sweep") -> Cell:
    """Return the cell that trains `config`."""
    config = config.model_copy(update={"mask": canonical_mask(config.mask)})
    model_revision = revision(config.model)
    science: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "stage": "train",
        "revision": model_revision,
        **_science(config, ("model", "data", "algorithm", "mask")),
        **_parallel_science(config),
        "seed": config.seed,
    }
    inputs = tuple((file.key, revision(file)) for file in input_files(config))
    for key, content in inputs:
        section, name = key.split(".")
        science[section][name] = content
    digest = sha256_json(science)
    return Cell("train", config, model_revision, None, digest, (asked_by,), inputs)


def input_files(config: RunConfig) -> tuple[InputFile, ...]:
    """Return the files that training with this configuration reads."""
    flat = flat_config(config)
    return tuple(InputFile(key, str(flat[key])) for key in _INPUT_FILES if flat[key] is not None)


def eval_cell(
    config: RunConfig, revision: Revision, *, parent: Cell | None, asked_by: str = "sweep"
) -> Cell:
    """Return the cell that scores the parent's checkpoint, or the untrained model without one."""
    model_revision = revision(config.model)
    start = {"parent": parent.digest} if parent else {"revision": model_revision}
    if parent is None:
        start |= _science(config, ("model",))
    else:
        config = parent.config.model_copy(update={"benchmark": config.benchmark})
    science = {
        "schema": SCHEMA_VERSION,
        "stage": "eval",
        **start,
        **_science(config, ("benchmark",)),
    }
    parent_digest = parent.digest if parent else None
    return Cell("eval", config, model_revision, parent_digest, sha256_json(science), (asked_by,))


def _science(config: RunConfig, sections: Sequence[str]) -> dict[str, Any]:
    return {
        name: getattr(config, name).model_dump(mode="json", exclude=_left_out(config, name))
        for name in sections
    }


def science_keys(cell: Cell) -> frozenset[str]:
    """Return the dotted settings that the cell's digest covers, those of its training included."""
    sections: tuple[str, ...] = ("model", "benchmark")
    if cell.arm != BASE_ARM:
        sections = ("model", "data", "algorithm", "mask", *sections[1 : 1 + (cell.stage == "eval")])
    keys = set(flatten(_science(cell.config, sections) | _parallel_science(cell.config)))
    return frozenset(keys | ({"seed"} if cell.arm != BASE_ARM else set()))


def _parallel_science(config: RunConfig) -> dict[str, Any]:
    """Return the part of `parallel` that a result depends on; nothing for one process.

    The effective batch is the same for any number of processes, but each draws its own rollouts
    and sums in its own order: the bytes of the result, and its checkpoints, are of that number.
    """
    if config.parallel.processes == 1:
        return {}
    return {"parallel": config.parallel.model_dump(mode="json")}


def _left_out(config: RunConfig, section: str) -> set[str]:
    """Return the keys without effect on a result; data are known by their hash, if it is there."""
    left_out = _NOT_SCIENCE.get(section, set())
    if config.algorithm.kind == "sft":
        left_out = left_out | _RL_ONLY.get(section, set())
    elif section == "algorithm":
        # Only one of the two is read.
        fills = config.algorithm.fills_tokens
        left_out = left_out | {"micro_batch_size" if fills else "micro_batch_tokens"}
        if config.algorithm.prefix_attention == "sdpa":
            # Cells from before there was another way keep their digests.
            left_out = left_out | {"prefix_attention"}
    if section == "benchmark" and config.benchmark.data_sha256 is not None:
        left_out = left_out | {"data_dir"}
    return left_out


def build_plan(study: str, cells: Iterable[Cell]) -> Plan:
    """Merge equal cells, keeping every reason that asked for them, parents first.

    Raises:
        ConfigError: There is no cell.
    """
    merged: dict[str, Cell] = {}
    for cell in cells:
        known = merged.get(cell.digest)
        reasons = (*known.asked_by, *cell.asked_by) if known else cell.asked_by
        merged[cell.digest] = replace(known or cell, asked_by=tuple(dict.fromkeys(reasons)))
    if not merged:
        raise ConfigError(
            "the sweep is empty: no combination of the given values is left; "
            "give at least one value for every option"
        )
    ordered = sorted(merged.values(), key=lambda cell: cell.stage != "train")
    return Plan(study, tuple(ordered))


def differing_keys(left: RunConfig, right: RunConfig) -> tuple[str, ...]:
    """Return the keys at which two configurations differ, e.g. `algorithm.steps: 40 -> 60`."""
    a, b = flatten(left.model_dump(mode="json")), flatten(right.model_dump(mode="json"))
    return tuple(
        f"{key}: {a.get(key)} -> {b.get(key)}" for key in sorted(a | b) if a.get(key) != b.get(key)
    )


class Named(NamedTuple):
    """A cell by what tells it from others: its name, and its settings as dotted keys."""

    digest: str
    label: str
    arm: str
    settings: Mapping[str, object]


def distinct_labels(cells: Iterable[Named]) -> dict[str, str]:
    """Return a name for each digest; cells of one name get the settings in which they differ."""
    alike: dict[str, list[Named]] = {}
    for cell in cells:
        alike.setdefault(cell.label, []).append(cell)
    found: dict[str, str] = {}
    for label, group in alike.items():
        keys = _telling_keys(group) if len(group) > 1 else []
        for cell in group:
            settings = [f"{key}={_shown(cell.settings.get(key))}" for key in keys]
            found[cell.digest] = " ".join([label, *settings])
    return found


def _telling_keys(cells: Sequence[Named]) -> list[str]:
    """Return settings by which these cells differ, without those that tell nothing more."""
    kept: list[str] = []
    parts = 1
    for key in cells[0].settings:
        if not _tells_apart(key, cells):
            continue
        found = len({tuple(str(cell.settings.get(k)) for k in (*kept, key)) for cell in cells})
        if found > parts:
            kept, parts = [*kept, key], found
    return kept


def _tells_apart(key: str, cells: Sequence[Named]) -> bool:
    section, _, name = key.partition(".")
    only = ("model", "benchmark") if cells[0].arm == BASE_ARM else _SCIENCE_SECTIONS
    if section not in only or name in _NOT_SCIENCE.get(section, ()):
        return False
    return any(cell.settings.get(key) != cells[0].settings.get(key) for cell in cells)


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"[{value}]" if isinstance(value, str) and "," in value else str(value)


def plan_labels(plan: Plan) -> dict[str, str]:
    """Return a name for each cell of a plan that no other cell of it has."""
    return distinct_labels(
        Named(cell.digest, cell.label, cell.arm, flat_config(cell.config)) for cell in plan.cells
    )


def flat_config(config: RunConfig) -> dict[str, str | int | float | bool | None]:
    """Return the configuration as one level of dotted keys; lists become comma lists."""
    return flatten(config.model_dump(mode="json"))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one level of dotted keys; lists become comma lists."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = ",".join(map(str, value)) if isinstance(value, list) else value
    return flat
