"""Supervised fine-tuning on reference answers, with the row mask of the RL runs.

The prompts are those of the RL runs, step by step, so that the only difference is the loss.
"""

from collections.abc import Mapping
from typing import Any

from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback
from trl import SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from longact_cli.masking.schedule import MaskSchedule
from longact_cli.training.masked import StepMask, fit_to_sharding

_IGNORED = -100


class LongActSFTTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's SFT trainer that takes each step's mask from that step's prompts."""

    def __init__(self, model: PreTrainedModel, schedule: MaskSchedule, **arguments: Any) -> None:
        """Create the trainer.

        Args:
            model: The model, float32.
            schedule: Masks of this model.
            arguments: Passed on to TRL; its callbacks run after the mask's own.

        Raises:
            ConfigError: The model is sharded in a way in which the mask cannot act.
        """
        self._schedule = schedule
        self._step_mask = StepMask(schedule)
        arguments["callbacks"] = [self._step_mask.callback, *arguments.get("callbacks", ())]
        tokenizer = arguments["processing_class"]
        super().__init__(
            model=model,
            data_collator=DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id),
            **arguments,
        )
        self.remove_callback(PrinterCallback)
        fit_to_sharding(self)

    def compute_loss(
        self,
        model: Any,
        inputs: Mapping[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """Probe this micro-batch's prompts, arm the mask in the last one, compute the loss."""
        prompt = inputs["attention_mask"] * (inputs["labels"] == _IGNORED)
        with self._step_mask.around(self, inputs["input_ids"], prompt):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log what the mask did beside the trainer's own metrics."""
        super().log(self._step_mask.logs(logs), start_time)

    def create_model_card(self, *_: object, **__: object) -> None:
        """Write no model card into checkpoints; the saved model carries its own provenance."""


def answer_text(references: list[str]) -> str:
    """Return the completion that is learned, e.g. ` 1234567.` or ` A, B.`."""
    return f" {', '.join(references)}."


def supervised_dataset(prompts: Dataset, *, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Return columns `input_ids` and `labels`: prompt, answer, end token; only the last two count.

    Args:
        prompts: Made when they are read, with columns `prompt` and `references`.
        tokenizer: Adds no special tokens: prompts carry their chat template.
    """
    rows = Dataset.from_dict({"input_ids": list(range(len(prompts))), "labels": [0] * len(prompts)})
    return rows.with_transform(_Reader(prompts, tokenizer))


class _Reader:
    """Turns row numbers, which stand in the column `input_ids`, into tokens and labels."""

    def __init__(self, prompts: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        self._prompts = prompts
        self._tokenizer = tokenizer

    def __call__(self, rows: dict[str, list[int]]) -> dict[str, list[list[int]]]:
        made = [self._tokens(self._prompts[index]) for index in rows["input_ids"]]
        return {"input_ids": [ids for ids, _ in made], "labels": [labels for _, labels in made]}

    def __getstate__(self) -> dict[str, object]:
        """Let `datasets` fingerprint the reader by what it reads."""
        return {"prompts": self._prompts._fingerprint, "tokenizer": self._tokenizer.name_or_path}

    def _tokens(self, row: dict[str, Any]) -> tuple[list[int], list[int]]:
        prompt = self._tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]
        answer = self._tokenizer(answer_text(row["references"]), add_special_tokens=False)
        answer_ids = [*answer["input_ids"], self._tokenizer.eos_token_id]
        return prompt + answer_ids, [_IGNORED] * len(prompt) + answer_ids
