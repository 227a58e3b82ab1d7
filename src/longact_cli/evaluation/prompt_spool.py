"""Keep long prompts out of memory: a temporary file that only this process sees."""

import tempfile
import weakref
import zlib
from collections.abc import Callable
from functools import cached_property
from typing import IO

_FAST = 1


class PromptSpool:
    """Prompts, compressed, in a file that disappears with this object and its readers."""

    @cached_property
    def _file(self) -> IO[bytes]:
        file = tempfile.TemporaryFile()
        weakref.finalize(self, file.close)
        return file

    def add(self, prompt: str) -> Callable[[], str]:
        """Store a prompt and return the function that reads it back."""
        data = zlib.compress(prompt.encode("utf-8", "surrogatepass"), _FAST)
        start = self._file.seek(0, 2)
        self._file.write(data)
        return lambda: self._read(start, len(data))

    def _read(self, start: int, size: int) -> str:
        self._file.seek(start)
        return zlib.decompress(self._file.read(size)).decode("utf-8", "surrogatepass")
