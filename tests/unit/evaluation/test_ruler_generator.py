import re
from dataclasses import replace
from random import Random

import pytest

from longact_cli.errors import ConfigError, UnknownNameError
from longact_cli.evaluation.ruler import niah
from longact_cli.evaluation.ruler.generator import RulerSource, make_prompt, make_sample
from longact_cli.evaluation.ruler.templates import NOISE, TASKS

LENGTHS = {
    "niah_single_1": (320, 511, 512, 513, 1024),
    "niah_multikey_2": (320, 511, 512, 513, 1024),
    "niah_multikey_3": (512, 640, 1024),
    "vt": (900, 1000, 1024),
    "niah_single_2": (320, 511, 512, 1024),
    "niah_single_3": (384, 512, 1024),
    "niah_multikey_1": (640, 1024),
    "niah_multivalue": (640, 1024),
    "niah_multiquery": (640, 1024),
    "cwe": (1600, 2000),
    "fwe": (512, 1000),
    "qa_1": (384, 512, 1024),
    "qa_2": (1000, 1024),
}
LINE_TASKS = ("niah_single_1", "niah_multikey_2", "niah_multikey_3", "vt")
TRAINABLE = tuple(task for task in TASKS if not task.startswith("qa"))


def length_for(task: str) -> int:
    return max(1024, *LENGTHS[task])


def haystack_lines(prompt: str) -> list[str]:
    return [line for line in prompt.splitlines() if line.startswith(("The grass", "One of the"))]


def one_line_longer(prompt: str, line: str) -> str:
    """The prompt with one more line in front of the question."""
    question = re.search(r"\n(What is the special|Question: Find)[^\n]*<\|im_end\|>", prompt)
    return prompt[: question.start()] + "\n" + line + prompt[question.start() :]


def test_every_task_is_covered():
    assert set(LENGTHS) == set(TASKS)


def test_a_small_single_needle_prompt_is_this_text(tokenizer):
    sample = make_sample(
        "niah_single_1",
        280,
        index=3,
        source=RulerSource(tokenizer, seed=0, split="eval", chat_template=False),
    )
    key = "KEY"
    value = sample.references[0]
    assert re.fullmatch(r"\d{7}", value)
    real_key = re.search(r"numbers for (.+) is: ", sample.prompt)[1]
    lines = sample.prompt.replace(real_key, key).replace(value, "VALUE").split("\n")
    noise = (
        "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
    )
    assert [line for line in lines if line != noise] == [
        "A special magic number is hidden within the following text. Make sure to memorize it. "
        "I will quiz you about the number afterwards.",
        "One of the special magic numbers for KEY is: VALUE.",
        "What is the special magic number for KEY mentioned in the provided text? "
        "The special magic number for KEY mentioned in the provided text is",
    ]
    assert lines[-2] == noise  # the needle never stands behind the last unit
    assert lines.count(noise) >= 1


def test_a_vt_prompt_is_this_text(tokenizer):
    sample = make_sample("vt", 900, index=0, source=RulerSource(tokenizer, seed=0, split="eval"))
    example, question = sample.prompt.split("\n\nMemorize")
    value = re.search(r"VAR [A-Z]{5} = (\d{5})\n", question)[1]
    a, b, c, d, e = sample.references
    lines = question.split("\n")
    assert [line for line in lines if line != NOISE] == [
        " and track the chain(s) of variable assignment hidden in the following text.",
        "",
        f"VAR {a} = {value}",
        f"VAR {b} = VAR {a} ",
        f"VAR {c} = VAR {b} ",
        f"VAR {d} = VAR {c} ",
        f"VAR {e} = VAR {d} ",
        f"Question: Find all variables that are assigned the value {value} in the text above."
        "<|im_end|>",
        "<|im_start|>assistant",
        " Answer: According to the chain(s) of variable assignment in the text above, 5 variables "
        f"are assigned the value {value}, they are: ",
    ]
    shown = re.search(r"they are:  ((?:[A-Z]{3} ){4}[A-Z]{3})$", example)[1].split()
    assert re.findall(r"^VAR ([A-Z]{3}) = ", example, flags=re.MULTILINE) == shown
    assert value not in example


@pytest.mark.parametrize(
    ("task", "length"), [(task, length) for task in LINE_TASKS for length in LENGTHS[task]]
)
def test_a_prompt_fills_its_length_and_one_more_line_would_not_fit(task, length, tokenizer, source):
    for index in range(4):
        sample = make_sample(task, length, index=index, source=source)
        ids = tokenizer(sample.prompt, add_special_tokens=False)["input_ids"]
        assert sample.prompt_tokens == len(ids)
        assert sample.prompt_tokens + sample.tokens_to_generate <= length
        line = next_line(task, sample, source)
        longer = tokenizer(one_line_longer(sample.prompt, line), add_special_tokens=False)
        assert len(longer["input_ids"]) + sample.tokens_to_generate > length


@pytest.mark.parametrize(
    ("task", "length"),
    [(task, length) for task in LENGTHS for length in LENGTHS[task] if task not in LINE_TASKS],
)
def test_a_prompt_never_exceeds_its_length_and_one_more_unit_would(task, length, tokenizer, source):
    for index in range(4):
        sample = make_sample(task, length, index=index, source=source)
        ids = tokenizer(sample.prompt, add_special_tokens=False)["input_ids"]
        assert sample.prompt_tokens == len(ids) <= length - sample.tokens_to_generate
        longer = [
            make_prompt(task, length, index=index, units=sample.units + more, source=source)
            for more in (1, 2)
        ]
        tokens = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in longer]
        assert max(tokens) > length - sample.tokens_to_generate


@pytest.mark.parametrize("task", TASKS)
def test_a_prompt_is_made_again_from_its_size(task, source):
    length = length_for(task)
    sample = make_sample(task, length, index=2, source=source)
    again = make_prompt(task, length, index=2, units=sample.units, source=source)
    assert again == sample.prompt


def next_line(task, sample, source):
    """The unit that the next larger haystack would have: taken from a prompt twice as long."""
    if task in ("niah_single_1", "vt"):
        return NOISE
    from longact_cli.evaluation.ruler.generator import _draft

    draft = _draft(task, sample.context_length, index=sample.index, source=source)
    return draft.unit(len(haystack_lines(sample.prompt)) - 1)


@pytest.mark.parametrize("task", TASKS)
def test_neither_order_nor_other_samples_change_a_sample(task, source):
    forward, backward, length = replace(source, seed=5), replace(source, seed=5), length_for(task)
    first = [make_sample(task, length, index=index, source=forward) for index in range(4)]
    last = [make_sample(task, length, index=index, source=backward) for index in (3, 2, 1, 0)]
    assert first == last[::-1]
    assert len({sample.prompt for sample in first}) == 4


@pytest.mark.parametrize("task", TRAINABLE)
def test_seed_and_split_change_the_question(task, source):
    length = length_for(task)
    base = make_sample(task, length, index=0, source=source)
    for other in (replace(source, seed=1), replace(source, split="train")):
        assert make_sample(task, length, index=0, source=other).references != base.references


@pytest.mark.parametrize("task", ["niah_single_1", "niah_multikey_2", "niah_multikey_3"])
def test_the_needle_stands_once_and_holds_the_reference(task, source):
    for index in range(20):
        sample = make_sample(task, 700, index=index, source=source)
        key = re.search(r" for (\S.*?) mentioned in the provided text is$", sample.prompt)[1]
        kind = "uuids" if task == "niah_multikey_3" else "numbers"
        assert re.findall(
            rf"^One of the special magic {kind} for {re.escape(key)} is: (.+)\.$",
            sample.prompt,
            flags=re.MULTILINE,
        ) == list(sample.references)


def test_a_key_that_was_drawn_before_is_drawn_again(monkeypatch):
    drawn = iter(["asked", "asked", "a", "a", "asked", "b"])
    monkeypatch.setattr(niah, "draw_word", lambda rng, split: next(drawn))
    draft = niah.niah_draft(TASKS["niah_multikey_2"], Random(0), split="eval")
    keys = [re.search(r"for (\w+) is", draft.unit(number))[1] for number in (1, 0)]
    assert keys == ["b", "a"]


def test_all_keys_of_a_haystack_differ(source):
    prompt = make_sample("niah_multikey_2", 1024, index=0, source=source).prompt
    keys = re.findall(r"^One of the special magic numbers for (.+) is: ", prompt, re.MULTILINE)
    assert len(keys) > 15
    assert len(set(keys)) == len(keys)


def test_positions_reach_both_ends_of_the_haystack(source):
    samples = [make_sample("niah_single_1", 512, index=i, source=source) for i in range(60)]
    places = [
        next(i for i, line in enumerate(lines) if line.startswith("One of")) / (len(lines) - 1)
        for lines in (haystack_lines(sample.prompt) for sample in samples)
    ]
    assert min(places) == 0.0
    assert max(places) > 0.8


@pytest.mark.parametrize("task", TRAINABLE)
def test_training_prompts_share_no_key_and_no_answer_with_evaluation(task, source):
    def strings(split):
        own, found = replace(source, split=split), set()
        for index in range(300):
            sample = make_sample(task, length_for(task), index=index, source=own)
            found |= set(sample.references)
            found |= set(re.findall(r"magic (?:numbers|uuids) for (\S+?) is: ", sample.prompt))
            found |= set(re.findall(r"VAR ([A-Z]{3,5}) =", sample.prompt))
        return found

    train, evaluation = strings("train"), strings("eval")
    assert min(len(train), len(evaluation)) >= 300
    assert not train & evaluation


def test_too_short_a_length_names_one_that_works(source):
    with pytest.raises(
        ConfigError, match=r"benchmark.context_lengths is 64; vt needs at least (\d+)"
    ):
        make_sample("vt", 64, index=0, source=source)
    try:
        make_sample("vt", 64, index=0, source=source)
    except ConfigError as error:
        needed = int(re.search(r"at least (\d+)", str(error))[1])
    assert 500 < needed < 1100
    for index in range(16):
        make_sample("vt", needed, index=index, source=source)


def test_a_rare_long_sample_does_not_name_the_length_that_it_was_refused_at(source):
    def named(length, index):
        try:
            make_sample("niah_multikey_2", length, index=index, source=source)
        except ConfigError as error:
            return int(re.search(r"at least (\d+)", str(error))[1])
        return None

    usual = named(16, 0)
    refused = {index: named(usual, index) for index in range(16, 600)}
    rare = {index: length for index, length in refused.items() if length is not None}
    assert rare
    for index, length in rare.items():
        assert length > usual
        assert named(length, index) is None


def test_the_training_split_names_its_own_setting(tokenizer):
    train = RulerSource(tokenizer, seed=0, split="train")
    with pytest.raises(ConfigError, match=r"data.context_lengths is 130; niah_single_1 needs"):
        make_sample("niah_single_1", 130, index=0, source=train)


def test_an_unknown_task_is_answered_with_the_closest_one(source):
    with pytest.raises(UnknownNameError, match="Did you mean 'niah_single_1'"):
        make_sample("niah_single1", 512, index=0, source=source)
