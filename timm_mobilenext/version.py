""" Version of this package and the timm releases that its tests run on"""
__version__ = '0.1.0'

# oldest and newest timm release on which the model tests pass
TIMM_OLDEST = '1.0.21'
TIMM_NEWEST = '1.0.31'


def wrong_timm(version: str, reason: object) -> str:
    """ What to say of a timm that this package does not work with."""
    return (
        f'timm-mobilenext does not work with the installed timm {version} ({reason}).'
        f' Supported are timm {TIMM_OLDEST} to {TIMM_NEWEST}: pip install "timm=={TIMM_NEWEST}".')
