"""Where and how a command talks: to a person or to a script."""

import json
import sys
from dataclasses import dataclass
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from longact_cli.errors import LongActError
from longact_cli.redaction import redact

STATE_STYLES = {
    "done": "green",
    "running": "cyan",
    "failed": "red",
    "blocked": "yellow",
    "interrupted": "yellow",
    "pending": "dim",
}

# Wide enough for every table; a file or a pipe has no width of its own.
_PIPED_WIDTH = 160


@dataclass(frozen=True)
class Output:
    """How to talk: to a person (rich) or to a script (`json`), and how much."""

    json: bool = False
    quiet: bool = False
    color: bool = True
    verbose: bool = False

    @property
    def _no_color(self) -> bool | None:
        """What rich is told; None leaves it to NO_COLOR."""
        return None if self.color else True

    @property
    def out(self) -> Console:
        """Results go here."""
        width = None if sys.stdout.isatty() else _PIPED_WIDTH
        return Console(no_color=self._no_color, highlight=False, width=width)

    @property
    def err(self) -> Console:
        """Progress and errors go here."""
        return Console(stderr=True, no_color=self._no_color, highlight=False)

    def show(self, renderable: RenderableType) -> None:
        """Print a result for a person."""
        if not self.json:
            self.out.print(renderable, markup=False)

    def note(self, text: str) -> None:
        """Print a remark on standard error, unless told to be quiet."""
        if not self.json and not self.quiet:
            self.err.print(text, markup=False, soft_wrap=True)

    def complaint(self, text: str) -> None:
        """Print on standard error what went wrong, to a quiet user as well."""
        if not self.json:
            self.err.print(text, markup=False, soft_wrap=True)

    def detail(self, text: str) -> None:
        """Print a remark that only matters to someone who asked for more."""
        if self.verbose:
            self.note(text)

    def data(self, value: Any) -> None:
        """Print one JSON line for a script."""
        if self.json:
            sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
            sys.stdout.flush()

    def error(self, error: LongActError) -> None:
        """Print an error: one line for a person, or one object for a script."""
        if self.json:
            self.data({"error": redact(str(error)), "exit_code": error.exit_code})
            return
        self.err.print(Text.assemble(("error: ", "bold red"), redact(str(error))), soft_wrap=True)


def duration(seconds: float) -> str:
    """Return a time span as people write it, e.g. `3 min 20 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
