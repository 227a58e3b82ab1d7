"""The micro model's tokenizer: byte-level BPE in Qwen's manner, trained on RULER's vocabulary."""

import random
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from longact_cli.evaluation.ruler import templates
from longact_cli.evaluation.ruler.words import word_list
from longact_cli.models.micro import MAX_POSITIONS

VOCABULARY_SIZE = 2048
END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"

# Qwen2Tokenizer's split: every digit is a token of its own, a word takes one leading symbol.
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# ChatML as Qwen-Instruct writes it for messages without tools and without a default system turn.
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
# Template text must win merges against tens of thousands of distinct keys.
_TEMPLATE_REPEATS = 200
_NOUNS_PER_ADJECTIVE = 40


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Train the tokenizer; the same seed gives the same bytes.

    A turn ends with `<|im_end|>`, which is the end-of-sequence token, as in Qwen-Instruct;
    `<|endoftext|>` pads. Padding is on the left.

    Source: the split pattern and the special tokens are Qwen2Tokenizer's (transformers).
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(_training_text(random.Random(seed)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[TURN_START],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_POSITIONS,
        chat_template=CHAT_TEMPLATE,
    )


def _training_text(rng: random.Random) -> Iterator[str]:
    """Yield RULER's wording many times, then keys and single words."""
    wording = "\n".join(
        text.format(kind=kind, key="x", value="1", query="x", context="", num_v="5")
        for kind in ("number", "numbers", "uuid", "uuids", "words")
        for text in (
            templates.NEEDLE,
            templates.NOISE,
            templates.NIAH_TEMPLATE,
            templates.NIAH_PREFIX,
            templates.NIAH_SINGLE_TEMPLATE,
            templates.NIAH_SINGLE_PREFIX,
            templates.VT_TEMPLATE,
            templates.VT_PREFIX,
            "user\nassistant\nsystem\nVAR X = VAR Y",
        )
    )
    for _ in range(_TEMPLATE_REPEATS):
        yield wording
    nouns, adjectives = word_list("nounlist.txt"), word_list("adjectivelist.txt")
    for adjective in adjectives:
        for noun in rng.sample(nouns, _NOUNS_PER_ADJECTIVE):
            yield f" {adjective}-{noun}"
    for word in (*nouns, *adjectives) * 2:
        yield f" {word}"
