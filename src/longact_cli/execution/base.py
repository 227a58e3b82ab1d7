"""What every executor offers: start a cell as a process, look after it, stop it."""

from typing import Protocol

from longact_cli.cells import CellDir

# Exit code of a cell's process that found the cell in another process's hands (EX_TEMPFAIL).
EXIT_HELD = 75


class Handle(Protocol):
    """A started cell."""

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""

    def terminate(self) -> None:
        """Ask the cell and all its children to stop."""

    def kill(self) -> None:
        """Stop the cell and all its children at once."""


class Executor(Protocol):
    """Runs cells somewhere."""

    @property
    def slots(self) -> int:
        """How many cells may run at the same time."""

    def start(self, directory: CellDir) -> Handle:
        """Start the cell in `directory` and return at once."""
