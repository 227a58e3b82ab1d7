"""What this project counts on inside TRL and Transformers; each failure says what to adapt."""

import inspect

import pytest
import torch
from transformers import Trainer
from trl import GRPOTrainer

STATE = "read the new signature and adapt LongActGRPOTrainer in training/grpo.py"


def source(function: object) -> str:
    return inspect.getsource(function)


def test_per_token_scores_keep_their_signature_and_their_three_results() -> None:
    method = GRPOTrainer._get_per_token_logps_and_entropies
    names = list(inspect.signature(method).parameters)
    assert names[:8] == [
        "self",
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
        "batch_size",
        "compute_entropy",
        "compute_aux_loss",
    ], f"_get_per_token_logps_and_entropies changed: {STATE}"
    assert "return logps, entropies, aux_loss" in source(method), f"results changed: {STATE}"


def test_trl_passes_batch_size_and_entropy_by_keyword() -> None:
    scoring = source(GRPOTrainer._generate_and_score_completions)
    assert "batch_size=batch_size," in scoring, f"old log-probs are scored differently: {STATE}"
    assert "compute_entropy=True," in source(GRPOTrainer._compute_loss), STATE


def test_the_loss_receives_prompts_apart_from_completions() -> None:
    text = source(GRPOTrainer._compute_loss)
    for name in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask"):
        assert f'inputs["{name}"]' in text, f"{name} is gone from the micro-batch: {STATE}"


def test_the_loss_is_computed_by_compute_loss_inside_the_training_step() -> None:
    assert "self.compute_loss(model, inputs" in source(Trainer.training_step), (
        "the probe runs in compute_loss, which training_step no longer calls: " + STATE
    )


def test_gradients_are_marked_as_complete_before_the_last_micro_batch() -> None:
    text = source(Trainer._run_epoch)
    mark, step = text.index("_set_sync_gradients("), text.index("self.training_step(")
    assert mark < step, "sync_gradients is set too late to arm the mask: see compute_loss"


def test_the_optimizer_step_is_followed_by_its_callback_and_preceded_by_clipping() -> None:
    text = source(Trainer._run_epoch)
    order = [text.index(name) for name in ("_clip_grad_norm(", "optimizer.step()")]
    order.append(text.index("on_optimizer_step("))
    assert order == sorted(order), "drift is measured in on_optimizer_step: adapt MaskCallback"


def test_rollout_func_still_provides_tokens_and_no_log_probs() -> None:
    text = source(GRPOTrainer._generate)
    assert '{"prompt_ids", "completion_ids", "logprobs"}' in text, (
        "the contract of rollout_func changed: adapt training/rollout.py"
    )
    for name in ("generation_config", "generation_kwargs", "eos_token_ids"):
        assert f"self.{name} = " in source(GRPOTrainer.__init__), f"{name} is gone: see rollout.py"


def test_rewards_are_called_with_completions_ids_columns_and_state() -> None:
    text = source(GRPOTrainer._calculate_rewards)
    for name in ("completion_ids=completion_ids_list", 'reward_kwargs["trainer_state"]'):
        assert name in text, f"{name} is gone: adapt RewardFunction in training/completions.py"


def test_old_log_probs_are_kept_when_updates_share_rollouts() -> None:
    text = source(GRPOTrainer._generate_and_score_completions)
    assert "gradient_accumulation_steps % generate_every != 0" in text, (
        "TRL decides differently when ratios are needed: check that clipping still acts"
    )


def test_the_log_prob_kernel_scores_chosen_states() -> None:
    from trl.kernels import ChunkedLogProbFunction

    generator = torch.Generator().manual_seed(0)
    states = torch.randn(3, 4, generator=generator)
    weight = torch.randn(5, 4, generator=generator)
    targets = torch.tensor([0, 4, 2])
    outputs = ChunkedLogProbFunction.apply(
        states, weight, None, targets, 0.5, 5, None, 1.0, ("log_probs", "entropy")
    )
    log_p = (states @ weight.T / 0.5).log_softmax(-1)
    expected = log_p.gather(1, targets.unsqueeze(1)).squeeze(1)
    assert outputs[0].tolist() == pytest.approx(expected.tolist(), abs=1e-5), (
        "ChunkedLogProbFunction changed: adapt training/shared_prefix.py"
    )
    entropy = -(log_p.exp() * log_p).sum(-1)
    assert outputs[1].tolist() == pytest.approx(entropy.tolist(), abs=1e-5)
