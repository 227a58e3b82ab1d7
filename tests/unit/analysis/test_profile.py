"""What is read from a model: every layout, and nothing of the padding."""

import pytest
import torch

from longact_cli.analysis.profile import ActivationReader, check_same_layout, matrices_of
from longact_cli.errors import ConfigError
from longact_cli.masking import SaliencyProbe, find_projections

from ..masking.masking_toys import Q, Toy
from ..masking.tiny_models import CONFIGS, batch, tiny_model


def reader_of(model: torch.nn.Module, **options: object) -> ActivationReader:
    found = {"site": "norm", "statistics": ("mean_abs",), **options}
    return ActivationReader(model, find_projections(model), **found)


@pytest.mark.parametrize("layout", CONFIGS)
@pytest.mark.parametrize("site", ["norm", "proj"])
def test_saliency_equals_that_of_the_mask_on_every_layout(layout: str, site: str) -> None:
    model = tiny_model(layout)
    data = batch()
    projections = find_projections(model)
    probe = SaliencyProbe(model, projections, site=site)
    probe.add(data["input_ids"], data["attention_mask"])
    found = reader_of(model, site=site).read(data["input_ids"], data["attention_mask"])
    assert set(found) == {p.parameter_name for p in projections}
    for name, expected in probe.saliency().items():
        assert torch.allclose(found[name].saliency("mean_abs"), expected, rtol=1e-5)
        assert found[name].tokens == 18


def test_signed_activations_make_the_power_sums() -> None:
    found = reader_of(Toy(), site="proj").read(torch.tensor([[1, 3]]), torch.ones(1, 2))
    # q = (1, -2, 3, 4) x embedding, tokens 1 and 3: sums of x, x^2, x^3, x^4.
    assert found[Q].powers[0].tolist() == [4.0, -8.0, 12.0, 16.0]
    assert found[Q].powers[2].tolist() == [28.0, -224.0, 756.0, 1792.0]


def test_padding_on_either_side_counts_for_nothing() -> None:
    ids = torch.tensor([[9, 1, 3], [5, 9, 9]])
    found = reader_of(Toy(), site="proj").read(ids, torch.tensor([[0, 1, 1], [1, 0, 0]]))
    assert found[Q].tokens == 3
    assert found[Q].saliency("mean_abs").tolist() == [3.0, 6.0, 9.0, 12.0]
    assert int(found[Q].counts.sum()) == 12


def test_a_reader_forgets_the_batch_before() -> None:
    reader = reader_of(Toy(), site="proj")
    reader.read(torch.tensor([[9, 9]]), torch.ones(1, 2))
    assert reader.read(torch.tensor([[1, 1]]), torch.ones(1, 2))[Q].tokens == 2


def test_layers_are_counted_apart_for_queries_and_keys() -> None:
    matrices = matrices_of(find_projections(tiny_model("gpt2 (Conv1D)")))
    assert [(m.kind, m.layer, m.rows, m.head_dim) for m in matrices] == [
        ("q", 0, 16, 4), ("k", 0, 16, 4), ("q", 1, 16, 4), ("k", 1, 16, 4)
    ]  # fmt: skip


def test_models_with_other_matrices_are_not_compared() -> None:
    first, second = (
        matrices_of(find_projections(tiny_model(name))) for name in ("llama", "gpt2 (Conv1D)")
    )
    check_same_layout(first, first, "two")
    with pytest.raises(ConfigError, match="a and b do not have the same query and key matrices"):
        check_same_layout(first, second, "a and b")
