"""What the machine does while a cell runs: load and memory of its processes, and of its GPUs."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil

from longact_cli.files import append_lines, write_bytes

_MEGABYTE = 1 << 20
# The pause grows with the age of the run: a week leaves some 2,000 samples.
_FIRST_SECONDS = 10.0
_SHARE = 1 / 360


@contextmanager
def sampling(path: Path, *, seconds: float = _FIRST_SECONDS) -> Iterator[None]:
    """Append samples to `path` while the block runs; a disk that is full ends that, not the block.

    Args:
        path: JSON Lines, one sample per line, `time` in seconds since the epoch.
        seconds: Time between samples at first; later it is a share of the time spent.
    """
    stop = threading.Event()
    thread = threading.Thread(
        target=_sample, args=(path, seconds, stop), daemon=True, name="system"
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=5.0)


def _sample(path: Path, seconds: float, stop: threading.Event) -> None:
    with suppress(OSError):
        _drop_torn_line(path)
        started = time.monotonic()
        process = psutil.Process()
        process.cpu_percent()
        while not stop.wait(max(seconds, _SHARE * (time.monotonic() - started))):
            append_lines(path, [{"time": time.time(), **_processes(process), **_gpus()}])


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line that a crash left without its end; a new one would be glued to it."""
    data = path.read_bytes() if path.exists() else b""
    if data and not data.endswith(b"\n"):
        write_bytes(path, data[: data.rfind(b"\n") + 1])


def _processes(process: psutil.Process) -> dict[str, float]:
    """Return load and memory of this process and its children."""
    memory = process.memory_info().rss
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            memory += child.memory_info().rss
    return {
        "process_cpu_percentage": process.cpu_percent(),
        "process_memory_megabytes": memory / _MEGABYTE,
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_percentage": psutil.virtual_memory().percent,
    }


def _gpus() -> dict[str, float]:
    """Return load and memory of the GPUs this process may see; nothing without their library."""
    if find_spec("pynvml") is None:
        return {}
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    found: dict[str, float] = {}
    for index in _visible(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        load = pynvml.nvmlDeviceGetUtilizationRates(handle)
        found[f"gpu_{index}_utilization_percentage"] = float(load.gpu)
        found[f"gpu_{index}_memory_usage_megabytes"] = memory.used / _MEGABYTE
    return found


def _visible(count: int) -> tuple[int, ...]:
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return tuple(range(count))
    return tuple(int(name) for name in listed.split(",") if name.isdecimal() and int(name) < count)
