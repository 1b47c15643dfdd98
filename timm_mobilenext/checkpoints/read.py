""" Checkpoints, read without trust: nothing in a file is executed, and weights are checked before they are used"""
import io
import logging
import pickle
import re
import threading
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from safetensors.torch import load as load_safetensors

from ..shared.errors import first_line, shown, UserError

__all__ = ['check_finite', 'COUNTERS', 'is_web_page', 'list_keys', 'read_checkpoint', 'select_state_dict']

_logger = logging.getLogger(__name__)

_READING = threading.Lock()
_MAX_LISTED = 10  # keys that a message names
# what trainings keep beside the weights: timm its arguments, others a metric as a number of numpy, old or new
_SAFE: List[Any] = [
    Namespace,
    np.dtype,
    *{type(np.dtype(code)) for code in '?bBhHiIlLqQefd'},
    *((np.float64(0).__reduce__()[0], f'numpy.{core}.multiarray.scalar') for core in ('core', '_core')),
]
# how a file begins that often stands in a checkpoint's place, what it is, and what to do
_BEGINNINGS = (
    (rb'\s*<(!doctype|html|\?xml)', 'a web page', 'a server sent it in place of the file, so download that once more'),
    (rb'version https://git-lfs', 'a pointer of Git LFS',
     'run `git lfs pull` in its repository, or download the file itself'),
    (rb'\x1f\x8b|BZh|\xfd7zXZ', 'a compressed archive', 'unpack it and give the checkpoint in it'),
    (rb'\x89HDF', 'an HDF5 file, as Keras writes it', 'give a checkpoint of PyTorch'),
    (rb'$', 'empty', 'download or save it once more'),
)
# names under which trainings keep weights; weights under any other name are taken only if these are absent
_AVERAGED = 'state_dict_ema', 'model_ema'
_RAW = 'state_dict', 'model'
# ends of keys that tell of a network that was changed before it was saved: what did it, and how it is undone
_CHANGES = (
    (r'_orig', 'pruning, with a mask beside each', 'call torch.nn.utils.prune.remove for each pruned layer'),
    (r'\.parametrizations\.\S+', 'a parametrization', 'call torch.nn.utils.parametrize.remove_parametrizations'),
    (r'\.(zero_point|_packed_params\S*)', 'quantization', 'give the checkpoint from before it'),
    (r'\.lora_\w+(\.\w+)*', 'LoRA', 'merge its weights into the layers'),
)
# what is counted beside the weights: by profilers such as thop in each layer, and by AveragedModel of torch
_PROFILED = 'total_ops', 'total_params'
COUNTERS = (*_PROFILED, 'n_averaged')


def read_checkpoint(file: Union[str, Path], content: Optional[bytes] = None) -> Dict[str, Any]:
    """ Read a checkpoint, in PyTorch's format or safetensors, that anyone may have written.

    It reads tensors, plain Python values, numbers of numpy and `argparse.Namespace`, in which timm keeps the arguments
    of a training. It executes nothing.

    Args:
        file: The file. With `content`, only its name.
        content: Content of the file, if it has been read already.

    Returns:
        State dict, or a dict that holds one or two and what a training script put beside them.

    Raises:
        UserError: If the file cannot be read, or holds anything else.
    """
    try:
        content = Path(file).read_bytes() if content is None else content
    except OSError as e:
        raise UserError(f'{file} cannot be read as a checkpoint: {first_line(e).rstrip(".")}.') from None
    try:
        _check_kind(file, content)
        if _is_safetensors(content):
            return load_safetensors(content)
        # torch keeps the list of safe classes for all threads at once
        with _READING, torch.serialization.safe_globals(_SAFE):
            checkpoint = torch.load(io.BytesIO(content), map_location='cpu', weights_only=True)
    except UserError:
        raise
    except pickle.UnpicklingError as e:
        # torch's message goes on with ways to execute the file all the same
        found = re.search(r'GLOBAL ([\w.]+)', str(e)) or re.search(r'(?:Unsupported|Trying to) (?!operand)(.+)', str(e))
        reason = f'it holds {shown(found[1])}' if found else 'it is not a PyTorch checkpoint, or it is damaged'
        if found and b'_parameters' in content and b'_modules' in content:  # attributes of every module
            reason = f'it holds a whole pickled network ({shown(found[1])}), which is code'
        way_out = ' Save its state_dict() alone, where it was trained.' if found else ''
        raise UserError(
            f'{file} is refused because {reason}: only tensors, plain values and argparse.Namespace are read, and'
            f' nothing is executed.{way_out}') from None
    except Exception as e:  # bytes that are not a checkpoint may lead to any error
        reason = shown(first_line(e)).rstrip('.')
        if 'weights_only' in reason:  # torch's advice is to read it unsafely
            reason = 'its format cannot be read without executing it'
        raise UserError(f'{file} cannot be read as a checkpoint: {reason}.') from None
    if not isinstance(checkpoint, dict):
        kind = type(checkpoint).__name__
        raise UserError(f'{file} holds a {kind}, not a state dict or a training checkpoint.')
    return checkpoint


def is_web_page(content: bytes) -> bool:
    """ Whether a server sent a page in place of a file."""
    return re.match(_BEGINNINGS[0][0], content[:100], re.IGNORECASE) is not None


def _is_safetensors(content: bytes) -> bool:
    """ Whether JSON comes after the 8 bytes of its length. Neither a zip archive nor a pickle has it there."""
    return content[8:9] == b'{'


def _check_kind(file: Union[str, Path], content: bytes) -> None:
    """ Raise a UserError that names what a file is if it is of another well-known kind."""
    for beginning, kind, remedy in _BEGINNINGS:
        if re.match(beginning, content[:100], re.IGNORECASE):
            raise UserError(f'{file} is {kind}, not a checkpoint: {remedy}.')
    if not _is_safetensors(content) and not content.startswith((b'PK', b'\x80')):
        raise UserError(f'{file} is not a checkpoint: give a file that torch.save or safetensors wrote.')
    if content.startswith(b'PK') and zipfile.is_zipfile(io.BytesIO(content)):
        names = {name.rpartition('/')[2] for name in zipfile.ZipFile(io.BytesIO(content)).namelist()}
        if 'constants.pkl' in names:
            raise UserError(
                f'{file} is a TorchScript archive, a program with its weights: save the state_dict() of the network'
                ' that it was made of.')
        if 'data.pkl' not in names:
            raise UserError(f'{file} is a zip archive, not a checkpoint: unpack it and give the checkpoint in it.')


def select_state_dict(checkpoint: Dict[str, Any], ema: Optional[bool] = None) -> Tuple[Dict[str, torch.Tensor], str]:
    """ Select the weights in a checkpoint.

    Args:
        checkpoint: What `read_checkpoint` returns.
        ema: Take the averaged weights if True and the raw ones if False. If None, take the averaged ones where there
            are any, as timm does.

    Returns:
        State dict without the prefixes of torch's wrappers, and its kind, 'EMA' or 'raw'.

    Raises:
        UserError: If there are no such weights, or several, or if some are not finite.
    """
    averaged = next((checkpoint[key] for key in _AVERAGED if _has_tensors(checkpoint.get(key))), None)
    if ema and not averaged:
        raise UserError('The checkpoint has no EMA weights (state_dict_ema): take the raw ones.')
    kind = 'raw' if not averaged or ema is False else 'EMA'
    state_dict: Any = averaged if kind == 'EMA' else _find_raw(checkpoint)
    if not _has_tensors(state_dict):
        raise UserError(f'The checkpoint holds no weights, only {list_keys(list(checkpoint))}.')
    strange = [
        key for key, value in state_dict.items()
        if not (isinstance(key, str) and isinstance(value, torch.Tensor) and value.layout == torch.strided)
    ]
    if strange:
        raise UserError(f'The state dict holds values that are not plain tensors: {list_keys(strange)}.')
    check_finite(state_dict)
    for pattern, change, remedy in _CHANGES:
        changed = [key for key in state_dict if re.fullmatch(rf'\S+{pattern}', key)]
        if changed:
            raise UserError(
                f'The weights were saved after {change}: {list_keys(changed)}. To undo it, {remedy}, then save them.')
    counters = [key for key in state_dict if key.rpartition('.')[2] in _PROFILED]
    if counters:
        _logger.warning(f"These counters of a profiler are not weights and are left out: {list_keys(counters)}.")
    return {re.sub(r'^(module\.|_orig_mod\.)+', '', key): value for key, value in state_dict.items()}, kind


def _has_tensors(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(item, torch.Tensor) for item in value.values())


def _find_raw(checkpoint: Dict[str, Any]) -> Any:
    """ Weights under the names that timm knows, or the only ones under another, or the checkpoint itself."""
    for key in _RAW:
        if isinstance(checkpoint.get(key), dict) and checkpoint[key]:
            return checkpoint[key]
    others = [key for key, value in checkpoint.items() if key not in _AVERAGED and _has_tensors(value)]
    if len(others) > 1:
        raise UserError(
            f'The checkpoint holds several state dicts, {list_keys(others)}: save the right one alone, as state_dict.')
    return checkpoint[others[0]] if others else checkpoint


def check_finite(state_dict: Dict[str, torch.Tensor]) -> None:
    """ Raise a UserError that names the weights which are not finite."""
    broken = [key for key, value in state_dict.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise UserError(f'The weights are damaged, NaN or infinite in {list_keys(broken)}: take another checkpoint.')


def list_keys(keys: Sequence[Any]) -> str:
    """ The first keys of a file and the number of the others, as a message names them."""
    more = len(keys) - _MAX_LISTED
    return ', '.join(shown(key) for key in keys[:_MAX_LISTED]) + (f' and {more} more' if more > 0 else '')
