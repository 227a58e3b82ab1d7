"""What every executor offers: start cells as processes, look after them, stop them."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from longact_cli.cells import CellDir

# Exit code of a cell's process that found the cell in another process's hands (EX_TEMPFAIL).
EXIT_HELD = 75
# No exit code of a process: the job is gone and has not said how it ended.
EXIT_LOST = 256


class Handle(Protocol):
    """A started cell."""

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs or waits."""

    def terminate(self) -> None:
        """Ask the cell and all its children to stop."""

    def kill(self) -> None:
        """Stop the cell and all its children at once."""


class Executor(Protocol):
    """Runs cells somewhere."""

    @property
    def slots(self) -> int:
        """How many cells may run, or wait for a machine, at the same time."""

    def start(self, directory: CellDir) -> Handle:
        """Start the cell in `directory` and return at once."""


@runtime_checkable
class DetachedExecutor(Executor, Protocol):
    """Hands cells to a cluster, where they wait for resources and then run."""

    @property
    def name(self) -> str:
        """The executor's name in the configuration."""

    @property
    def outlives(self) -> bool:
        """Whether cells go on after the process that handed them over has ended."""

    def start_together(self, directories: Sequence[CellDir]) -> Sequence[Handle]:
        """Hand several cells over in as few jobs as possible; one handle for each."""

    def attach(self, directory: CellDir) -> Handle | None:
        """Return the handle of a cell that an earlier process handed over; None if it ended."""
