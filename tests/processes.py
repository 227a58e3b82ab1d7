"""Processes of this machine, found by their command line and held still while something happens."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


def processes(*words: str) -> list[int]:
    """The ids of all processes whose command line has these words.

    A child that has yet to become another program still has its parent's; it is left out.
    """
    parents = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            parent = (path.parent / "stat").read_text().rsplit(")", 1)[1].split()[1]
        except OSError:
            continue
        if all(word in text for word in words):
            parents[int(path.parent.name)] = int(parent)
    return [process for process, parent in parents.items() if parent not in parents]


@contextmanager
def suspended(found: Sequence[int]) -> Iterator[Sequence[int]]:
    """Keep these processes from going on while the block runs: a fast machine would be done."""
    for process in found:
        os.kill(process, signal.SIGSTOP)
    try:
        yield found
    finally:
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def told_to_end(process: int) -> bool:
    """Whether a suspended process has been sent SIGTERM; it may have been woken up for it."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return True
    facts = dict(line.split(":", 1) for line in lines)
    pending = int(facts["ShdPnd"], 16) | int(facts["SigPnd"], 16)
    return not facts["State"].strip().startswith("T") or bool(pending >> (signal.SIGTERM - 1) & 1)
