""" Names of models: which timm knows, and which are ours"""
from typing import List

from .errors import shown, UserError

__all__ = ['check_model', 'is_ours', 'list_ours']


def list_ours() -> List[str]:
    """ Names of all MobileNeXt models."""
    import timm

    return timm.list_models(module='mobilenext')


def is_ours(name: str) -> bool:
    """ Whether a model, named without a tag, is one of MobileNeXt."""
    return name in list_ours()


def check_model(name: str) -> None:
    """ Raise a UserError that names near misses if timm has no such model."""
    import timm

    if not timm.is_model(name):
        from difflib import get_close_matches

        near = get_close_matches(name, timm.list_models(), n=3)
        hint = f'did you mean {" or ".join(near)}?' if near else 'timm.list_models() lists them.'
        raise UserError(f'timm has no model {shown(name)!r}: {hint}')
