""" Errors that a user can mend"""
from typing import Any

__all__ = ['first_line', 'shown', 'UserError']

_MAX_SHOWN = 200  # characters of a value that a message repeats


class UserError(ValueError, RuntimeError):
    """ What a user can mend: a line or two with what was given, what was expected, and what to do.

    Everything else that ends a command is a bug of ours. It is both a ValueError and a RuntimeError, so that code which
    waits for either catches it.
    """


def first_line(error: BaseException) -> str:
    """ First line of what an error says, or its type if it says nothing."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def shown(value: Any) -> str:
    """ A value as a message repeats it, cut where it is long."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _MAX_SHOWN else f'{text[:_MAX_SHOWN]}… ({len(text):,} characters)'
