"""Run a command that ends when the process that asked for it ends, however that one ends.

Usage: python -m longact_cli.execution.leash PARENT COMMAND..., in a session of its own: the command
and all that it starts are one process group, which is killed as soon as PARENT is gone.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO

_WATCH_SECONDS = 0.2


def die_with(parent: int) -> None:
    """Kill this process group once `parent`, the process that started this one, is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="parent").start()


class Leashed:
    """A command on a leash."""

    def __init__(
        self, command: Sequence[str], *, log: IO[bytes], environment: dict[str, str]
    ) -> None:
        """Start `command`; all that it prints goes to `log`."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process group."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._process.poll()

    def stop(self, grace_seconds: float) -> None:
        """Ask the whole group to end; kill what is left after the grace time."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                return
            deadline = time.monotonic() + grace_seconds
            while time.monotonic() < deadline and self._group_lives():
                time.sleep(_WATCH_SECONDS)

    def _group_lives(self) -> bool:
        self._process.poll()
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


def main() -> int:
    """Run the command of the arguments and return its exit code."""
    die_with(int(sys.argv[1]))
    # The command gets the group's signals itself; this process waits for it.
    signal.signal(signal.SIGTERM, lambda *_: None)
    return subprocess.call(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
