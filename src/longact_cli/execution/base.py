"""What every executor offers: start cells as processes, look after them, stop them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from longact_cli.cells import CellDir

# Exit code of a cell's process that found the cell in another process's hands (EX_TEMPFAIL).
EXIT_HELD = 75
# No exit code of a process: the job is gone and has not said how it ended.
EXIT_LOST = 256
# No exit code of a process: the job found that the training it needs is not done, and left.
EXIT_BLOCKED = 257


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


@dataclass(frozen=True)
class HandOver:
    """A cell for a cluster.

    Attributes:
        directory: The cell.
        after: The cell whose job must have ended before this one starts; None: it starts at once.
    """

    directory: CellDir
    after: CellDir | None = None


@runtime_checkable
class DetachedExecutor(Executor, Protocol):
    """Hands cells to a cluster, where they wait for resources and then run."""

    @property
    def name(self) -> str:
        """The executor's name in the configuration."""

    @property
    def outlives(self) -> bool:
        """Whether cells go on after the process that handed them over has ended."""

    @property
    def chains(self) -> bool:
        """Whether it takes cells before the training they need is done, and starts them then.

        Then a plan is handed over as a whole, and `slots` of its cells run at the same time.
        """

    def start_together(self, cells: Sequence[HandOver]) -> Sequence[Handle | None]:
        """Hand several cells over in as few jobs as possible; parents come before their children.

        Returns one handle for each; None where the cluster has no room for a cell now.
        """

    def attach(self, directory: CellDir) -> Handle | None:
        """Return the handle of a cell that an earlier process handed over; None if it ended."""
