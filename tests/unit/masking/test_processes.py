from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from longact_cli.errors import ConfigError
from longact_cli.masking import RowMask, processes

from .masking_toys import Toy


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("ds_id", "under DeepSpeed.*use DDP or FSDP2"),
        ("_is_flat_param", "FSDP version 1.*version: 2"),
    ],
)
def test_weights_of_an_unsupported_backend_are_refused(attribute: str, message: str) -> None:
    model = Toy()
    setattr(model.out.weight, attribute, 1)
    with pytest.raises(ConfigError, match=message):
        RowMask(model)


@pytest.mark.parametrize("kind", [DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM])
def test_what_accelerate_was_set_up_with_is_refused(
    kind: DistributedType, monkeypatch: pytest.MonkeyPatch
) -> None:
    Accelerator(cpu=True)
    monkeypatch.setitem(AcceleratorState._shared_state, "distributed_type", kind)
    with pytest.raises(ConfigError, match=f"under {kind.value}, which"):
        processes.refuse_accelerate_backends()


@pytest.mark.parametrize(("version", "refused"), [(1, True), (2, False)])
def test_fsdp_is_refused_in_version_1_only(
    version: int, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    Accelerator(cpu=True)
    plugin = SimpleNamespace(fsdp_version=version)
    monkeypatch.setitem(AcceleratorState._shared_state, "distributed_type", DistributedType.FSDP)
    monkeypatch.setitem(AcceleratorState._shared_state, "fsdp_plugin", plugin)
    with pytest.raises(ConfigError, match="fsdp_version: 2") if refused else nullcontext():
        processes.refuse_accelerate_backends()


def test_one_process_is_not_refused_and_reduces_to_itself() -> None:
    Accelerator(cpu=True)
    processes.refuse_accelerate_backends()
    value = torch.tensor([1.0, 2.0])
    assert processes.all_reduce(value, "sum") is value
    assert processes.gather_keys([b"a"]) == [[b"a"]]
    assert (processes.world_size(), processes.rank()) == (1, 0)
