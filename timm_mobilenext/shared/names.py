""" Names of models, which timm knows and which are ours, and of repositories"""
import warnings
from typing import Any, List

from ..version import wrong_timm
from .errors import shown, UserError

__all__ = ['check_model', 'check_repository', 'create_empty', 'is_ours', 'list_ours']


def list_ours() -> List[str]:
    """ Names of all MobileNeXt models, without tags.

    Raises:
        UserError: If the installed timm cannot have them.
    """
    import timm

    ours = timm.list_models(module='mobilenext')
    if not ours:  # a warning has told why
        raise UserError(wrong_timm(timm.__version__, 'the models are not registered'))
    return ours


def is_ours(name: str) -> bool:
    """ Whether a model, named without a tag, is a MobileNeXt."""
    return name in list_ours()


def check_model(name: str) -> None:
    """ Raise a UserError that suggests similar names if timm does not have this model."""
    import timm

    if not timm.is_model(name):
        from difflib import get_close_matches

        near = get_close_matches(shown(name), timm.list_models(), n=3)
        hint = f'did you mean {" or ".join(near)}?' if near else 'timm.list_models() lists them.'
        raise UserError(f'timm has no model {shown(name)!r}: {hint}')


def create_empty(name: str, **kwargs: Any) -> Any:
    """ Create a network of timm without weights, for its names and shapes."""
    import torch

    import timm

    try:
        with torch.device('meta'), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # what a network warns of is told where it is made to be used
            return timm.create_model(name, **kwargs)
    except NotImplementedError:  # RegNet in an older timm computes with tensors while it is built
        return timm.create_model(name, **kwargs)


def check_repository(repo_id: str) -> None:
    """ Raise a UserError if this is not of the form user/name. The Hub checks the rest."""
    if repo_id.count('/') != 1:
        raise UserError(f'{shown(repo_id)!r} does not name a repository: give user/name.')
