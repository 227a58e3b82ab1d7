"""Size a haystack so that the prompt is as long as the budget allows, and never longer.

Token counts of whole pieces add up for the usual tokenizers, so one sum finds the size and one
encode of the finished prompt confirms it. Where they do not add up, real encodes narrow it down.
"""

from typing import NamedTuple

from longact_cli.evaluation.ruler.draft import Draft, Prediction
from longact_cli.evaluation.ruler.frame import PromptFrame


class Fit(NamedTuple):
    """The chosen size: haystack units, the prompt, and its real number of tokens."""

    units: int
    prompt: str
    tokens: int


def smallest(draft: Draft, frame: PromptFrame) -> Fit:
    """Return the prompt with the fewest units that hold all needles."""
    return _build(draft, frame, draft.minimum)


def largest(draft: Draft, frame: PromptFrame, *, budget: int, trusted: bool = False) -> Fit | None:
    """Return the longest prompt of at most `budget` tokens; None where none fits.

    Args:
        draft: The question.
        frame: What surrounds the message.
        budget: Tokens of the whole prompt, at most.
        trusted: Token counts of pieces are known to add up: the sum is not confirmed by an encode.
    """
    start = smallest(draft, frame) if draft.unit or not trusted else None
    predicted = predict(draft, frame, start=start, budget=budget)
    if trusted:
        return predicted and Fit(
            predicted.units, _text(draft, frame, predicted.units), predicted[1]
        )
    assert start is not None
    return _confirmed(draft, frame, predicted=predicted, start=start, budget=budget)


def _confirmed(
    draft: Draft, frame: PromptFrame, *, predicted: Prediction | None, start: Fit, budget: int
) -> Fit | None:
    """Return the largest size whose real encode fits, starting from the predicted one."""
    best = start
    if start.tokens > budget:
        return None
    units, too_long = max(predicted.units if predicted else 0, start.units + 1), None
    while units > best.units:
        tried = _build(draft, frame, units)
        unit_tokens = max(1.0, (tried.tokens - start.tokens) / (units - start.units))
        if tried.tokens > budget:
            too_long = units
        else:
            best = tried
            if (units, tried.tokens) == predicted:
                break
        units = best.units + max(1, int((budget - best.tokens) / unit_tokens))
        units = units if too_long is None else min(units, too_long - 1)
    return best


def predict(
    draft: Draft, frame: PromptFrame, *, start: Fit | None, budget: int
) -> Prediction | None:
    """Return the size at which the tokens of all pieces sum up to at most `budget`."""
    if draft.measure:
        return draft.measure(frame, budget)
    if draft.unit is None or start is None:
        raise ValueError("a draft without `measure` needs `unit` and its smallest prompt")
    if start.tokens > budget:
        return None
    totals, ahead = [start.tokens], 1
    while totals[-1] <= budget:
        first = start.units + len(totals) - 1
        for tokens in frame.line_tokens([draft.unit(first + i) for i in range(ahead)]):
            totals.append(totals[-1] + max(1, tokens))
        line_tokens = (totals[-1] - totals[0]) / (len(totals) - 1)
        ahead = max(1, int((budget - totals[-1]) / line_tokens))
    fitting = [total for total in totals if total <= budget]
    return Prediction(start.units + len(fitting) - 1, fitting[-1])


def _build(draft: Draft, frame: PromptFrame, units: int) -> Fit:
    prompt = _text(draft, frame, units)
    return Fit(units, prompt, frame.tokens(prompt))


def _text(draft: Draft, frame: PromptFrame, units: int) -> str:
    return frame.prompt(draft.message(units), draft.prefix)
