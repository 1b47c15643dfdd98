""" A model with its weights, by its name: of timm, of a Hub folder, or of a repository on the Hub"""
from pathlib import Path
from typing import Any

import timm
from timm.models import get_deprecated_models, is_model_pretrained

from ..hub.folders import load_hub_folder, WEIGHTS
from ..hub.messages import plain_hub_errors
from ..hub.pull import download
from ..shared.errors import UserError
from ..shared.names import check_model, in_timm

__all__ = ['check_name', 'load_model']

_LOCAL, _HUB = 'local-dir:', ('hf-hub:', 'hf_hub:')  # as timm spells them


def check_name(name: str) -> None:
    """ Raise a UserError if this names neither a model of timm, nor a Hub folder, nor a repository."""
    if not name.startswith((_LOCAL, *_HUB)):
        check_model(name)


def load_model(name: str) -> Any:
    """ Load a model with its weights, in evaluation mode.

    Args:
        name: Model of timm, `local-dir:` and a Hub folder, or `hf-hub:` and a repository.

    Raises:
        UserError: If there are no weights or no classes, or if the weights cannot be loaded.
    """
    if name.startswith(_LOCAL):
        model = load_hub_folder(Path(name.removeprefix(_LOCAL)))
    elif name.startswith(_HUB):
        model = load_repository(name.partition(':')[2])
    else:
        model = load_pretrained(in_timm(get_deprecated_models().get(name) or name))
    if not model.num_classes:
        raise UserError(f'{name} has no classifier: give a model with classes.')
    return model


def load_pretrained(name: str) -> Any:
    """ Load a model of timm that has weights."""
    if not is_model_pretrained(name):
        tags = ', '.join(timm.list_pretrained(f'{name.partition(".")[0]}.*'))
        raise UserError(f'{name} has no weights: {f"give one of {tags}" if tags else "give a model that has"}.')
    cfg: Any = timm.get_pretrained_cfg(name)
    if not cfg.num_classes:  # before the weights are downloaded
        raise UserError(f'{name} has no classifier: give a model with classes.')
    if not cfg.hf_hub_id:
        return timm.create_model(name, pretrained=True).eval()
    with plain_hub_errors(cfg.hf_hub_id):
        return timm.create_model(name, pretrained=True).eval()


def load_repository(name: str) -> Any:
    """ Load a repository of the Hub, user/name or user/name@revision, with as little trust as any Hub folder."""
    folder = download(name, only=['config.json', *WEIGHTS])
    try:
        return load_hub_folder(folder)
    except UserError as e:
        raise UserError(str(e).replace(str(folder), name)) from e
