""" Version of this package and the timm releases that its tests run on"""
import sys
from typing import Optional

__version__ = '0.1.0'

# pip installs from here: no registry has the package yet, so anyone could take its name there
SOURCE = 'git+https://github.com/timm-mobilenext/timm-mobilenext'

# oldest and newest timm release on which the model tests pass
TIMM_OLDEST = '1.0.21'
TIMM_NEWEST = '1.0.31'


def wrong_timm(version: str, reason: object) -> str:
    """ What to say of a timm that this package does not work with."""
    return (
        f'timm-mobilenext does not work with the installed timm {version} ({reason}).'
        f' Supported are timm {TIMM_OLDEST} to {TIMM_NEWEST}: pip install "timm=={TIMM_NEWEST}".')


def blame_timm(error: BaseException) -> Optional[str]:
    """ What to say of an error if the installed timm is its cause, None if it is not.

    A timm may lack what is imported here, and may be so old that its own import fails under the torch of today.
    """
    from re import findall
    from traceback import walk_tb

    # where the import of timm failed, only its modules that were imported before that are left
    timm = sys.modules.get('timm.version') or sys.modules.get('timm')
    version = getattr(timm, '__version__', None)
    if version is None:
        return None
    lacks = isinstance(error, ImportError) and (error.name or '').partition('.')[0] == 'timm'
    numbers, oldest = ([int(number) for number in findall(r'\d+', text)[:3]] for text in (version, TIMM_OLDEST))
    fails = numbers < oldest and any(
        frame.f_code.co_name == '<module>' and frame.f_globals.get('__name__', '').partition('.')[0] == 'timm'
        for frame, _ in walk_tb(error.__traceback__))
    return wrong_timm(version, str(error).partition('\n')[0]) if lacks or fails else None
