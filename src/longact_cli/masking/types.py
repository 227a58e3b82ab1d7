"""The maps that masking hands around, keyed by projection, and the words of its settings."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from torch import Tensor

SaliencyMap: TypeAlias = Mapping[str, Tensor]
"""Projection -> float32 [rows], >= 0: the score of each output row, e.g. how active it is."""

UpdateMask: TypeAlias = Mapping[str, Tensor]
"""Projection -> bool [rows]; True = the row is updated, False = its gradient is zeroed."""

Kind = Literal["q", "k", "v", "o"]
"""Query, key, value or output projection; the method masks q and k, the others are controls."""

Site = Literal["proj", "norm", "rope_pair"]
"""Where activations are read: the projection's output, after QK norm, or as rotary pairs."""

Statistic = Literal["mean_abs", "rms", "max_abs", "p99"]
"""How the activations of a channel over all tokens become one number."""

Scope = Literal["matrix", "head", "global"]
"""Within what the updated rows are counted out."""

Semantics = Literal["gradient", "strict"]
"""`gradient`: only gradients are masked; `strict`: a masked row does not move at all."""
