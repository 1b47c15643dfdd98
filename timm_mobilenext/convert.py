""" Checkpoints made Hub folders: the authors' ImageNet and detection weights, and training checkpoints of timm

Finds out by digest, keys and shapes which network a checkpoint is of, and checks what it wrote by loading it back.
"""
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import torch
from rich.console import Console

import timm
from timm.data import resolve_data_config

from .checkpoints import (
    blob_id_of,
    BLOB_IDS,
    check_finite,
    check_state_dict,
    classes_and_channels,
    convert_state_dict,
    find_directory,
    read_checkpoint,
    select_state_dict,
)
from .files import replacing
from .hub import check_hub_folder, save_hub_folder

__all__ = ['run_convert']

# the authors' plain state dict for detection, weights/mnext.pth.tar in houqb/ssdlite-pytorch-mobilenext: git blob id
_DETECTION = 'dfcab7a4895a09fa9b19c7ac9d21651c55ab6a15'
# what train.py passes to create_model beside model_kwargs: argument there -> here
_TRAIN_ARGS = {'gp': 'global_pool', 'bn_eps': 'bn_eps', 'bn_momentum': 'bn_momentum'}
_DATA_ARGS = ('img_size', 'input_size', 'mean', 'std', 'interpolation', 'crop_pct', 'crop_mode')
# arguments of create_model that are none of the network
_NOT_OF_THE_NETWORK = {'cache_dir', 'checkpoint_path', 'device', 'dtype', 'features_only', 'num_classes', 'in_chans'}


def run_convert(
        file: Path,
        output: Path,
        model_name: Optional[str] = None,
        ema: Optional[bool] = None,
        half: bool = False,
) -> None:
    """ Convert a checkpoint to a Hub folder, and print what was found.

    Args:
        file: Checkpoint in PyTorch's format.
        output: Folder to write to.
        model_name: Model that it is of, found out if None.
        ema: Averaged weights or raw ones; the averaged ones where there are any if None.
        half: Save in 16 bits.

    Raises:
        ValueError: If the output would replace something else, or the network isn't one of ours.
        RuntimeError: If the checkpoint can't be read or does not fit, or if timm does not load what was written.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    check_hub_folder(output)
    content = file.read_bytes()
    blob_id = blob_id_of(content)
    directory = next((name for name, known in BLOB_IDS.items() if known == blob_id), None)
    checkpoint = read_checkpoint(file, content)
    state_dict, kind = select_state_dict(checkpoint, ema)

    if model_name and model_name not in timm.list_models(module='mobilenext'):
        raise ValueError(f'{model_name} is no MobileNeXt model: give one of timm.list_models("mobilenext_*").')
    name, why = (model_name, 'as told') if model_name else identify(checkpoint, state_dict, blob_id, directory)
    # of a training by timm
    args = vars(checkpoint['args']) if isinstance(checkpoint.get('args'), Namespace) else {}
    model_args = network_args(args)
    model = create_source(name, state_dict, directory, model_args, args)
    known = "the authors' " + (directory or 'for detection') if directory or blob_id == _DETECTION else 'no known file'
    facts = [f'{key} {checkpoint[key]}' for key in ('epoch', 'metric') if isinstance(checkpoint.get(key), (int, float))]
    lines = [
        f'file     {file}, {len(content):,} bytes, git blob id {blob_id}, {known}',
        f'network  {name}, {why}; {model.num_classes} classes',
        f'trained  {", ".join(facts) or "nothing is said of it"}',
        f'weights  {kind}',
    ]
    logits = logits_of(model)
    if half:
        check_finite(model.half().state_dict())
        exact, logits = logits, logits_of(model.float())
        changed = (logits - exact).abs().max().item()
        lines[-1] += f', made 16 bits, by which the logits change by {changed:.1g} of {logits.abs().max().item():.2g}'
        model.half()
    console.print('\n'.join(lines))

    cfg = model.pretrained_cfg
    about = f'The {kind} weights of `{file.name}`, git blob id {blob_id}, {known}; made by `timm-mobilenext convert`.'
    if directory:
        about += f' {cfg["notes"][0]}; {cfg["origin_url"]}.'
    with replacing(output) as folder:
        license = cfg.get('license', 'other')
        save_hub_folder(folder, model, name, about, license, model_args=dict(model_args, in_chans=model.in_chans))
        difference = reload_difference(folder, model, logits)
    console.print(f'written  {output}, largest difference of the logits, loaded back, {difference:.1g}')


def identify(
        checkpoint: Dict[str, Any],
        state_dict: Dict[str, torch.Tensor],
        blob_id: str = '',
        directory: Optional[str] = None,
) -> Tuple[str, str]:
    """ Name of the model that a checkpoint is of, and how that is known.

    Raises:
        RuntimeError: If it fits none of ours, or several.
    """
    names = timm.list_models(module='mobilenext')
    for name in names:
        cfg: Any = timm.get_pretrained_cfg(name)
        if directory and find_directory(cfg.url) == directory:
            return name, 'by digest'
    if blob_id == _DETECTION:
        return 'mobilenext_100', 'by digest'
    arch = str(checkpoint.get('arch', '')).partition('.')[0]
    if arch in names:
        return arch, 'by its arch'
    fits = []
    for name in names:
        model = create_empty(name, state_dict)
        try:
            check_state_dict(convert_state_dict(state_dict, model), model)
        except RuntimeError:
            continue
        fits.append(name)
    if not fits:
        raise RuntimeError(
            'The checkpoint fits no MobileNeXt model by keys and shapes: give --model, which tells what does not fit.')
    if len(fits) > 1:
        # identity tensor multipliers leave no trace in a state dict
        raise RuntimeError(f'The checkpoint fits {", ".join(fits)} alike: say by --model which of them it is.')
    return fits[0], 'by keys and shapes'


def network_args(args: Dict[str, Any]) -> Dict[str, Any]:
    """ Arguments of the network among those of a training by timm."""
    model_kwargs = args.get('model_kwargs')
    model_args = dict(model_kwargs) if isinstance(model_kwargs, dict) else {}
    model_args.update({ours: args.get(theirs) for theirs, ours in _TRAIN_ARGS.items()})
    return {
        key: value for key, value in model_args.items()
        # a stranger's checkpoint says what the network is, and not what is to be read or fetched
        if value is not None and key not in _NOT_OF_THE_NETWORK and not str(key).startswith('pretrained')
    }


def create_empty(name: str, state_dict: Dict[str, torch.Tensor], device: str = 'meta', **kwargs: Any) -> Any:
    """ Model with the classes and input channels of a state dict."""
    num_classes, in_chans = classes_and_channels(state_dict)
    return timm.create_model(name, device=device, num_classes=num_classes, in_chans=in_chans, **kwargs)


def create_source(
        name: str,
        state_dict: Dict[str, torch.Tensor],
        directory: Optional[str],
        model_args: Dict[str, Any],
        args: Dict[str, Any],
) -> Any:
    """ Model with the weights of a checkpoint, and a pretrained_cfg that tells of them and of no others.

    Raises:
        RuntimeError: If the weights don't fit, or if the checkpoint says what can't be of its network.
    """
    try:
        model = create_empty(name, state_dict, device='cpu', **model_args)
    except Exception as e:
        reason = (str(e).splitlines() or [type(e).__name__])[0].rstrip('.')
        raise RuntimeError(f'The checkpoint asks for a {name} of {model_args}, which can not be made: {reason}.') from e
    model.load_state_dict(state_dict)
    cfg = model.pretrained_cfg
    if not directory:
        for key in ('url', 'tag', 'license', 'notes', 'origin_url'):
            cfg.pop(key, None)
        data_args: Dict[str, Any] = {key: args.get(key) for key in _DATA_ARGS}
        cfg['input_size'] = (model.in_chans, *cfg['input_size'][1:])
        for key in ('mean', 'std'):
            if len(cfg[key]) != model.in_chans:
                cfg[key] = (sum(cfg[key]) / len(cfg[key]),) * model.in_chans
        try:
            cfg.update(resolve_data_config(dict(data_args, in_chans=model.in_chans), pretrained_cfg=cfg))
        except Exception as e:
            raise RuntimeError(f'The checkpoint says of its images {data_args}, which can not be: {e!r}.') from e
    cfg['num_classes'] = model.num_classes
    return model.eval()


@torch.inference_mode()
def logits_of(model: Any) -> torch.Tensor:
    """ Logits of two random images."""
    return model(torch.randn(2, *model.pretrained_cfg['input_size'], generator=torch.Generator().manual_seed(0)))


def reload_difference(folder: Path, model: Any, expected: torch.Tensor) -> float:
    """ Load a Hub folder as any user of timm would, to the largest difference of the logits.

    Raises:
        RuntimeError: If it is not the model that was saved.
    """
    reloaded: Any = timm.create_model(f'local-dir:{folder.resolve()}', pretrained=True).eval()
    reloaded.pretrained_cfg['input_size'] = model.pretrained_cfg['input_size']
    difference = (logits_of(reloaded) - expected).abs().max().item()
    if not difference <= 1e-5 * max(1., expected.abs().max().item()):
        raise RuntimeError(f'{folder} is not the converted model: loaded back, its logits differ by {difference:.2g}.')
    return difference
