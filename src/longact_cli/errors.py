"""The errors a user can cause or meet; each prints as one line and maps to one exit code."""


class LongActError(Exception):
    """Base of all errors with a message written for the user."""

    exit_code = 1


class ConfigError(LongActError):
    """A setting is wrong; the message names the key, the value, what is allowed and what to do."""

    exit_code = 2


class UnknownNameError(ConfigError):
    """A name is not in its registry; the message offers the closest one."""


class TooShortError(ConfigError):
    """Not even the shortest prompt of one sample fits its context length."""


class NotFoundError(LongActError):
    """A run, cell or result that was asked for does not exist."""

    exit_code = 3


class PrerequisiteError(LongActError):
    """The environment lacks something; the message says how to get it."""

    exit_code = 4


class CellFailedError(LongActError):
    """A cell ended without its result."""


class CellHeldError(LongActError):
    """A cell is being run by another live process."""


class DamagedFileError(LongActError):
    """A file of a store holds something else than was once written to it."""


class CellStoppedError(LongActError):
    """A cell was asked to stop and has; it can go on from there."""

    exit_code = 143
