"""Which blocks FlexAttention computes, what it sees in them, and what happens where it fails."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, create_mask
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import Qwen3Config, Qwen3ForCausalLM

from longact_cli.training import flex_block, prefix_support
from longact_cli.training.flex_block import attend, block_mask
from longact_cli.training.prefix_attention import PrefixLayout
from longact_cli.training.prefix_support import flex_refusal
from longact_cli.training.shared_prefix import with_blocks, with_mask
from plain_flex import allow_flex_on_the_cpu

CPU = torch.device("cpu")
LAYOUTS = {
    "whole blocks": PrefixLayout(256, 2, 128, (256, 128), None),
    "half of a block left over": PrefixLayout(300, 3, 100, (300, 129, 1), None),
    "several completions in a block": PrefixLayout(130, 9, 31, (130, 127), None),
    "less than a block": PrefixLayout(7, 2, 5, (7, 3), None),
    "one completion over several blocks": PrefixLayout(100, 1, 400, (100,), None),
    "the first completion ends a block of the prompt": PrefixLayout(64, 2, 256, (64,), None),
    "completions begin where a block ends": PrefixLayout(127, 2, 256, (127, 50), None),
    "completions end where a block begins": PrefixLayout(129, 2, 128, (129,), None),
    "completions of one token": PrefixLayout(128, 140, 1, (128, 50), None),
}


def blocks_of(layout: PrefixLayout) -> BlockMask:
    mask = with_blocks(layout, CPU).mask
    assert isinstance(mask, BlockMask)
    return mask


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_blocks_show_exactly_what_the_mask_shows(layout: PrefixLayout) -> None:
    mask = blocks_of(layout)
    rows, _, queries, keys = mask.shape
    seen = create_mask(mask.mask_mod, rows, 1, queries, keys, device="cpu")
    assert torch.equal(seen, with_mask(layout, CPU).mask)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_blocks_are_those_that_torch_finds_by_looking_at_every_score(layout: PrefixLayout) -> None:
    ours = blocks_of(layout)
    rows, _, queries, keys = ours.shape
    theirs = create_block_mask(ours.mask_mod, rows, 1, queries, keys, device="cpu")
    for name in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks", "full_q_num_blocks"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    for name in ("kv_indices", "full_kv_indices", "q_indices", "full_q_indices"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


def test_the_share_of_blocks_that_is_left_out_is_that_worked_out_by_hand() -> None:
    # 2 completions of 2 blocks after a prompt of 4 blocks, of which the second row uses 2. A block
    # of queries sees the prompt's blocks and 1 or 2 of its own, its last one only in part.
    mask = block_mask(torch.tensor([512, 200]), prompt=512, slots=2, tokens=256)
    assert mask.kv_num_blocks[:, 0].tolist() == [[1, 1, 1, 1], [2, 2, 2, 2]]  # diagonal, prompt end
    assert mask.full_kv_num_blocks[:, 0].tolist() == [[4, 5, 4, 5], [1, 2, 1, 2]]
    assert mask.sparsity() == pytest.approx(100 * (1 - (5 + 6 + 5 + 6 + 3 + 4 + 3 + 4) / 64))


def test_long_prompts_leave_out_what_other_completions_wrote() -> None:
    # P=16k, C=512, G=8: 32 x 160 blocks; 32 x 128 see the prompt, 8 x (1+2+3+4) a completion.
    mask = block_mask(torch.tensor([16384]), prompt=16384, slots=8, tokens=512)
    assert mask.sparsity() == pytest.approx(100 * (1 - (32 * 128 + 8 * 10) / (32 * 160)))


class Largest(TorchDispatchMode):
    """Keeps the size of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(
        self, call: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = call(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves(made) if isinstance(x, Tensor)]
        self.elements = max([self.elements, *(x.numel() for x in tensors)])
        return made


def test_no_tensor_of_queries_by_keys_is_made() -> None:
    with Largest() as made:
        block_mask(torch.tensor([4096, 4000]), prompt=4096, slots=8, tokens=256)
    assert made.elements == 8 * 256  # one number per query; blocks: 2 rows x 16 x 48 = 1536
    with Largest() as made:
        with_mask(PrefixLayout(4096, 8, 256, (4096, 4000), None), CPU)
    assert made.elements == 2 * 2048 * 6144


@pytest.mark.slow
def test_other_sizes_and_lengths_take_the_kernel_that_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        compiled.append(1)
        return graph.forward

    made = torch.compile(flex_block.flex_attention, fullgraph=True, backend=backend)
    monkeypatch.setattr(flex_block, "kernel", lambda: made)
    generator = torch.Generator().manual_seed(0)
    for rows, prompt, slots, tokens in ((2, 200, 2, 90), (3, 150, 3, 100), (4, 310, 5, 77)):
        lengths = torch.randint(1, prompt + 1, (rows,), generator=generator)
        mask = block_mask(lengths, prompt=prompt, slots=slots, tokens=tokens)
        own = slots * tokens
        sizes = ((4, own), (2, prompt + own), (2, prompt + own))
        query, key, value = (torch.randn(rows, *size, 16) for size in sizes)
        attend(query, key, value=value, mask=mask, scale=0.2)
    assert len(compiled) == 2  # one for the first sizes, one for all others


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_gpu_takes_the_compiled_kernel(model: Qwen3ForCausalLM, dtype: torch.dtype) -> None:
    assert flex_refusal(model, device=torch.device("cuda"), dtype=dtype) is None


@pytest.fixture
def model() -> Qwen3ForCausalLM:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "head_dim": 16}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return Qwen3ForCausalLM(Qwen3Config(vocab_size=64, **sizes, **heads))


def refused(model: Qwen3ForCausalLM, dtype: torch.dtype = torch.float32) -> str | None:
    return flex_refusal(model, device=CPU, dtype=dtype)


def test_a_cpu_is_refused_since_torch_cannot_train_there(model: Qwen3ForCausalLM) -> None:
    assert refused(model) == "torch's FlexAttention has no backward pass on the CPU"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_kernel_with_the_results_of_sdpa_is_taken(
    dtype: torch.dtype, model: Qwen3ForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_flex_on_the_cpu(monkeypatch)
    assert refused(model, dtype) is None


def test_a_kernel_that_does_not_compile_is_refused_with_its_first_line(
    model: Qwen3ForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_support, "_FORWARD_ONLY", frozenset())

    def broken(*_: object, **__: object) -> Tensor:
        raise RuntimeError("out of resource: shared memory\nlong story")

    monkeypatch.setattr(flex_block, "kernel", lambda: broken)
    assert refused(model) == (
        "torch's FlexAttention fails here: RuntimeError: out of resource: shared memory"
    )


@pytest.mark.parametrize("wrong", [1.01, float("nan")])
def test_a_kernel_with_other_results_is_refused(
    wrong: float, model: Qwen3ForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_flex_on_the_cpu(monkeypatch)
    right = flex_block.kernel()
    monkeypatch.setattr(flex_block, "kernel", lambda: lambda *a, **k: wrong * right(*a, **k))
    assert "the results of torch's FlexAttention differ by" in refused(model)
