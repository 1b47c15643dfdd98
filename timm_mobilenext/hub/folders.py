""" Hub folders: config.json, model.safetensors and a README.md, for `local-dir:` and for the Hugging Face Hub

What is written is checked by loading it back. What comes from elsewhere is read without trust.
"""
import json
import shutil
from contextlib import contextmanager
from filecmp import cmp
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Dict, Iterator, List, Optional, Type

import torch
from safetensors.torch import save_file

import timm
from timm.models import save_for_hf

from ..checkpoints.convert import load_into
from ..checkpoints.read import read_checkpoint, select_state_dict
from ..shared.errors import first_line, shown, UserError
from ..shared.files import tidy
from ..shared.names import is_ours, list_ours
from ..shared.parsing import parse
from ..version import __version__, SOURCE

__all__ = [
    'check_architecture', 'check_cfg', 'check_hub_folder', 'copy_hub_folder', 'load_hub_folder', 'logits_of',
    'ONNX_FILES', 'read_config', 'reload_difference', 'save_hub_folder', 'WEIGHTS',
]

WEIGHTS = ('model.safetensors', 'pytorch_model.bin')
# a folder in the folder, for transformers.js and ONNX Runtime
ONNX_FILES = tuple(f'onnx/{name}' for name in (
    'config.json', 'model.onnx', 'model_fp16.onnx', 'model_int8.onnx', 'preprocessor_config.json'))
_FILES = {'config.json', *WEIGHTS, 'README.md', *ONNX_FILES}
_MAX_SIZE = 4096  # pixels of a side: an image of a stranger's config.json has to fit into memory


def check_hub_folder(folder: Path, new: Optional[Path] = None) -> None:
    """ Make sure that nothing but a Hub folder would be replaced.

    Args:
        folder: Folder that will be replaced.
        new: Folder that will replace it. Files that are the same in both may be replaced too.

    Raises:
        UserError: If `folder` is a file, holds anything else, or is the current folder or one around it.
    """
    if Path.cwd().is_relative_to(folder.resolve()):
        raise UserError(f'{folder} is the current folder or one around it: give a folder of its own.')
    tidy(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f'{folder} is a file: give a folder.')
    for file in sorted(folder.rglob('*')):
        path = file.relative_to(folder)
        is_own = path.as_posix() in _FILES or new and (new / path).is_file() and cmp(file, new / path, shallow=False)
        if not (is_own or file.is_dir()):
            raise UserError(f'{folder} would be replaced, but {path} is not part of a Hub folder: move it away.')


def save_hub_folder(
        folder: Path,
        model: Any,
        card: str,
        label_names: Optional[List[str]] = None,
        model_args: Optional[Dict[str, Any]] = None,
        pickle: Optional[bool] = None,
) -> None:
    """ Save a model, with what timm needs to create it and a model card.

    Args:
        folder: Folder to write to.
        model: Model of timm. Its `pretrained_cfg` says how it is used.
        card: The model card, README.md.
        label_names: Classes, in the order of the logits.
        model_args: Arguments that the model was created with, for a timm that does not record them.
        pickle: Write pytorch_model.bin beside model.safetensors. If None, write it where this timm can load no other
            file from a folder.
    """
    safe: Any = 'both' if (_needs_pickle() if pickle is None else pickle) else True
    model_config = dict(label_names=label_names) if label_names else {}
    with _distinct_tensors(model):
        save_for_hf(model, str(folder), model_config=model_config, model_args=model_args, safe_serialization=safe)
    _write_texts(folder, read_config(folder), card)


@contextmanager
def _distinct_tensors(model: Any) -> Iterator[None]:
    """ Give each tensor of a model's state dict memory of its own: safetensors refuses layers that share theirs."""
    def copy(module: Any, state_dict: Dict[str, Any], prefix: str, metadata: Any) -> None:
        if not prefix:
            state_dict.update({key: value.clone() for key, value in state_dict.items()})

    handle = model._register_state_dict_hook(copy)
    try:
        yield
    finally:
        handle.remove()


def copy_hub_folder(
        source: Path,
        folder: Path,
        model: Any,
        card: str,
        label_names: Optional[List[str]] = None,
        pickle: bool = False,
) -> None:
    """ Copy a Hub folder, with another card. A stranger's pickle is not copied.

    Args:
        source: Folder to copy.
        folder: Folder to write to.
        model: The folder's model, as `load_hub_folder` returns it.
        card: The model card, README.md.
        label_names: Classes, in the order of the logits. If None, those of `source` stay.
        pickle: Write pytorch_model.bin beside model.safetensors.
    """
    config = read_config(source)
    if label_names:
        config['label_names'] = label_names
    folder.mkdir(parents=True, exist_ok=True)
    _write_texts(folder, config, card)
    safe, unsafe = (folder / name for name in WEIGHTS)
    if (source / safe.name).is_file():
        shutil.copyfile(source / safe.name, safe)
    else:
        with _distinct_tensors(model):
            save_file(model.state_dict(), safe)
    if pickle:
        torch.save(model.state_dict(), unsafe)


def _write_texts(folder: Path, config: Dict[str, Any], card: str) -> None:
    # the root of config.json has it too, and transformers would pass it twice and fail
    (config.get('model_args') or {}).pop('num_classes', None)
    (folder / 'config.json').write_text(json.dumps(config, indent=2) + '\n', encoding='utf-8')
    # a card may name files and classes, and not every name of a file is UTF-8
    (folder / 'README.md').write_text(card, encoding='utf-8', errors='backslashreplace')


def _needs_pickle() -> bool:
    """ Whether the `local-dir:` of this timm cannot read safetensors."""
    return tuple(map(int, timm.__version__.split('.')[:3])) < (1, 0, 29)


def read_config(folder: Path) -> Dict[str, Any]:
    """ Read config.json of a Hub folder.

    Raises:
        UserError: If there is none, or if timm cannot read it.
    """
    file = folder / 'config.json'
    if not file.is_file():
        raise UserError(f'{folder} has no config.json to name its network: give a folder that timm saved.')
    try:
        config = parse(json.loads, file.read_text(encoding='utf-8'))
    except ValueError as e:  # of UTF-8 or of JSON
        raise UserError(f'{file} is damaged, it is not JSON: {shown(str(e))}.') from None
    if not isinstance(config, dict) or not isinstance(config.get('architecture'), str):
        raise UserError(f'{file} names no architecture, so it does not describe a model of timm.')
    return config


def check_architecture(name: str) -> None:
    """ Raise a UserError that says what to install if timm has no such model."""
    if timm.is_model(name):
        return
    if name.startswith('mobilenext'):
        list_ours()  # says so if the installed timm cannot have them
        remedy = f'it may need a newer timm-mobilenext than {__version__}: pip install --upgrade {SOURCE}'
    else:
        remedy = 'pip install --upgrade timm, or install the plugin of timm that has it.'
    raise UserError(f'timm {timm.__version__} has no model {shown(name)!r}: {remedy}')


def load_hub_folder(folder: Path) -> Any:
    """ Load a Hub folder that anyone may have written, and check every weight of it.

    Returns:
        Model in evaluation mode.

    Raises:
        UserError: If the folder does not hold a model of timm, or if its weights are damaged or of another network.
    """
    architecture = read_config(folder)['architecture']
    check_architecture(architecture)
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise UserError(f'{folder} has no weights, neither {" nor ".join(WEIGHTS)}.')
    state_dict, _ = select_state_dict(read_checkpoint(weights))
    # timm sees only what has been read here: an older one would unpickle a file beside it
    with TemporaryDirectory(prefix='timm-mobilenext-') as temporary:
        own = Path(temporary)
        shutil.copyfile(folder / 'config.json', own / 'config.json')
        with _blaming(folder, own):
            model: Any = timm.create_model(f'local-dir:{own}').eval()
        with _blaming(folder, own, UserError):
            check_cfg(model)
            if not is_ours(architecture):  # older weights of timm have buffers that its models no longer have
                state_dict = {key: value for key, value in state_dict.items() if key in model.state_dict()}
            # timm would adapt a stem and leave a classifier random, and the user would not know
            load_into(model, state_dict)
        with _distinct_tensors(model):
            save_file(model.state_dict(), own / WEIGHTS[0])
        if _needs_pickle():
            torch.save(model.state_dict(), own / WEIGHTS[1])
        with _blaming(folder, own):
            reload_difference(own, model, logits_of(model))
    return model


@contextmanager
def _blaming(folder: Path, own: Path, error_type: Type[Exception] = Exception) -> Iterator[None]:
    """ Say that a folder cannot be used. By default this holds for any error: a stranger's config.json may cause it."""
    try:
        yield
    except error_type as e:
        reason = first_line(e).rstrip('.').replace(str(own), str(folder))
        reason = reason if isinstance(e, UserError) else shown(reason)
        raise UserError(f'{folder} does not hold a model that can be used: {reason}.') from e


def check_cfg(model: Any) -> None:
    """ Raise a UserError if a pretrained_cfg says of images or classes what cannot be."""
    cfg = model.pretrained_cfg
    size = cfg.get('input_size')
    if not (_is_list(size, int, 3) and all(0 < n <= _MAX_SIZE for n in size)):
        raise UserError(f'input_size {shown(size)} is not channels, height and width')
    for key in ('mean', 'std'):
        if not _is_list(cfg.get(key), (int, float), size[0]):
            raise UserError(f'{key} {shown(cfg.get(key))} is not a number for each of {size[0]} channels')
    names = cfg.get('label_names')
    if names is not None and not (isinstance(names, (list, tuple, dict)) and len(names) == model.num_classes):
        count = len(names) if isinstance(names, (list, tuple, dict)) else 'no'
        raise UserError(f'config.json names {count} classes of {model.num_classes}')


def _is_list(value: Any, kind: Any, length: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == length and all(isinstance(item, kind) for item in value)


@torch.inference_mode()
def logits_of(model: Any) -> torch.Tensor:
    """ Logits of two random images."""
    return model(torch.randn(2, *model.pretrained_cfg['input_size'], generator=torch.Generator().manual_seed(0)))


def reload_difference(folder: Path, model: Any, expected: torch.Tensor) -> float:
    """ Load a Hub folder as any user of timm would.

    Args:
        folder: The folder.
        model: Model that was saved there.
        expected: Its `logits_of`.

    Returns:
        Largest difference of the logits.

    Raises:
        UserError: If it is not the model that was saved.
    """
    reloaded: Any = timm.create_model(f'local-dir:{folder.resolve()}', pretrained=True).eval()
    reloaded.pretrained_cfg['input_size'] = model.pretrained_cfg['input_size']
    difference = (logits_of(reloaded) - expected).abs().max().item()
    if not difference <= 1e-5 * max(1., expected.abs().max().item()):
        raise UserError(
            f'{folder} is not the model that was saved: loaded back, its logits differ by {difference:.2g}.')
    return difference
