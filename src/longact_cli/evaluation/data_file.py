"""Find a benchmark's data: in a local folder, or on the hub."""

from pathlib import Path
from typing import NamedTuple

from longact_cli.errors import ConfigError, PrerequisiteError


class DataSource(NamedTuple):
    """Where a benchmark's files come from."""

    benchmark: str
    hub_id: str
    data_dir: str | None = None
    """Local folder with the files, or with a subfolder named like the benchmark; None = the hub."""


def find_data_file(name: str, source: DataSource) -> Path:
    """Return the local path of a data file, after a download where no folder is given.

    Raises:
        ConfigError: It is not in the given folder; the message says where to get it.
        PrerequisiteError: It cannot be downloaded.
    """
    if source.data_dir is None:
        return _download(name, source)
    folder = Path(source.data_dir).expanduser()
    for path in (folder / source.benchmark / name, folder / name):
        if path.is_file():
            return path
    raise ConfigError(
        f"benchmark.data_dir is {folder}; {folder / name} is missing; {source.benchmark} needs "
        f"it: download it from https://huggingface.co/datasets/{source.hub_id} into that folder"
    )


def _download(name: str, source: DataSource) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(source.hub_id, name, repo_type="dataset"))
    except (OSError, ValueError) as error:
        raise PrerequisiteError(
            f"{name} of {source.hub_id} could not be downloaded ({type(error).__name__}); download "
            f"it from https://huggingface.co/datasets/{source.hub_id} and name its folder with "
            "benchmark.data_dir (--data-dir)"
        ) from None
