"""The two maps that masking hands around, keyed by parameter name."""

from collections.abc import Mapping
from typing import TypeAlias

from torch import Tensor

SaliencyMap: TypeAlias = Mapping[str, Tensor]
"""Parameter name -> float32 [rows], >= 0: how active each query/key channel is."""

UpdateMask: TypeAlias = Mapping[str, Tensor]
"""Parameter name -> bool [rows]; True = the row is updated, False = its gradient is zeroed."""
