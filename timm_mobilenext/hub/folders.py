""" Hub folders: config.json, model.safetensors and a README.md, for `local-dir:` and for the Hugging Face Hub

What is written is checked by loading it back, and what comes from elsewhere is read without trust.
"""
import json
import shutil
from filecmp import cmp
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Dict, List, Optional

import torch
from safetensors.torch import save_file

import timm
from timm.models import save_for_hf

from ..checkpoints.convert import check_state_dict, convert_state_dict
from ..checkpoints.read import read_checkpoint, select_state_dict
from ..shared.errors import UserError
from ..shared.files import tidy
from ..version import __version__

__all__ = [
    'check_architecture', 'check_hub_folder', 'copy_hub_folder', 'load_hub_folder', 'logits_of', 'read_config',
    'reload_difference', 'save_hub_folder', 'WEIGHTS',
]

WEIGHTS = ('model.safetensors', 'pytorch_model.bin')
_FILES = {'config.json', *WEIGHTS, 'README.md'}
_MAX_SIZE = 4096  # pixels of a side, by which a stranger's config.json takes no more memory than there is


def check_hub_folder(folder: Path, new: Optional[Path] = None) -> None:
    """ Make sure that nothing but a Hub folder would be replaced.

    Args:
        folder: Folder that will be replaced.
        new: Folder that will replace it; files that are the same there may go too.

    Raises:
        UserError: If there is a file, a folder with anything else in it, or the one that we are in.
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
            raise UserError(f'{folder} would be replaced, but {path} there is not its own: move it away.')


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
        model: Model of timm, its `pretrained_cfg` saying how it is used.
        card: README.md, the model card.
        label_names: Classes, in the order of the logits.
        model_args: Arguments that the model was created with, for a timm that does not record them.
        pickle: Write pytorch_model.bin beside model.safetensors; where this timm reads no other from a folder if None.
    """
    safe: Any = 'both' if (_needs_pickle() if pickle is None else pickle) else True
    model_config = dict(label_names=label_names) if label_names else {}
    save_for_hf(model, str(folder), model_config=model_config, model_args=model_args, safe_serialization=safe)
    # the root of config.json has it, and transformers passes both and fails
    config = read_config(folder)
    config.get('model_args', {}).pop('num_classes', None)
    (folder / 'config.json').write_text(json.dumps(config, indent=2) + '\n', encoding='utf-8')
    (folder / 'README.md').write_text(card, encoding='utf-8')


def _needs_pickle() -> bool:
    """ Whether the local-dir: of this timm reads no safetensors."""
    return tuple(map(int, timm.__version__.split('.')[:3])) < (1, 0, 29)


def copy_hub_folder(
        source: Path,
        folder: Path,
        model: Any,
        card: str,
        label_names: Optional[List[str]] = None,
        pickle: bool = False,
) -> None:
    """ Copy a Hub folder, the model of which has been loaded, with another card and other class names if given.

    What transformers stumbles over is mended, and a pickle of anyone's is not passed on.
    """
    config = read_config(source)
    config.get('model_args', {}).pop('num_classes', None)
    if label_names:
        config['label_names'] = label_names
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'config.json').write_text(json.dumps(config, indent=2) + '\n', encoding='utf-8')
    (folder / 'README.md').write_text(card, encoding='utf-8')
    safe, unsafe = (folder / name for name in WEIGHTS)
    if (source / safe.name).is_file():
        shutil.copyfile(source / safe.name, safe)
    else:
        save_file(model.state_dict(), safe)
    if pickle:
        torch.save(model.state_dict(), unsafe)


def read_config(folder: Path) -> Dict[str, Any]:
    """ config.json of a Hub folder.

    Raises:
        UserError: If there is none, or none that timm can read.
    """
    file = folder / 'config.json'
    if not file.is_file():
        raise UserError(f'{folder} has no config.json, which says what network it holds: give a folder of timm.')
    try:
        config = json.loads(file.read_text(encoding='utf-8'))
    except ValueError as e:
        raise UserError(f'{file} is damaged, it is no JSON: {e}.') from None
    if not isinstance(config, dict) or not isinstance(config.get('architecture'), str):
        raise UserError(f'{file} names no architecture: it is not of a timm model.')
    return config


def check_architecture(name: str) -> None:
    """ Raise a UserError that says what to install if timm has no such model."""
    if timm.is_model(name):
        return
    if name.startswith('mobilenext'):
        way_out = f'it is of a newer timm-mobilenext than this {__version__}: pip install --upgrade timm-mobilenext'
    else:
        way_out = 'pip install --upgrade timm, or the plugin of timm that it comes from.'
    raise UserError(f'timm {timm.__version__} has no model {name!r}: {way_out}')


def load_hub_folder(folder: Path) -> Any:
    """ Load a Hub folder that may have been written by anyone, every weight of it checked.

    Returns:
        Model in evaluation mode.

    Raises:
        UserError: If the folder holds no model of timm, or weights that are damaged or of another network.
    """
    config = read_config(folder)
    architecture = config['architecture']
    check_architecture(architecture)
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise UserError(f'{folder} has no weights, neither {" nor ".join(WEIGHTS)}.')
    state_dict, _ = select_state_dict(read_checkpoint(weights))
    # timm sees only what has been read, for an older one would unpickle anything that is beside it
    with TemporaryDirectory(prefix='timm-mobilenext-') as temporary:
        own = Path(temporary)
        shutil.copyfile(folder / 'config.json', own / 'config.json')
        try:
            model: Any = timm.create_model(f'local-dir:{own}').eval()
            check_cfg(model)
            state_dict = convert_state_dict(state_dict, model)
            if architecture not in timm.list_models(module='mobilenext'):  # buffers that timm has dropped since
                state_dict = {key: value for key, value in state_dict.items() if key in model.state_dict()}
            # timm adapts a stem and leaves a classifier random, of which a user would not know
            check_state_dict(state_dict, model)
            model.load_state_dict(state_dict)
            save_file(model.state_dict(), own / WEIGHTS[0])
            if _needs_pickle():
                torch.save(model.state_dict(), own / WEIGHTS[1])
            reload_difference(own, model, logits_of(model))
        except Exception as e:  # of what a stranger wrote
            reason = (str(e).splitlines() or [type(e).__name__])[0].rstrip('.').replace(str(own), str(folder))
            raise UserError(f'{folder} is no model that can be used: {reason}.') from e
    return model


def check_cfg(model: Any) -> None:
    """ Raise a UserError if a pretrained_cfg says of images or classes what can't be."""
    cfg = model.pretrained_cfg
    size = cfg.get('input_size')
    if not (_is_list(size, int, 3) and all(0 < n <= _MAX_SIZE for n in size)):
        raise UserError(f'input_size {size} is not channels, height and width')
    for key in ('mean', 'std'):
        if not _is_list(cfg.get(key), (int, float), size[0]):
            raise UserError(f'{key} {cfg.get(key)} is not a number for each of {size[0]} channels')
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
    """ Load a Hub folder as any user of timm would, to the largest difference of the logits.

    Raises:
        UserError: If it is not the model that was saved.
    """
    reloaded: Any = timm.create_model(f'local-dir:{folder.resolve()}', pretrained=True).eval()
    reloaded.pretrained_cfg['input_size'] = model.pretrained_cfg['input_size']
    difference = (logits_of(reloaded) - expected).abs().max().item()
    if not difference <= 1e-5 * max(1., expected.abs().max().item()):
        raise UserError(f'{folder} is not the model that was saved: loaded back, its logits differ by'
                           f' {difference:.2g}.')
    return difference
