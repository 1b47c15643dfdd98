""" Checkpoints, read without trust: nothing in a file is executed, and weights are checked before they are used"""
import io
import pickle
import re
import threading
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import torch
from safetensors.torch import load as load_safetensors

from ..shared.errors import first_line, shown, UserError

__all__ = ['check_finite', 'list_keys', 'read_checkpoint', 'select_state_dict']

_READING = threading.Lock()
_MAX_LISTED = 10  # keys that a message names


def read_checkpoint(file: Union[str, Path], content: Optional[bytes] = None) -> Dict[str, Any]:
    """ Read a checkpoint, in PyTorch's format or safetensors, that anyone may have written.

    It reads tensors, plain Python values and `argparse.Namespace`, in which timm keeps the arguments of a training. It
    executes nothing.

    Args:
        file: The file. With `content`, only its name.
        content: Content of the file, if it has been read already.

    Returns:
        State dict, or a dict that holds one or two and what a training script put beside them.

    Raises:
        UserError: If the file cannot be read, or holds anything else.
    """
    try:
        if str(file).endswith('.safetensors'):
            return load_safetensors(content if content is not None else Path(file).read_bytes())
        source: Any = str(file) if content is None else io.BytesIO(content)
        # torch keeps the list of safe classes for all threads at once
        with _READING, torch.serialization.safe_globals([Namespace]):
            checkpoint = torch.load(source, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as e:
        # torch's message goes on with ways to execute the file all the same
        found = re.search(r'GLOBAL ([\w.]+)', str(e)) or re.search(r'(?:Unsupported|Trying to) (.+)', str(e))
        reason = f'it holds {shown(found[1])}' if found else 'it is not a PyTorch checkpoint, or it is damaged'
        raise UserError(
            f'{file} is refused because {reason}: only tensors, plain values and argparse.Namespace are read, and'
            ' nothing is executed.') from None
    except Exception as e:  # bytes that are not a checkpoint may lead to any error
        raise UserError(f'{file} cannot be read as a checkpoint: {shown(first_line(e)).rstrip(".")}.') from None
    if not isinstance(checkpoint, dict):
        kind = type(checkpoint).__name__
        raise UserError(f'{file} holds a {kind}, not a state dict or a training checkpoint.')
    return checkpoint


def select_state_dict(checkpoint: Dict[str, Any], ema: Optional[bool] = None) -> Tuple[Dict[str, torch.Tensor], str]:
    """ Select the weights in a checkpoint.

    Args:
        checkpoint: What `read_checkpoint` returns.
        ema: Take the averaged weights if True and the raw ones if False. If None, take the averaged ones where there
            are any, as timm does.

    Returns:
        State dict without the prefixes of torch's wrappers, and its kind, 'EMA' or 'raw'.

    Raises:
        UserError: If there are no such weights, or if some are not finite.
    """
    averaged = checkpoint.get('state_dict_ema') or checkpoint.get('model_ema')
    raw = checkpoint.get('state_dict') or checkpoint.get('model') or checkpoint
    if ema and not averaged:
        raise UserError('The checkpoint has no EMA weights (state_dict_ema): take the raw ones.')
    kind = 'raw' if not averaged or ema is False else 'EMA'
    state_dict = averaged if kind == 'EMA' else raw
    if not isinstance(state_dict, dict) or not any(isinstance(value, torch.Tensor) for value in state_dict.values()):
        raise UserError(f'The checkpoint holds no weights, only {list_keys(list(checkpoint))}.')
    strange = [
        key for key, value in state_dict.items()
        if not (isinstance(key, str) and isinstance(value, torch.Tensor) and value.layout == torch.strided)
    ]
    if strange:
        raise UserError(f'The state dict holds values that are not plain tensors: {list_keys(strange)}.')
    check_finite(state_dict)
    return {re.sub(r'^(module\.|_orig_mod\.)+', '', key): value for key, value in state_dict.items()}, kind


def check_finite(state_dict: Dict[str, torch.Tensor]) -> None:
    """ Raise a UserError that names the weights which are not finite."""
    broken = [key for key, value in state_dict.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise UserError(f'The weights are damaged, NaN or infinite in {list_keys(broken)}: take another checkpoint.')


def list_keys(keys: Sequence[Any]) -> str:
    """ The first keys of a file and the number of the others, as a message names them."""
    more = len(keys) - _MAX_LISTED
    return ', '.join(shown(key) for key in keys[:_MAX_LISTED]) + (f' and {more} more' if more > 0 else '')
