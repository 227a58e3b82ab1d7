"""FlexAttention on the CPU, for tests: torch's uncompiled evaluation, with its gradients."""

import pytest
import torch.nn.attention.flex_attention as flex


def allow_flex_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let FlexAttention train on the CPU.

    torch refuses that since its CPU kernel has no backward pass; what it evaluates without a
    compiler has one, on every device.
    """
    from longact_cli.training import flex_block, prefix_support

    monkeypatch.setattr(flex, "_validate_device", lambda *_: None)
    monkeypatch.setattr(flex, "_warn_once", lambda *_, **__: None)
    monkeypatch.setattr(flex_block, "kernel", lambda: flex.flex_attention)
    monkeypatch.setattr(prefix_support, "_FORWARD_ONLY", frozenset())
