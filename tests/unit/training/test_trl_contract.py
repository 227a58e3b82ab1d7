"""What this project counts on inside TRL and Transformers; each failure says what to adapt."""

import inspect
import re

import pytest
import torch
from transformers import GenerationConfig, GenerationMixin, Trainer
from trl import GRPOTrainer, SFTTrainer

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


def test_the_attention_kernel_of_the_cpu_gives_and_takes_log_sum_exps() -> None:
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    names = [argument.name for argument in backward.default._schema.arguments]
    assert names[4:6] == ["out", "logsumexp"], "adapt training/prefix_attention.py"
    query, key = torch.randn(2, 1, 2, 3, 4).unbind()
    _, lse = kernel(query, key, key, 0.0, False, scale=0.5)
    expected = (query @ key.transpose(-1, -2) * 0.5).logsumexp(-1)
    assert torch.allclose(lse, expected, atol=1e-5), "adapt training/prefix_attention.py"


def test_transformers_completes_generation_settings_from_the_model_and_its_defaults() -> None:
    defaults = GenerationConfig._get_default_generation_params()
    assert {"repetition_penalty", "num_beams", "no_repeat_ngram_size"} <= set(defaults), (
        "adapt _is_plain in training/rollout.py"
    )
    assert callable(GenerationMixin._prepare_generation_config), "adapt training/rollout.py"


def test_a_mask_of_four_dimensions_is_handed_on_as_it_is() -> None:
    from transformers import masking_utils

    text = source(masking_utils._preprocess_mask_arguments)
    assert "len(attention_mask.shape) == 4" in text, "adapt hidden_states in shared_prefix.py"


def test_new_rollouts_replace_the_list_of_micro_batches() -> None:
    text = source(GRPOTrainer._prepare_inputs)
    assert "self._buffered_inputs = [" in text, "adapt _prepare_inputs in training/grpo.py"


SELECTION = "Clip-Cov and KL-Cov act between the two: adapt LongActGRPOTrainer._compute_loss"


def test_the_loss_scores_completions_before_it_reads_advantages_of_either_shape() -> None:
    text = source(GRPOTrainer._compute_loss)
    scored = text.index("self._get_per_token_logps_and_entropies(")
    read = text.index('advantages = inputs["advantages"]')
    assert scored < read, f"the order of scoring and advantages changed: {SELECTION}"
    assert text.count("self._get_per_token_logps_and_entropies(") == 1, SELECTION
    assert "if advantages.dim() == 1:" in text, f"advantages per token are gone: {SELECTION}"


def test_the_denominator_of_a_token_mean_is_a_share_of_all_rollouts() -> None:
    text = source(GRPOTrainer._compute_loss)
    for line in (
        'normalizer = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes',
        "normalizer = normalizer * self.current_gradient_accumulation_steps "
        "/ self.args.steps_per_generation",
    ):
        assert line in text, "the token-mean denominator changed: adapt _tokens_per_step in grpo.py"


def test_cispo_is_bounded_by_epsilon_high_itself_and_all_others_by_one_plus_it() -> None:
    text = source(GRPOTrainer._compute_loss)
    assert "torch.clamp(coef_1, max=self.epsilon_high).detach()" in text, (
        "the bound of CISPO changed: adapt _loss in training/arguments.py"
    )
    assert "torch.clamp(coef_1, 1 - self.epsilon_low, 1 + self.epsilon_high)" in text, (
        "the clip range changed: adapt _loss in training/arguments.py"
    )


def test_micro_batches_of_a_set_of_rollouts_wait_in_order() -> None:
    text = source(GRPOTrainer._prepare_inputs)
    assert "self._buffered_inputs[self._step % self.args.steps_per_generation]" in text, (
        "micro-batches are kept elsewhere: adapt _window in training/grpo.py"
    )
    assert "self._step += 1" in source(GRPOTrainer.training_step), (
        "_step counts something else: adapt _window in training/grpo.py"
    )


DIVIDED = "adapt training/micro_batches.py and training/step_metrics.py"


def test_every_loss_is_divided_by_what_micro_batches_are_weighed_by() -> None:
    text = source(GRPOTrainer._compute_loss)
    for line in (
        "loss = ((per_token_loss * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)).mean()",
        "loss = (per_token_loss * mask).sum() / mask.sum().clamp(min=1.0)",
        "/ (per_token_loss.size(0) * self.max_completion_length)",
        "loss = (per_token_loss * mask).sum() / normalizer",
    ):
        assert line in text, f"a loss is normalised differently: {DIVIDED}"
    assert GRPOTrainer.loss_is_scaled_for_ga is True, f"the loss is scaled again: {DIVIDED}"


def test_the_loss_talks_to_other_processes_for_its_metrics_alone() -> None:
    text = source(GRPOTrainer._compute_loss)
    calls = set(re.findall(r"self\.accelerator\.(\w+)", text))
    known = {"gather", "reduce", "gather_for_metrics", "num_processes", "sync_gradients"}
    assert calls == known, f"a micro-batch needs other processes: {DIVIDED}"
    means = {"kl", "entropy", "cispo_clip_ratio", "policy_loss", "entropy_coef", "aux_loss"}
    means |= {f"clip_ratio/{part}_mean" for part in ("low", "high", "region")}
    names = set(re.findall(r'_metrics\[mode\]\["([^"]+)"\]', text))
    rest = {"clip_ratio/low_min", "clip_ratio/high_max", "vespo/phi_seq_mean"}
    assert names == means | rest, f"a metric is new: {DIVIDED}"


def test_the_step_is_divided_inside_compute_loss_and_the_last_part_gets_its_gradient_there() -> (
    None
):
    text = source(Trainer.training_step)
    assert text.index("self.compute_loss(") < text.index("self.accelerator.backward(loss")


REFILL = "adapt training/dynamic_sampling.py and _generate_more in training/grpo.py"


def test_scored_rollouts_have_the_fields_that_dynamic_sampling_joins() -> None:
    from longact_cli.training import dynamic_sampling

    text = source(GRPOTrainer._generate_and_score_completions)
    known = {*dynamic_sampling._LEFT, *dynamic_sampling._RIGHT}
    known |= {"advantages", "num_items_in_batch"}
    missing = [name for name in known if f'"{name}"' not in text]
    assert not missing, f"{missing} are gone from the rollouts: {REFILL}"
    assert "self._calculate_rewards(inputs, prompts, completions" in text, REFILL


def test_rewards_of_all_processes_have_one_column_for_each_function() -> None:
    text = source(GRPOTrainer._calculate_rewards)
    assert "torch.zeros(len(prompts), len(self.reward_funcs), device=device)" in text, REFILL
    assert "rewards_per_func = gather(rewards_per_func)" in text, REFILL


def test_metrics_are_lists_that_grow_by_one_for_each_generation() -> None:
    text = source(GRPOTrainer._generate_and_score_completions)
    assert 'self._metrics[mode]["reward"].append(' in text, f"metrics are kept elsewhere: {REFILL}"
    assert 'self._metrics[mode]["num_tokens"] = [' in source(GRPOTrainer._generate), REFILL


def test_rollouts_of_a_group_stand_side_by_side_in_the_order_of_the_prompts() -> None:
    from trl.trainer.utils import RepeatSampler

    sampler = RepeatSampler(
        range(4), mini_repeat_count=3, batch_size=2, repeat_count=1, shuffle=False
    )
    assert list(sampler) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3], (
        f"groups are spread over the batch: live_groups would mix prompts; {REFILL}"
    )


SUPERVISED = "adapt training/sft.py"


def test_supervised_rows_are_taken_as_they_are_and_padded_on_the_right() -> None:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    batch = DataCollatorForLanguageModeling(pad_token_id=9)(
        [{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}, {"input_ids": [4], "labels": [4]}]
    )
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 9, 9]], SUPERVISED
    assert batch["labels"].tolist() == [[-100, 2, 3], [4, -100, -100]], SUPERVISED
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]], SUPERVISED


def test_the_supervised_loss_is_the_sum_over_tokens_by_the_tokens_of_the_step() -> None:
    text = source(SFTTrainer.compute_loss)
    assert "per_token_loss.sum() / torch.as_tensor(num_tokens).clamp(min=1)" in text, (
        f"the supervised loss is normalised differently: {SUPERVISED}"
    )


def test_the_engine_inside_the_process_is_asked_at_one_place_and_emptied_with_new_weights() -> None:
    from trl.generation.vllm_generation import VLLMGeneration

    assert source(VLLMGeneration.generate).count("self.llm.generate(") == 1, (
        "hits of the prefix cache are counted there: adapt training/engine_cache.py"
    )
    text = source(VLLMGeneration.sync_weights)
    assert text.index("load_weights(") < text.index("self.llm.reset_prefix_cache()"), (
        "the prefix cache would serve what older weights computed"
    )
