"""Who wants to know what a run of a plan does."""

from collections.abc import Sequence
from typing import Protocol

from longact_cli.cells import Status
from longact_cli.plan import Cell


class Listener(Protocol):
    """Is told what happens to the cells; must not raise."""

    def changed(self, cell: Cell, status: Status) -> None:
        """Take note that a cell has a new state."""

    def tick(self, running: Sequence[Cell]) -> None:
        """Use a moment while cells run, a few times each second."""

    def stopping(self) -> None:
        """Take note that the user has asked all cells to stop, which may take a while."""
