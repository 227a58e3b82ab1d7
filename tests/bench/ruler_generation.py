"""How long RULER prompts take to make, beside lm-eval's generator, on one tokenizer in one process.

Both start from the raw text, and CPU seconds count: other work on the machine does not. lm-eval
needs seconds for a long sample: its one-off search for the size is timed as it is, a few samples
are timed and scaled to 100.
"""

import contextlib
import io
import json
import os
import random
import re
import tempfile
import time
from functools import lru_cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from longact_cli.evaluation.ruler import templates
from longact_cli.evaluation.ruler.cwe import cwe_words
from longact_cli.evaluation.ruler.data import load_essays
from longact_cli.evaluation.ruler.generator import RulerSource, make_sample
from longact_cli.evaluation.ruler.words import word_list
from longact_cli.training.micro.tokenizer import QWEN_SPLIT

LENGTHS = (4096, 32768, 131072)
TASKS = ("niah_single_2", "vt", "cwe", "fwe")
SAMPLES = 100
THEIR_SAMPLES = {4096: 10, 32768: 3, 131072: 2}
ESSAY_WORDS = 112_000
VOCABULARY = 12_000


def make_tokenizer():
    """Return a byte-level BPE tokenizer in Qwen's manner that knows most of the words used."""
    byte_level = Tokenizer(models.BPE())
    byte_level.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    byte_level.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [text for text in vars(templates).values() if isinstance(text, str)]
    words = [f" {word}" for word in cwe_words()]
    byte_level.train_from_iterator([*words, *words, *texts * 50], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_level, chat_template="{{ messages[0]['content'] }}"
    )


def write_essay(folder):
    """Write a made-up text about as long as the essays, and return its words."""
    rng, nouns, words = random.Random(0), word_list("nounlist.txt"), []
    while len(words) < ESSAY_WORDS:
        sentence = " ".join(rng.choices(nouns, k=rng.randint(4, 20))).capitalize()
        words += f"{sentence}.".split()
    (folder / "PaulGrahamEssays.json").write_text(json.dumps({"text": " ".join(words)}), "utf-8")
    return words


def ours(task, length, source):
    """Return the seconds for 100 samples; the token counts of two are verified after that."""
    started = time.process_time()
    made = [make_sample(task, length, index=index, source=source) for index in range(SAMPLES)]
    seconds = time.process_time() - started
    for sample in (made[SAMPLES // 2], made[-1]):
        tokens = len(source.tokenizer.encode(sample.prompt))
        if tokens != sample.prompt_tokens:
            raise AssertionError(f"{sample.id}: {tokens} tokens, not {sample.prompt_tokens}")
    fill = sum(sample.prompt_tokens + sample.tokens_to_generate for sample in made)
    return seconds, fill / SAMPLES / length


def theirs(task, length, tokenizer, words):
    """Return lm-eval's seconds for 100 samples, search included, and those of the search alone."""
    module, generate = _generator(task, length, tokenizer, words)
    loop_started = []

    def watched(numbers, **_):
        loop_started.append(time.process_time())
        return numbers

    module.tqdm = watched
    count = THEIR_SAMPLES[length]
    started = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        generate(count)
    searched = loop_started[-1] - started
    return searched + (time.process_time() - loop_started[-1]) * SAMPLES / count, searched


def _generator(task, length, tokenizer, words):
    """Return the module of lm-eval's task, and a function that makes n samples with it."""
    from lm_eval.tasks.ruler import cwe_utils, fwe_utils, niah_utils, prepare_niah, vt_utils

    # The trained splitter is a download; a rule takes its place, cached as upstream.
    prepare_niah.cached_sent_tokenize = lru_cache(maxsize=1024)(
        lambda text: re.split(r"(?<=[.!?]) ", text)
    )
    if task == "niah_single_2":
        kinds = {"type_haystack": "essay", "type_needle_k": "words", "type_needle_v": "numbers"}
        return prepare_niah, lambda count: prepare_niah.generate_samples(
            words,
            tokenizer,
            max_seq_length=length,
            template=niah_utils.TEMPLATE,
            num_samples=count,
            **kinds,
        )
    if task == "vt":
        example = {}

        def chains(count):
            example.update(
                vt_utils.sys_vartrack_w_noise_random(
                    tokenizer=tokenizer, num_samples=1, max_seq_length=500, incremental=5
                )[0]
            )
            return vt_utils.sys_vartrack_w_noise_random(
                tokenizer=tokenizer, num_samples=count, max_seq_length=length, icl_example=example
            )

        return vt_utils, chains
    if task == "cwe":
        return cwe_utils, lambda count: cwe_utils.sys_word_pair_random(
            num_samples=count, max_seq_length=length, tokenizer=tokenizer
        )
    return fwe_utils, lambda count: fwe_utils.sys_kwext(tokenizer, length, num_samples=count)


def run(lengths=LENGTHS, tasks=TASKS):
    """Print seconds per 100 samples, ours and lm-eval's, and how often one is in the other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "nltk" / "tokenizers" / "punkt_tab").mkdir(parents=True)
        os.environ["NLTK_DATA"] = str(folder / "nltk")  # lm-eval looks for it at import
        words, tokenizer = write_essay(folder), make_tokenizer()
        for length in lengths:
            for task in tasks:
                load_essays.cache_clear()  # the essay is read and measured again
                source = RulerSource(tokenizer, seed=0, split="eval", data_dir=str(folder))
                mine, fill = ours(task, length, source)
                lm_eval, search = theirs(task, length, tokenizer, words)
                print(
                    f"ruler {task:13} {length:6} tokens: {mine:6.2f} s per 100, lm-eval "
                    f"{lm_eval:6.1f} s ({search:5.1f} s search), {lm_eval / mine:6.1f} times, "
                    f"fill {fill:.4f}",
                    flush=True,
                )
