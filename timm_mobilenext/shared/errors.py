""" Errors that a user can mend"""
from typing import Any

__all__ = ['first_line', 'shown', 'UserError']

_MAX_SHOWN = 200  # characters of a value that a message repeats


class UserError(ValueError, RuntimeError):
    """ What a user can mend. The message is a line or two: what was given, what was expected, and what to do.

    Any other error that ends a command is a bug of ours. A UserError is both a ValueError and a RuntimeError, so that
    code which waits for either catches it.
    """


def first_line(error: BaseException) -> str:
    """ First line of an error's message, or the error's type if there is no message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def shown(value: Any, max_length: int = _MAX_SHOWN) -> str:
    """ A value as a message repeats it: cut if it is long.

    Args:
        value: Text, or anything that has a repr.
        max_length: Characters that are kept.
    """
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= max_length else f'{text[:max_length]}… ({len(text):,} characters)'
