"""Which query/key rows change: activations -> saliency -> update mask -> gradient hooks.

In a plain PyTorch loop:

    probe = SaliencyProbe(model, find_projections(model))
    with RowMask(model) as row_mask:
        for batch in loader:
            probe.reset()
            with probe.listening(batch["input_ids"], batch["attention_mask"]):
                loss = model(**batch).loss
            row_mask.set_mask(select_rows("salient", probe.saliency(), 0.3))
            row_mask.arm()
            loss.backward()
            optimizer.step()
            report = row_mask.finish_step()
            optimizer.zero_grad()

The names below load torch when they are first used, not when this package is imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longact_cli.masking.callback import RowMaskCallback
    from longact_cli.masking.mask_file import MaskManifest, load_mask, save_mask
    from longact_cli.masking.probe import SaliencyProbe
    from longact_cli.masking.ranking import Budget
    from longact_cli.masking.report import StepReport
    from longact_cli.masking.row_mask import RowMask
    from longact_cli.masking.schedule import MaskSchedule, MaskSettings
    from longact_cli.masking.strategies import select_rows
    from longact_cli.masking.structure import find_projections

__all__ = [
    "Budget",
    "MaskManifest",
    "MaskSchedule",
    "MaskSettings",
    "RowMask",
    "RowMaskCallback",
    "SaliencyProbe",
    "StepReport",
    "find_projections",
    "load_mask",
    "save_mask",
    "select_rows",
]

_HOME = {
    "Budget": "ranking",
    "MaskManifest": "mask_file",
    "MaskSchedule": "schedule",
    "MaskSettings": "schedule",
    "RowMask": "row_mask",
    "RowMaskCallback": "callback",
    "SaliencyProbe": "probe",
    "StepReport": "report",
    "find_projections": "structure",
    "load_mask": "mask_file",
    "save_mask": "mask_file",
    "select_rows": "strategies",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
