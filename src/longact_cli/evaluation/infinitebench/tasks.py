"""InfiniteBench's tasks: how many questions, how long the answers, where prompts are cut.

Source: OpenBMB/InfiniteBench 88b3daa, src/eval_utils.py (`DATA_NAME_TO_MAX_NEW_TOKENS`,
`create_msgs`), src/eval_yarn_mistral.py (`TRUNCATE_LEN`) and the data set's files.
"""

from typing import Literal, NamedTuple

Limits = Literal["official", "chat"]
Family = Literal["gpt4", "claude2", "kimi", "yarn-mistral"]

FAMILIES: tuple[Family, ...] = ("gpt4", "claude2", "kimi", "yarn-mistral")

PROMPT_TOKENS: dict[Family, int] = {
    "gpt4": 127_000,
    "claude2": 127_000,
    "kimi": 127_000,
    "yarn-mistral": 131_072,
}
"""Longer prompts are cut. Claude 2 and Kimi were cut by their makers; here they follow gpt4."""


class TaskInfo(NamedTuple):
    """A task's size and answer budgets. Budgets in tokens."""

    samples: int
    official_tokens: int
    chat_tokens: int


# The official budgets were made for a base model that answers with the bare value. The chat budgets
# hold 99 % of the published answers of GPT-4 at 3 characters a token; they never are smaller.
TASKS: dict[str, TaskInfo] = {
    "passkey": TaskInfo(590, 6, 64),
    "number_string": TaskInfo(590, 12, 64),
    "kv_retrieval": TaskInfo(500, 50, 128),
    "longdialogue_qa_eng": TaskInfo(200, 40, 64),
    "longbook_sum_eng": TaskInfo(103, 1200, 2400),
    "longbook_choice_eng": TaskInfo(229, 40, 64),
    "longbook_qa_eng": TaskInfo(351, 40, 160),
    "longbook_qa_chn": TaskInfo(189, 40, 256),
    "math_find": TaskInfo(350, 3, 512),
    "math_calc": TaskInfo(50, 30_000, 30_000),
    "code_run": TaskInfo(400, 5, 768),
    "code_debug": TaskInfo(394, 5, 2400),
}


def answer_tokens(task: str, limits: Limits) -> int:
    """Return the answer budget of a task, in tokens."""
    info = TASKS[task]
    return info.official_tokens if limits == "official" else info.chat_tokens
