"""Names to implementations, with a helpful answer to a wrong name."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Generic, TypeVar

from longact_cli.errors import UnknownNameError

T = TypeVar("T")


def unknown_name(key: str, name: str, allowed: Iterable[str]) -> UnknownNameError:
    """Build the error for a name outside `allowed`, with the closest allowed one.

    Args:
        key: The setting that carried the name, e.g. `mask.strategy`.
        name: The unknown name.
        allowed: All known names.
    """
    names = sorted(allowed)
    close = get_close_matches(name, names, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return UnknownNameError(f"{key} is '{name}'; it must be one of: {', '.join(names)}.{hint}")


class Registry(Generic[T]):
    """A named set of implementations of one kind."""

    def __init__(self, key: str) -> None:
        """Create an empty registry; `key` is the setting that selects from it."""
        self._key = key
        self._items: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that adds its target under `name`.

        Raises:
            ValueError: The name is taken.
        """

        def add(item: T) -> T:
            if name in self._items:
                raise ValueError(f"{self._key} '{name}' is registered twice")
            self._items[name] = item
            return item

        return add

    def get(self, name: str) -> T:
        """Return the implementation called `name`.

        Raises:
            UnknownNameError: There is none.
        """
        if name not in self._items:
            raise unknown_name(self._key, name, self._items)
        return self._items[name]

    def names(self) -> tuple[str, ...]:
        """Return all names, sorted."""
        return tuple(sorted(self._items))
