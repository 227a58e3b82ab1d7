"""Real child processes that stand in for cells: they own, fail, sleep and finish, nothing else."""

import subprocess
import sys
import textwrap
from dataclasses import dataclass

from longact_cli.cells import cell_dir
from longact_cli.execution.local import LocalHandle

SCRIPT = """
import sys, time
from dataclasses import replace
from pathlib import Path
from longact_cli.cells import (
    CellDir,
    is_done,
    mark_done,
    read_cell,
    read_status,
    write_status,
)
from longact_cli.holding import hold
from longact_cli.errors import CellHeldError

def run(directory):
    (directory.path / "runs.txt").open("a").write("x")
    BODY
    mark_done(directory)

directory = CellDir(Path(sys.argv[1]))
try:
    with hold(directory):
        if not is_done(directory):
            run(directory)
        write_status(directory, replace(read_status(directory), state="done"))
except CellHeldError:
    sys.exit(75)
"""


@dataclass
class ScriptExecutor:
    """Runs the same script for every cell."""

    body: str = "pass"
    slots: int = 2
    running: int = 0
    most: int = 0

    def start(self, directory):
        script = SCRIPT.replace("    BODY", textwrap.indent(textwrap.dedent(self.body), "    "))
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(directory.path)],
            stdin=subprocess.PIPE,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )
        return LocalHandle(process, process.stdin)


def times_run(plan, runs):
    paths = [cell_dir(runs, cell.digest).path / "runs.txt" for cell in plan.cells]
    return [len(path.read_text()) if path.exists() else 0 for path in paths]
