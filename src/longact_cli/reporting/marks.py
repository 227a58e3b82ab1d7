"""Which scores of a column are best, which may be called so, and which rest on less than they seem.

Ranks are taken on unrounded values. The declared baseline is dense training with the same settings,
or the untrained model where there is none.
"""

from collections.abc import Iterable, Sequence

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.arms import (
    Arm,
    Part,
    compare,
    counterpart,
    estimate_difference,
    estimate_score,
    part_columns,
)
from longact_cli.reporting.statistics import Estimate
from longact_cli.reporting.table import DECIMALS, Entry, Section

UNSURE, FAILED, CUT, PARTIAL = "†", "‡", "§", "*"
_BASELINES = ("dense", BASE_ARM)
_MEANING = {
    UNSURE: "Highest of its column, but it is the baseline, or not shown to be better than it.",
    FAILED: "Some answers failed; they are left out, never scored 0.",
    CUT: "Some prompts were cut to fit the model's window.",
    PARTIAL: "Some seeds of this arm have no result.",
}


def score_entries(
    arms: Sequence[Arm | None], part: Part | None, *, peers: Sequence[Arm]
) -> tuple[Entry, ...]:
    """Return one column of competing scores with ranks and footnote signs.

    Args:
        arms: One arm per row; None where there is none.
        part: Which questions count; None for all.
        peers: Where baselines are looked for.
    """
    found = [estimate_score(arm, part) if arm else None for arm in arms]
    rounded = [None if e is None else round(e.value, DECIMALS) for e in found]
    values = sorted({value for value in rounded if value is not None and value == value})[::-1]
    several = sum(e is not None for e in found) > 1
    entries = []
    for arm, estimate, value in zip(arms, found, rounded, strict=True):
        entry = entry_of(arm, estimate, part)
        if several and estimate and arm and values:
            if value == values[0]:
                better = _beats_baseline(arm, peers, part)
                sign = "" if better else UNSURE
                entry = entry._replace(bold=better, mark=sign + entry.mark)
            elif len(values) > 1 and value == values[1]:
                entry = entry._replace(second=True)
        entries.append(entry)
    return tuple(entries)


def entry_of(arm: Arm | None, estimate: Estimate | None, part: Part | None = None) -> Entry:
    """Return the entry of one estimate with its cells and signs of failed answers and cuts."""
    if arm is None or estimate is None:
        return Entry()
    columns = part_columns(arm, part)
    cut = arm.truncated is not None and bool(arm.truncated[:, columns].any())
    sign = (FAILED if estimate.n_failed else "") + (CUT if cut else "")
    return Entry.of(estimate, cells=cell_names(arm))._replace(mark=sign)


def difference_entry(left: Arm | None, right: Arm | None, part: Part | None = None) -> Entry:
    """Return score(left) - score(right), traced to the cells of both."""
    if left is None or right is None:
        return Entry()
    cells = cell_names(left) + cell_names(right)
    return Entry.of(estimate_difference(left, right, part), cells=cells)


def cell_names(arm: Arm) -> tuple[str, ...]:
    """Return the first twelve digits of the digests of the arm's finished cells."""
    return tuple(cell.digest[:12] for cell in arm.scored)


def seeds_entry(arm: Arm | None) -> Entry:
    """Return how many seeds the arm has, marked where some have no result."""
    if arm is None:
        return Entry(0)
    return Entry(len(arm.seeds), mark=PARTIAL if arm.n_missing else "")


def baseline_of(arm: Arm, peers: Sequence[Arm]) -> Arm | None:
    """Return the declared baseline of an arm; None for a baseline itself or where none has run.

    Dense training is the baseline of masks; where it has none to compare with, its own is the base.
    """
    if arm.strategy == BASE_ARM:
        return None
    if arm.strategy == "dense":
        masked = (p for p in peers if p.section == arm.section and p.strategy not in _BASELINES)
        return None if any(p.seeds for p in masked) else counterpart(arm, peers, BASE_ARM)
    found = (counterpart(arm, peers, strategy) for strategy in _BASELINES)
    return next((other for other in found if other is not None and other.seeds), None)


def _beats_baseline(arm: Arm, peers: Sequence[Arm], part: Part | None) -> bool:
    """Return whether there is a baseline, and p < 0.05 and the interval both say it is beaten."""
    other = baseline_of(arm, peers)
    found = compare(arm, other, part) if other else None
    return found is not None and found.better and found.low > 0.0


def mark_notes(sections: Iterable[Section]) -> tuple[str, ...]:
    """Return what ranks and signs mean, for those that appear."""
    sections = tuple(sections)
    entries = [entry for section in sections for row in section.rows for entry in row]
    notes = []
    if any(entry.bold for entry in entries):
        notes.append(
            "Bold: best of its column, and it beats the baseline (p < 0.05, interval above 0); not "
            "corrected for the choice. Baseline: dense training, without it the untrained model."
        )
    if any(entry.second for entry in entries):
        notes.append("Underlined (in Markdown: in italics): second best of its column.")
    return (*notes, *sign_notes(sections))


def sign_notes(sections: Iterable[Section]) -> tuple[str, ...]:
    """Return what the footnote signs mean, for those that appear."""
    entries = (entry for section in sections for row in section.rows for entry in row)
    used = {sign for entry in entries for sign in entry.mark}
    return tuple(f"{sign} {text}" for sign, text in _MEANING.items() if sign in used)
