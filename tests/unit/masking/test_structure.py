import subprocess
import sys

import pytest
from torch import nn

from longact_cli.errors import ConfigError
from longact_cli.masking import find_projections

from .masking_toys import Toy


def test_projections_are_found_by_what_a_module_owns_in_layer_order() -> None:
    found = find_projections(Toy(layers=2, norm=True))
    assert [(p.parameter_name, p.kind, p.rows, p.head_dim) for p in found] == [
        ("blocks.0.q_proj.weight", "q", 4, 2),
        ("blocks.0.k_proj.weight", "k", 2, 2),
        ("blocks.1.q_proj.weight", "q", 4, 2),
        ("blocks.1.k_proj.weight", "k", 2, 2),
    ]
    assert all(isinstance(p.norm, nn.RMSNorm) for p in found)


def test_targets_limit_what_is_found() -> None:
    assert [p.kind for p in find_projections(Toy(layers=2), ("k",))] == ["k", "k"]


def test_parameter_names_are_those_of_a_transformers_model(tiny_checkpoint) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint)
    found = find_projections(model)
    parameters = dict(model.named_parameters())
    assert len(found) == 8
    assert all(parameters[p.parameter_name] is p.module.weight for p in found)
    assert {(p.kind, p.rows, p.head_dim) for p in found} == {("q", 64, 16), ("k", 32, 16)}


def test_a_model_without_projections_is_refused_with_what_was_looked_for() -> None:
    with pytest.raises(ConfigError, match="'q_proj' and 'k_proj'"):
        find_projections(nn.Sequential(nn.Linear(2, 2)))


def test_importing_the_package_does_not_load_torch() -> None:
    code = "import longact_cli.masking, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
