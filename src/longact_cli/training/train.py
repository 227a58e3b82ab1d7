"""Train one cell: checkpoint, prompts, algorithm and mask in, a plain Hugging Face model out."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from longact_cli.config.algorithm import AlgorithmConfig
from longact_cli.config.schema import MaskConfig, RunConfig
from longact_cli.errors import ConfigError
from longact_cli.files import read_lines
from longact_cli.masking.schedule import MaskSchedule, MaskSettings
from longact_cli.models.loading import (
    context_window,
    load_model,
    load_tokenizer,
    local_checkpoint,
)
from longact_cli.results import MetricPoint
from longact_cli.training.algorithms import describe_parts
from longact_cli.training.callbacks import (
    MASK_FILE,
    PROMPTS_FILE,
    JournalCallback,
    Progress,
    ProgressCallback,
    PromptsCallback,
    read_position,
    rewind,
)
from longact_cli.training.checkpoint_pickles import without_code
from longact_cli.training.checkpoints import (
    MarkerCallback,
    checkpoint_step,
    discard_newer,
    latest_checkpoint,
)
from longact_cli.training.context_lengths import check_context_lengths
from longact_cli.training.data import (
    GeneratedPrompts,
    PromptMixture,
    PromptSource,
    prompts_sha256,
)
from longact_cli.training.dynamic_sampling import RefillPrompts
from longact_cli.training.probe_prompts import probe_prompts
from longact_cli.training.saving import save_model, whole_weights
from longact_cli.training.stopping import StopCallback, refuse_if_stopped
from longact_cli.training.stored import StoredPrompts
from longact_cli.training.trainers import TrainerParts, build_grpo, build_sft

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

_LOG = logging.getLogger(__name__)
_FINAL_STEPS = 10


class TrainResult(NamedTuple):
    """What a training run came to.

    Attributes:
        steps: Optimizer steps in all, those before a resume included.
        final_reward: Mean summed reward over the last 10 steps; None where none was logged.
        seconds: Time spent in optimizer steps, those before a resume included.
        tokens: Prompt and completion tokens of all rollouts.
        data_sha256: Hash over the run's first prompts (64 at most), in order.
    """

    steps: int
    final_reward: float | None
    seconds: float
    tokens: int
    data_sha256: str


def train_cell(config: RunConfig, *, out: Path, progress: Progress | None = None) -> TrainResult:
    """Train, or go on training, the cell in `out`, in this process alone.

    Writes `metrics.jsonl`, `completions/`, `checkpoints/` and, last and in one step, `model/`.
    Continues from the newest whole checkpoint; a run cut off at any point ends with the weights of
    an uninterrupted one.

    Args:
        config: The cell.
        out: Its directory.
        progress: Called as `(done, total)` after every optimizer step.

    Raises:
        ConfigError: A setting does not fit the model, e.g. prompts beyond its window.
        CellStoppedError: It was asked to stop before its last step.
    """
    start = StartPoint.of(config, out)
    return train_share(config, out=out, start=start, progress=progress)


class StartPoint(NamedTuple):
    """What has to be decided once for all processes of a cell.

    Attributes:
        checkpoint: Local folder of the starting weights.
        resume: The checkpoint to continue from; None at the beginning.
    """

    checkpoint: str
    resume: Path | None

    @classmethod
    def of(cls, config: RunConfig, out: Path) -> "StartPoint":
        """Find the starting weights and the newest whole checkpoint; drop what lies after it.

        Raises:
            ConfigError: The prompts fit neither the model's window nor their lengths.
            PrerequisiteError: The starting weights cannot be had.
        """
        checkpoint = local_checkpoint(config.model)
        window = prompt_room(config, checkpoint) + config.algorithm.max_completion_tokens
        check_context_lengths(config, checkpoint=Path(checkpoint), window=window)
        resume = latest_checkpoint(out / "checkpoints")
        discard_newer(out / "checkpoints", resume)
        rewind(out / "metrics.jsonl", 0 if resume is None else checkpoint_step(resume))
        return cls(checkpoint, resume)


def train_share(
    config: RunConfig, *, out: Path, start: StartPoint, progress: Progress | None = None
) -> TrainResult:
    """Do this process's share of training a cell; all processes of the cell call it.

    Args:
        config: The cell.
        out: Its directory; the first process alone writes what is not its own state.
        start: Where to begin, the same for all.
        progress: Called as `(done, total)` after every optimizer step.

    Raises:
        ConfigError: A setting does not fit the model, or another number of processes was started.
        CellFailedError: The checkpoint holds more than numbers.
    """
    _check_processes(config.parallel.processes)
    checkpoint, resume = start
    tokenizer = load_tokenizer(checkpoint, trust_remote_code=config.model.trust_remote_code)
    max_prompt_tokens = prompt_room(config, checkpoint)
    model = load_model(checkpoint, model=config.model)
    schedule = MaskSchedule(
        model,
        mask_settings(config.mask, seed=config.seed),
        probe_prompts(config, tokenizer=tokenizer, max_prompt_tokens=max_prompt_tokens),
    )
    if resume is not None and (resume / MASK_FILE).exists():
        schedule.restore(resume / MASK_FILE)
    _LOG.info(describe_parts(config.algorithm))
    prompts = prompt_source(config, tokenizer=tokenizer, max_prompt_tokens=max_prompt_tokens)
    refill = refill_prompts(prompts, config.algorithm)
    if resume is not None:
        refill.position = read_position(resume / PROMPTS_FILE)
    trainer = build_trainer(
        config, model=model, tokenizer=tokenizer, schedule=schedule, refill=refill, out=out
    )
    if progress is not None:
        trainer.add_callback(ProgressCallback(progress))
    with without_code(resume):
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    refuse_if_stopped(out, step=trainer.state.global_step, steps=config.algorithm.steps)
    weights = whole_weights(trainer)
    if trainer.is_world_process_zero():
        save_model(model, tokenizer, out / "model", weights=weights)
    trainer.accelerator.wait_for_everyone()
    return _summary(out / "metrics.jsonl", data_sha256=prompts_sha256(prompts, refill.start))


def mask_settings(mask: MaskConfig, *, seed: int) -> MaskSettings:
    """Return the mask section of a configuration as the masking package takes it."""
    return MaskSettings(
        strategy=mask.strategy,
        update_ratio=mask.sparsity,
        site=mask.site,
        targets=mask.targets,
        refresh_every=mask.refresh_every,
        seed=seed,
        statistic=mask.statistic,
        scope=mask.scope,
        mass=mask.mass,
        update_semantics=mask.update_semantics,
        prompts=mask.prompts,
        file=mask.file,
    )


def prompt_source(
    config: RunConfig, *, tokenizer: "PreTrainedTokenizerBase", max_prompt_tokens: int
) -> PromptSource:
    """Return the prompts of a cell.

    Raises:
        ConfigError: The dataset cannot be read, or holds no prompt that fits.
    """
    data = config.data
    if data.path is not None:
        stored = StoredPrompts(
            data.path,
            split=data.split,
            tokenizer=tokenizer,
            chat_template=data.chat_template,
            seed=config.seed,
            max_prompt_tokens=max_prompt_tokens,
        )
        if stored.left_out:
            _LOG.warning("%d prompts are longer than %d", stored.left_out, max_prompt_tokens)
        return stored
    mixture = PromptMixture(
        tasks=data.tasks,
        context_lengths=data.context_lengths,
        chat_template=data.chat_template,
        seed=config.seed,
        max_prompt_tokens=max_prompt_tokens,
        curriculum_prompts=data.curriculum_prompts,
    )
    return GeneratedPrompts(mixture, tokenizer=tokenizer)


def refill_prompts(source: PromptSource, algorithm: AlgorithmConfig) -> RefillPrompts:
    """Return the prompts of dynamic sampling: those after the prompts of all regular steps."""
    return RefillPrompts(source, start=algorithm.steps * algorithm.prompts_per_step)


def build_trainer(
    config: RunConfig,
    *,
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    schedule: MaskSchedule,
    refill: RefillPrompts,
    out: Path,
) -> "Trainer":
    """Return the trainer of a cell, ready to run.

    Args:
        config: The cell.
        model: Its policy, float32.
        tokenizer: The policy's tokenizer.
        schedule: The masks of `model`.
        refill: Where its prompts come from, those of dynamic sampling included.
        out: The cell's directory.

    Raises:
        UnknownNameError: There is no such reward.
    """
    parts = TrainerParts(
        config=config,
        model=model,
        tokenizer=tokenizer,
        schedule=schedule,
        refill=refill,
        eos_token_ids=_end_tokens(model, tokenizer),
        out=out,
        callbacks=(
            JournalCallback(out / "metrics.jsonl"),
            PromptsCallback(refill),
            StopCallback(out, every=config.algorithm.updates_per_rollout),
            MarkerCallback(),
        ),
    )
    return build_sft(parts) if config.algorithm.kind == "sft" else build_grpo(parts)


def prompt_room(config: RunConfig, checkpoint: str) -> int:
    """Return the room the window leaves for a prompt.

    Raises:
        ConfigError: Completions alone fill it, or a context length is beyond it.
    """
    window = config.model.max_context or context_window(checkpoint)
    room = window - config.algorithm.max_completion_tokens
    if room < 1 or max(config.data.context_lengths) > window:
        raise ConfigError(
            f"data.context_lengths is {list(config.data.context_lengths)} and "
            f"algorithm.max_completion_tokens is {config.algorithm.max_completion_tokens}; the "
            f"model's window is {window} tokens: choose context lengths and completions up to it"
        )
    return room


def _check_processes(wanted: int) -> None:
    """Refuse a launcher's number of processes where the configuration has another one.

    Raises:
        ConfigError: They differ.
    """
    started = os.environ.get("WORLD_SIZE", "1")
    if started != str(wanted):
        raise ConfigError(
            f"WORLD_SIZE is {started} and parallel.processes is {wanted}; set "
            f"parallel.processes={started} and start longact without torchrun or accelerate "
            "launch: a cell starts its processes itself"
        )


def _end_tokens(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> Sequence[int]:
    """Return every token that ends a completion, as the trainer sees them."""
    declared = getattr(model.generation_config, "eos_token_id", None)
    ids = [declared] if isinstance(declared, int) else list(declared or ())
    return tuple(dict.fromkeys([tokenizer.eos_token_id, *ids]))


def _summary(metrics: Path, *, data_sha256: str) -> TrainResult:
    points = [MetricPoint(**row) for row in read_lines(metrics)]
    steps = max((point.step for point in points), default=0)
    rewards = [p.value for p in points if p.name == "reward" and p.step > steps - _FINAL_STEPS]
    tokens = [point.value for point in points if point.name == "num_tokens"]
    return TrainResult(
        steps=steps,
        final_reward=sum(rewards) / len(rewards) if rewards else None,
        seconds=sum(point.value for point in points if point.name == "step_seconds"),
        tokens=int(max(tokens, default=0)),
        data_sha256=data_sha256,
    )
