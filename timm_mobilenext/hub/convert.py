""" Checkpoints made Hub folders: the authors' ImageNet and detection weights, and training checkpoints of timm

Finds out by digest, arguments, keys and shapes which network a checkpoint is of, and checks what it wrote by loading it
back.
"""
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch

import timm
from timm.data import resolve_data_config

from ..checkpoints.convert import check_state_dict, classes_and_channels, convert_state_dict
from ..checkpoints.official import blob_id_of, BLOB_IDS, find_directory
from ..checkpoints.read import check_finite, read_checkpoint, select_state_dict
from ..shared.console import create_console
from ..shared.errors import UserError
from ..shared.files import replacing
from .cards import escape, LOCAL_NAME, make_weights_card
from .folders import check_hub_folder, logits_of, reload_difference, save_hub_folder
from .runs import read_args, read_training, Training

__all__ = ['read_source', 'run_convert', 'Source', 'UNKNOWN_LICENSE']

UNKNOWN_LICENSE = 'unknown'  # as the Hub spells it
# the authors' plain state dict for detection, weights/mnext.pth.tar in houqb/ssdlite-pytorch-mobilenext: git blob id
_DETECTION = 'dfcab7a4895a09fa9b19c7ac9d21651c55ab6a15'
# what train.py passes to create_model beside model_kwargs: argument there -> here
_TRAIN_ARGS = {'gp': 'global_pool', 'bn_eps': 'bn_eps', 'bn_momentum': 'bn_momentum'}
_DATA_ARGS = ('img_size', 'input_size', 'mean', 'std', 'interpolation', 'crop_pct', 'crop_mode')
# arguments of create_model that are none of the network
_NOT_OF_THE_NETWORK = {'cache_dir', 'checkpoint_path', 'device', 'dtype', 'features_only', 'num_classes', 'in_chans'}


@dataclass
class Source:
    """ A checkpoint, and what it says of itself."""
    model: Any  # in evaluation mode, its pretrained_cfg telling of these weights
    model_args: Dict[str, Any]  # that it is created with
    lines: List[str]  # for people
    about: str  # for the model card
    license: str
    training: Optional[Training]


def read_source(file: Path, model_name: Optional[str] = None, ema: Optional[bool] = None) -> Source:
    """ Read a checkpoint to a model.

    Args:
        file: Checkpoint, in PyTorch's format or safetensors.
        model_name: Model that it is of, found out if None.
        ema: Averaged weights or raw ones; the averaged ones where there are any if None.

    Raises:
        UserError: If the checkpoint can't be read, does not fit, or does not tell which network it is of.
    """
    content = file.read_bytes()
    blob_id = blob_id_of(content)
    directory = next((name for name, known in BLOB_IDS.items() if known == blob_id), None)
    checkpoint = read_checkpoint(file, content)
    state_dict, kind = select_state_dict(checkpoint, ema)
    args = read_args(checkpoint, file)
    name, why = (model_name, 'as told') if model_name else identify(checkpoint, state_dict, args, blob_id, directory)
    model_args = network_args(args)
    model = create_source(name, state_dict, directory, model_args, args)
    cfg = model.pretrained_cfg
    known = f", the authors' {directory or 'for detection'}" if directory or blob_id == _DETECTION else ''
    numbers = {key: checkpoint.get(key) for key in ('epoch', 'metric')}
    facts = [f'{key} {number:.6g}' for key, number in numbers.items() if isinstance(number, (int, float))]
    about = f'The {kind} weights of `{escape(file.name)}`, git blob id {blob_id}{known}'
    return Source(
        model=model,
        model_args=dict(model_args, in_chans=cfg['input_size'][0]),
        lines=[
            f'file     {file}, {len(content):,} bytes, git blob id {blob_id}{known or ", no known file"}',
            f'network  {name}, {why}; {model.num_classes} classes',
            f'trained  {", ".join(facts) or "nothing is said of it"}',
            f'weights  {kind}',
        ],
        about=f'{about}. {cfg["notes"][0]}; {cfg["origin_url"]}.' if directory else f'{about}.',
        license=cfg.get('license', UNKNOWN_LICENSE) if directory else UNKNOWN_LICENSE,
        training=read_training(args, checkpoint, file, kind) if not directory else None,
    )


def run_convert(
        file: Path,
        output: Path,
        model_name: Optional[str] = None,
        ema: Optional[bool] = None,
        half: bool = False,
) -> None:
    """ Convert a checkpoint to a Hub folder, and print what was found.

    Args:
        file: Checkpoint, in PyTorch's format or safetensors.
        output: Folder to write to.
        model_name: Model that it is of, found out if None.
        ema: Averaged weights or raw ones; the averaged ones where there are any if None.
        half: Save in 16 bits.

    Raises:
        UserError: If the output would replace something else.
        UserError: If the checkpoint can't be read or does not fit, or if timm does not load what was written.
    """
    console = create_console()
    check_hub_folder(output)
    source = read_source(file, model_name, ema)
    model = source.model
    logits = logits_of(model)
    if half:
        check_finite(model.half().state_dict())
        exact, logits = logits, logits_of(model.float())
        changed = (logits - exact).abs().max().item()
        source.lines[-1] += f', made 16 bits, by which the logits change by {changed:.1g} of {logits.abs().max():.2g}'
        model.half()
    console.print('\n'.join(source.lines))
    with replacing(output) as folder:
        name, about = model.pretrained_cfg['architecture'], f'{source.about} Made by `timm-mobilenext convert`.'
        card = make_weights_card(LOCAL_NAME, model, about, source.license, title=name, training=source.training)
        save_hub_folder(folder, model, card, model_args=source.model_args)
        difference = reload_difference(folder, model, logits)
    console.print(f'written  {output}, largest difference of the logits, loaded back, {difference:.1g}')


def identify(
        checkpoint: Dict[str, Any],
        state_dict: Dict[str, torch.Tensor],
        args: Dict[str, Any],
        blob_id: str,
        directory: Optional[str],
) -> Tuple[str, str]:
    """ Name of the model that a checkpoint is of, and how that is known.

    Raises:
        UserError: If it tells of no model of timm and fits none of ours, or several.
    """
    names = timm.list_models(module='mobilenext')
    for name in names:
        cfg: Any = timm.get_pretrained_cfg(name)
        if directory and find_directory(cfg.url) == directory:
            return name, 'by digest'
    if blob_id == _DETECTION:
        return 'mobilenext_100', 'by digest'
    for told, why in ((checkpoint.get('arch'), 'by its arch'), (args.get('model'), 'by its arguments')):
        arch = str(told or '').partition('.')[0]
        if timm.is_model(arch):
            return arch, why
    fits = []
    for name in names:
        num_classes, in_chans = classes_and_channels(state_dict)
        model = timm.create_model(name, device='meta', num_classes=num_classes, in_chans=in_chans)
        try:
            check_state_dict(convert_state_dict(state_dict, model), model)
        except RuntimeError:
            continue
        fits.append(name)
    if not fits:
        raise UserError(
            'The checkpoint fits no MobileNeXt model by keys and shapes: give --model, which tells what does not fit.')
    if len(fits) > 1:
        # identity tensor multipliers leave no trace in a state dict
        raise UserError(f'The checkpoint fits {", ".join(fits)} alike: say by --model which of them it is.')
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


def size_of(name: str, state_dict: Dict[str, torch.Tensor]) -> Tuple[int, Optional[int]]:
    """ Classes, 0 without a classifier, and input channels of a state dict of a model."""
    if name in timm.list_models(module='mobilenext'):
        return classes_and_channels(state_dict)
    cfg: Any = timm.get_pretrained_cfg(name)
    classifier, stem = (state_dict.get(f'{_first(key)}.weight') for key in (cfg.classifier, cfg.first_conv))
    return len(classifier) if classifier is not None else 0, stem.shape[1] if stem is not None else None


def _first(names: Any) -> Any:
    return names[0] if isinstance(names, (list, tuple)) else names


def create_source(
        name: str,
        state_dict: Dict[str, torch.Tensor],
        directory: Optional[str],
        model_args: Dict[str, Any],
        args: Dict[str, Any],
) -> Any:
    """ Model with the weights of a checkpoint, and a pretrained_cfg that tells of them and of no others.

    Raises:
        UserError: If the weights don't fit, or if the checkpoint says what can't be of its network.
    """
    num_classes, in_chans = size_of(name, state_dict)
    # the tag that a training began with tells of its images
    tagged = str(args.get('model'))
    if tagged not in timm.list_models(f'{name}.*', include_tags=True):
        tagged = name
    try:
        model: Any = timm.create_model(tagged, num_classes=num_classes, in_chans=in_chans, **model_args)
    except Exception as e:
        reason = (str(e).splitlines() or [type(e).__name__])[0].rstrip('.')
        raise UserError(f'The checkpoint asks for a {name} of {model_args}, which can not be made: {reason}.') from e
    state_dict = convert_state_dict(state_dict, model)
    check_state_dict(state_dict, model)
    model.load_state_dict(state_dict)
    cfg = model.pretrained_cfg
    in_chans = in_chans or cfg['input_size'][0]
    if not directory:
        for key in (
            'url', 'file', 'tag', 'label_names', 'label_descriptions', 'license', 'notes', 'origin_url',
        ):
            cfg.pop(key, None)
        data_args: Dict[str, Any] = {key: args.get(key) for key in _DATA_ARGS}
        cfg['input_size'] = (in_chans, *cfg['input_size'][1:])
        for key in ('mean', 'std'):
            if len(cfg[key]) != in_chans:
                cfg[key] = (sum(cfg[key]) / len(cfg[key]),) * in_chans
        try:
            cfg.update(resolve_data_config(dict(data_args, in_chans=in_chans), pretrained_cfg=cfg))
        except Exception as e:
            raise UserError(f'The checkpoint says of its images {data_args}, which can not be: {e!r}.') from e
    cfg['num_classes'] = model.num_classes
    return model.eval()
