"""Which cells a person has called off, seen by every process that shares the store."""

from pathlib import Path


class CellsCancelled:
    """The names of cells that a person has called off, files in a folder of the store."""

    def __init__(self, runs_dir: Path) -> None:
        """Look into the store `runs_dir`."""
        self._folder = runs_dir / "cancelled"

    def names(self) -> frozenset[str]:
        """Return the directory names of all cancelled cells."""
        if not self._folder.is_dir():
            return frozenset()
        return frozenset(path.name for path in self._folder.iterdir())

    def add(self, name: str) -> None:
        """Call a cell off."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / name).touch()

    def discard(self, name: str) -> None:
        """Let a cell run again."""
        (self._folder / name).unlink(missing_ok=True)
