"""One of two processes that score rollouts under DDP, one of them packed; started by torchrun.

Usage: prefix_worker.py OUT. Writes OUT, the averaged gradients, and OUT.expected, those of the
separate sequences in one process.
"""

import sys

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaConfig, LlamaForCausalLM

from longact_cli.training.prefix_support import refusal
from longact_cli.training.shared_prefix import add_prefix_scores, pack


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=0.3,
            pad_token_id=0,
        )
    )


def rows(rank: int) -> tuple[Tensor, Tensor]:
    """Three rollouts of the process's own prompt: [3, 5] and [3, 4]."""
    generator = torch.Generator().manual_seed(rank)
    prompt = torch.randint(3, 64, (1, 5), generator=generator).repeat(3, 1)
    return prompt, torch.randint(3, 64, (3, 4), generator=generator)


def separate(network: nn.Module, prompt: Tensor, completions: Tensor) -> Tensor:
    ids = torch.cat([prompt, completions], dim=1)
    log_p = network(input_ids=ids).logits[:, 4:-1].log_softmax(-1)
    return log_p.gather(2, completions.unsqueeze(2)).squeeze(2)


def loss(log_probs: Tensor) -> Tensor:
    return (log_probs * torch.linspace(-1, 1, 12).view(3, 4)).sum()


def main(out: str) -> None:
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    ours = model()
    assert refusal(ours) is None
    add_prefix_scores(ours, temperature=1.0)
    wrapped = DistributedDataParallel(ours)
    prompt, completions = rows(rank)
    if rank == 0:
        ones = torch.ones_like
        packed = pack(
            prompt, ones(prompt), completion_ids=completions, completion_mask=ones(completions)
        )
        log_probs, _ = wrapped(shared_prefix=packed)
    else:
        log_probs = separate(wrapped, prompt, completions)
    loss(log_probs).backward()
    if rank == 0:
        save_file({name: p.grad.clone() for name, p in ours.named_parameters()}, out)
        theirs = model()
        (sum(loss(separate(theirs, *rows(r))) for r in (0, 1)) / 2).backward()
        expected = {name: p.grad.clone() for name, p in theirs.named_parameters()}
        save_file(expected, f"{out}.expected")
    # While DDP holds the group, its end would wait for gloo's threads and they for Python.
    del wrapped, log_probs
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
