"""Models small enough to compute by hand."""

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Owns projections; q row r of token t is `weight[r] * embedding[t]`."""

    head_dim = 2

    def __init__(self, *, bias: bool = False, norm: bool = False) -> None:
        super().__init__()
        self.q_proj = nn.Linear(1, 4, bias=bias)
        self.k_proj = nn.Linear(1, 2, bias=bias)
        if norm:
            self.q_norm = nn.RMSNorm(2, eps=0.0)
            self.k_norm = nn.RMSNorm(2, eps=0.0)
        with torch.no_grad():
            self.q_proj.weight.copy_(torch.tensor([[1.0], [-2.0], [3.0], [4.0]]))
            self.k_proj.weight.copy_(torch.tensor([[0.5], [-0.25]]))

    def forward(self, states: Tensor) -> Tensor:
        query, key = self.q_proj(states), self.k_proj(states)
        if hasattr(self, "q_norm"):
            batch, time = states.shape[:2]
            query = self.q_norm(query.view(batch, time, 2, 2)).flatten(2)
            key = self.k_norm(key.view(batch, time, 1, 2)).flatten(2)
        return states + query.sum(-1, keepdim=True) * key.sum(-1, keepdim=True)


class Toy(nn.Module):
    """Token id i has the one-dimensional embedding i."""

    def __init__(self, *, layers: int = 1, bias: bool = False, norm: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, 1)
        self.dropout = nn.Dropout(0.5)
        self.blocks = nn.ModuleList(Attention(bias=bias, norm=norm) for _ in range(layers))
        self.out = nn.Linear(1, 1)
        with torch.no_grad():
            self.embed.weight.copy_(torch.arange(16.0).unsqueeze(1))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, use_cache: bool = False
    ) -> Tensor:
        states = self.dropout(self.embed(input_ids))
        for block in self.blocks:
            states = block(states)
        return self.out(states)


Q, K = "blocks.0.q_proj.weight", "blocks.0.k_proj.weight"


def toy_mask(q: list[bool], k: list[bool]) -> dict[str, Tensor]:
    return {Q: torch.tensor(q), K: torch.tensor(k)}
