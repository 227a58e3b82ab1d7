"""Continuing a cell by name: only with the configuration it was started with."""

from pathlib import Path

from longact_cli.cells import list_cells, read_cell
from longact_cli.errors import ConfigError, NotFoundError
from longact_cli.plan import Cell, differing_keys

_SHORTEST = 6


def find_cell(runs_dir: Path, digest: str) -> Cell:
    """Return the stored cell whose digest starts with `digest`.

    Raises:
        NotFoundError: There is none, or more than one.
    """
    found = [entry for entry in list_cells(runs_dir) if entry.path.name.startswith(digest[:12])]
    if len(digest) < _SHORTEST or len(found) != 1:
        raise NotFoundError(
            f"'{digest}' names {len(found)} cells in {runs_dir}; give at least {_SHORTEST} "
            "characters of one digest: `longact status` lists them"
        )
    return read_cell(found[0])


def check_same(cell: Cell, runs_dir: Path, digest: str) -> None:
    """Refuse to continue a stored cell with another configuration.

    Raises:
        ConfigError: The configurations differ; the keys and both values are named.
    """
    stored = find_cell(runs_dir, digest)
    if stored.digest == cell.digest:
        return
    keys = "; ".join(differing_keys(stored.config, cell.config)) or "model weights differ"
    raise ConfigError(
        f"--resume {digest} was started with another configuration ({keys}); give the same "
        "options as then, or leave --resume out to start a new run"
    )
