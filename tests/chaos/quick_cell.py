"""The process of a cell that takes a moment and leaves made-up results, the same every time."""

import sys
import time
from dataclasses import replace
from pathlib import Path

from longact_cli.cells import (
    CellDir,
    is_done,
    mark_done,
    read_cell,
    read_status,
    write_results,
    write_status,
)
from longact_cli.errors import CellHeldError
from longact_cli.execution.base import EXIT_HELD
from longact_cli.files import append_lines, write_json
from longact_cli.holding import hold
from synthetic_store import COMMIT, answers, results, rewards


def run(directory: CellDir) -> None:
    """Write what a real cell writes, slowly enough to be killed in the middle."""
    with (directory.path / "runs.txt").open("a") as stream:
        stream.write("x")
    for path in (directory.metrics, directory.samples, directory.done):
        path.unlink(missing_ok=True)
    cell = read_cell(directory)
    packages = {"trl": "1.16.0"}
    write_json(
        directory.provenance,
        {"longact": "0.1.0", "git_commit": COMMIT, "git_dirty": False, "packages": packages},
    )
    if cell.stage == "train":
        for point in rewards(cell, 0.5):
            append_lines(directory.metrics, [point._asdict()])
            time.sleep(0.02)
    else:
        found = answers(cell, 0.5)
        for sample in found:
            append_lines(directory.samples, [sample._asdict()])
        write_results(directory, results(found))


def main() -> int:
    """Run the cell in the folder that the command line names."""
    directory = CellDir(Path(sys.argv[1]))
    try:
        with hold(directory) as claim:
            if not is_done(directory):
                run(directory)
                claim.confirm()
                mark_done(directory)
            status = read_status(directory)
            write_status(directory, replace(status, state="done", finished=time.time(), error=None))
    except CellHeldError:
        return EXIT_HELD
    return 0


if __name__ == "__main__":
    sys.exit(main())
