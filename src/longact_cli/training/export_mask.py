"""Take a mask from a model without training it, for other trainers."""

from pathlib import Path

from longact_cli.config.schema import RunConfig
from longact_cli.errors import ConfigError
from longact_cli.masking.mask_file import SavedMask, load_mask, save_mask
from longact_cli.masking.schedule import MaskSchedule
from longact_cli.models.loading import (
    checkpoint_sha256,
    load_model,
    load_tokenizer,
    local_checkpoint,
)
from longact_cli.training.probe_prompts import encode, probe_prompts, step_prompts
from longact_cli.training.train import mask_settings, prompt_room, prompt_source


def export_mask(config: RunConfig, out: Path) -> SavedMask:
    """Write the mask that the first training step of `config` would use, and return it.

    Raises:
        ConfigError: The strategy ranks gradients, which only training has.
    """
    if config.mask.strategy == "gradient":
        raise ConfigError(
            "mask.strategy is 'gradient'; there is no gradient without training: take "
            "mask.safetensors from a checkpoint of a run, or choose another strategy"
        )
    checkpoint = local_checkpoint(config.model)
    tokenizer = load_tokenizer(checkpoint, trust_remote_code=config.model.trust_remote_code)
    room = prompt_room(config, checkpoint)
    model = load_model(checkpoint, model=config.model)
    schedule = MaskSchedule(
        model,
        mask_settings(config.mask, seed=config.seed),
        probe_prompts(config, tokenizer=tokenizer, max_prompt_tokens=room),
    )
    source = prompt_source(config, tokenizer=tokenizer, max_prompt_tokens=room)
    prompts = step_prompts(source, config.algorithm.prompts_per_step, first=0)
    schedule.observe(0, *encode(prompts, tokenizer))
    schedule.arm(0)
    mask, manifest = schedule.row_mask.mask, schedule.manifest()
    schedule.stop()
    assert mask is not None  # arm has set it
    known = manifest._replace(model=config.model.name, model_revision=checkpoint_sha256(checkpoint))
    save_mask(out, mask, known)
    return load_mask(out)
