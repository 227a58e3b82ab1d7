"""What the mask did in one optimizer step, as numbers."""

from collections.abc import Mapping
from typing import NamedTuple

from longact_cli.masking.types import UpdateMask


class StepReport(NamedTuple):
    """What the mask did in one optimizer step.

    Attributes:
        update_ratios: Fraction of rows updated, per projection, 0..1.
        rows_ratio: Fraction of all rows updated, 0..1.
        dense_norm: L2 norm of the query/key gradient before the mask; None without hooks, and
            under DDP, where a hook sees the gradient of its own process only.
        kept_norm: The same after the mask.
        overlap: Jaccard overlap of the updated rows with those of the step before, 0..1; None in
            the first step.
        drift_norm: L2 norm of how far masked rows moved over the step; 0 = they stood still.
        drift_max: Largest such move of one entry.
    """

    update_ratios: Mapping[str, float]
    rows_ratio: float
    dense_norm: float | None
    kept_norm: float | None
    overlap: float | None
    drift_norm: float
    drift_max: float

    def metrics(self) -> Mapping[str, float]:
        """Return the report as named numbers; what is not known is left out."""
        ratios = tuple(self.update_ratios.values())
        values = {
            "mask/update_ratio": self.rows_ratio,
            "mask/update_ratio_min": min(ratios),
            "mask/update_ratio_max": max(ratios),
            "mask/qk_grad_norm": self.kept_norm,
            "mask/kept_grad_norm_share": self._kept_share(),
            "mask/overlap_with_previous": self.overlap,
            "mask/masked_drift_norm": self.drift_norm,
            "mask/masked_drift_max": self.drift_max,
        }
        matrices = {f"mask/update_ratio/{n}": r for n, r in self.update_ratios.items()}
        known = {name: value for name, value in values.items() if value is not None}
        return {**known, **matrices}

    def _kept_share(self) -> float | None:
        if self.kept_norm is None or not self.dense_norm:
            return None
        return self.kept_norm / self.dense_norm


def mask_overlap(first: UpdateMask, second: UpdateMask) -> float:
    """Return the Jaccard overlap of the updated rows over all weights; two empty masks give 1."""
    shared = sum(int((first[name] & second[name]).sum()) for name in first)
    either = sum(int((first[name] | second[name]).sum()) for name in first)
    return shared / either if either else 1.0


def rows_ratio(mask: UpdateMask) -> float:
    """Return the fraction of all rows that are updated."""
    rows = sum(len(rows) for rows in mask.values())
    return sum(int(updated.sum()) for updated in mask.values()) / rows
