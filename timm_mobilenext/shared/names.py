""" Names of models, which timm knows and which are ours, of classes, and of repositories"""
import re
import warnings
from importlib.util import find_spec
from typing import Any, Callable, List, Optional, Tuple
from urllib.parse import unquote

from ..version import wrong_timm
from .errors import first_line, shown, UserError

__all__ = [
    'check_model', 'create_empty', 'in_timm', 'is_ours', 'list_ours', 'name_classes', 'refused_size',
    'split_repository',
]


def list_ours() -> List[str]:
    """ Names of all MobileNeXt models that the installed timm can make, without tags.

    Raises:
        UserError: If the installed timm cannot have them.
    """
    import timm

    # timm may come to have a module of that name too
    ours = [name for name in timm.list_models(module='mobilenext')
            if timm.models.model_entrypoint(name).__module__.startswith('timm_mobilenext.')]
    if not ours:  # a warning has told why
        raise UserError(wrong_timm(timm.__version__, 'the models are not registered'))
    if find_spec('timm.layers.coord_attn') is None:  # which came with timm 1.0.23
        ours = [name for name in ours if not name.endswith('_ca')]
    return ours


def is_ours(name: str) -> bool:
    """ Whether a model, named without a tag, is a MobileNeXt."""
    return name in list_ours()


def in_timm(name: str) -> str:
    """ Name by which timm knows weights: ours have a second, where timm has a model of its own by the first."""
    from timm.models import is_model_pretrained

    model, dot, tag = name.partition('.')
    second = f'{model}_plugin{dot}{tag}'
    return second if is_model_pretrained(second) and not is_model_pretrained(name) else name


def check_model(name: str) -> None:
    """ Raise a UserError that suggests similar names if timm does not have this model."""
    import timm

    if not timm.is_model(name):
        if name.startswith('mobilenext'):
            list_ours()  # says so if the installed timm cannot have them
        from difflib import get_close_matches

        # without underscores, which are what people get wrong
        names = {model.replace('_', ''): model for model in timm.list_models()}
        near = [names[match] for match in get_close_matches(shown(name).replace('_', '').lower(), names, n=3)]
        hint = f'did you mean {" or ".join(near)}?' if near else 'timm.list_models() lists them.'
        raise UserError(f'timm has no model {shown(name)!r}: {hint}')


def create_empty(name: str, **kwargs: Any) -> Any:
    """ Create a network of timm without weights, for its names and shapes."""
    import torch

    import timm

    try:
        with torch.device('meta'), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # the network that is used gives the same warnings
            return timm.create_model(name, **kwargs)
    except NotImplementedError:  # RegNet in an older timm computes with tensors while it is built
        return timm.create_model(name, **kwargs)


def name_classes(model: Any) -> Callable[[int], str]:
    """ Function that names the classes of a model: by its own names, ImageNet's, or their numbers."""
    names = model.pretrained_cfg.get('label_names')
    if names:
        # JSON makes the numbers of a dict strings
        own = {int(i): str(name) for i, name in (names.items() if isinstance(names, dict) else enumerate(names))}
        descriptions = model.pretrained_cfg.get('label_descriptions')
        if not isinstance(descriptions, dict):
            descriptions = {}
        return lambda index: str(descriptions.get(own.get(index), own.get(index, f'class {index}')))
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(model)
    if subset:
        info = ImageNetInfo(subset)
        # the first of its synonyms
        return lambda index: info.index_to_description(index).partition(',')[0]
    return lambda index: f'class {index}'


def refused_size(name: str, img_size: int, error: Exception, other: str = 'another model') -> str:
    """ End of a sentence on a model that fails on images of a size: why, and what to change."""
    import timm

    cfg: Any = timm.get_pretrained_cfg(name)
    made_for = cfg.input_size[-1] if cfg is not None and cfg.input_size else img_size
    advice = f'an image size of {made_for}, which it is made for, or ' if made_for != img_size else ''
    reason = f' ({shown(first_line(error)).rstrip(".")})' if str(error).strip() else ''  # an assertion may say nothing
    return f'of {img_size} pixels{reason}: give {advice}{other}.'


def split_repository(name: str) -> Tuple[str, Optional[str]]:
    """ Read a repository's name as people paste it: user/name, user/name@revision, hf-hub:user/name, or an address.

    Returns:
        user/name, and the revision if there is one. The Hub checks the rest.

    Raises:
        UserError: If this does not name a repository.
    """
    address = re.match(r'(?:https?://[^/]+|(?:www\.)?huggingface\.co|hf\.co|hf:/)/(.+)', name)
    if address:
        path = re.split(r'[?#]', address[1])[0].strip('/')
        # of a file too, whose page lies behind its revision
        parts = re.fullmatch(r'([^/]+/[^/@]+)(?:/(?:tree|blob|resolve|commit)/(refs/pr/\d+|[^/]+).*|@(.+))?', path)
        repo_id, revision = (parts[1], unquote(parts[2] or parts[3] or '')) if parts else (path, None)
    else:
        repo_id, _, revision = re.sub('^hf[-_]hub:', '', name).partition('@')
    if repo_id.count('/') != 1:
        raise UserError(f'{shown(name)!r} does not name a repository: give user/name.')
    return repo_id, revision or None
