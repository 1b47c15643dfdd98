""" Hub folders made of checkpoints: the authors' ImageNet and detection weights, and training checkpoints of timm

The network is identified by digest, by the training's arguments, or by keys and shapes. What was written is checked by
loading it back.
"""
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch

import timm
from timm.data import resolve_data_config

from ..checkpoints.convert import classes_and_channels, fit_state_dict, load_into, measure
from ..checkpoints.official import blob_id_of, BLOB_IDS, find_directory
from ..checkpoints.read import check_finite, read_checkpoint, select_state_dict
from ..shared.console import create_console
from ..shared.errors import first_line, shown, UserError
from ..shared.files import replacing
from ..shared.names import check_model, create_empty, list_ours
from .cards import escape, LOCAL_NAME, make_weights_card
from .folders import check_cfg, check_hub_folder, logits_of, reload_difference, save_hub_folder
from .labels import check_label_names, read_label_names
from .runs import read_args, read_training, Training
from .settings import ConvertSettings

__all__ = ['read_source', 'run_convert', 'Source', 'UNKNOWN_LICENSE']

UNKNOWN_LICENSE = 'unknown'  # as the Hub spells it
# the authors' plain state dict for detection, weights/mnext.pth.tar in houqb/ssdlite-pytorch-mobilenext: git blob id
_DETECTION = 'dfcab7a4895a09fa9b19c7ac9d21651c55ab6a15'
# what train.py passes to create_model beside model_kwargs: its argument -> create_model's
_TRAIN_ARGS = {'gp': 'global_pool', 'bn_eps': 'bn_eps', 'bn_momentum': 'bn_momentum'}
_DATA_ARGS = ('img_size', 'input_size', 'mean', 'std', 'interpolation', 'crop_pct', 'crop_mode')
# arguments of create_model that do not describe the network
_NOT_OF_THE_NETWORK = {'cache_dir', 'checkpoint_path', 'device', 'dtype', 'features_only', 'num_classes', 'in_chans'}
# what a pretrained_cfg says of the weights that a model of timm comes with
_OF_TIMMS_WEIGHTS = 'url', 'file', 'tag', 'label_names', 'label_descriptions', 'license', 'notes', 'origin_url'


@dataclass
class Source:
    """ A checkpoint's model, and what the checkpoint says of itself."""
    model: Any  # in evaluation mode; its pretrained_cfg describes these weights
    logits: torch.Tensor  # its `logits_of`
    model_args: Dict[str, Any]  # that it was created with
    lines: List[str]  # for people
    about: str  # for the model card
    license: str
    training: Optional[Training]


def run_convert(settings: ConvertSettings) -> None:
    """ Convert a checkpoint to a Hub folder, and print what was found.

    Args:
        settings: What to convert, and where to write it.

    Raises:
        UserError: If the output would replace the checkpoint or something else, if the checkpoint cannot be read or
            does not fit, or if timm does not load what was written.
    """
    console = create_console()
    if settings.model is not None:
        check_model(settings.model)
    check_hub_folder(settings.output)
    if settings.checkpoint.resolve().is_relative_to(settings.output.resolve()):
        raise UserError(
            f'{settings.checkpoint} is in {settings.output}, which would be replaced: give another --output.')
    names = read_label_names(settings.label_names) if settings.label_names else None
    source = read_source(settings.checkpoint, settings.model, settings.ema)
    model, logits = source.model, source.logits
    check_label_names(names, model.num_classes)
    if settings.half:
        check_finite(model.half().state_dict())
        exact, logits = logits, logits_of(model.float())
        change = (logits - exact).abs().max().item()
        source.lines[-1] += f', saved in 16 bits, which changes the logits by {change:.1g} of {logits.abs().max():.2g}'
        model.half()
    console.print('\n'.join(source.lines))
    with replacing(settings.output) as folder:
        name, about = model.pretrained_cfg['architecture'], f'{source.about} Made by `timm-mobilenext convert`.'
        card = make_weights_card(
            LOCAL_NAME, model, about, source.license, title=name, label_names=names, training=source.training)
        save_hub_folder(folder, model, card, label_names=names, model_args=source.model_args)
        difference = reload_difference(folder, model, logits)
    console.print(f'written  {settings.output}, largest difference of the logits, loaded back, {difference:.1g}')


def read_source(file: Path, model_name: Optional[str] = None, ema: Optional[bool] = None) -> Source:
    """ Read a checkpoint, and create its model.

    Args:
        file: Checkpoint, in PyTorch's format or safetensors.
        model_name: Model that the checkpoint is of. If None, it is found out.
        ema: Take the averaged weights if True and the raw ones if False. If None, take the averaged ones where there
            are any.

    Raises:
        UserError: If the checkpoint cannot be read, does not fit, or does not tell which network it is of.
    """
    content = file.read_bytes()
    blob_id = blob_id_of(content)
    directory = next((name for name, known in BLOB_IDS.items() if known == blob_id), None)
    checkpoint = read_checkpoint(file, content)
    state_dict, kind = select_state_dict(checkpoint, ema)
    args = read_args(checkpoint, file)
    name, how = (model_name, 'as given') if model_name else identify(checkpoint, state_dict, args, blob_id)
    model_args = network_args(args)
    # the authors' weights are described already
    data_args = {key: args[key] for key in _DATA_ARGS if args.get(key) is not None} if not directory else {}

    def create(model_args: Dict[str, Any], data_args: Dict[str, Any]) -> Tuple[Any, torch.Tensor]:
        model = create_model(name, state_dict, model_args, str(args.get('model')))
        if not directory:
            describe_weights(model, data_args)
        return model, finite_logits(model)

    try:
        model, logits = create(model_args, data_args)
    except Exception as e:  # a stranger's arguments may lead to any error
        wrong = find_wrong(create, e, model_args, data_args)
        if not wrong:
            raise
        raise UserError(
            f'The checkpoint asks for a {name} with {shown(wrong)}, which does not work'
            f' ({shown(first_line(e)).rstrip(".")}): save its state dict alone in a folder of its own, and give'
            ' --model.') from e
    cfg = model.pretrained_cfg
    cfg['num_classes'] = model.num_classes
    known = f", the authors' {directory or 'for detection'}" if directory or blob_id == _DETECTION else ''
    numbers = {key: checkpoint.get(key) for key in ('epoch', 'metric')}
    facts = [f'{key} {number:.6g}' for key, number in numbers.items() if isinstance(number, (int, float))]
    about = f'The {kind} weights of `{escape(file.name)}`, git blob id {blob_id}{known}'
    return Source(
        model=model,
        logits=logits,
        model_args=dict(model_args, in_chans=cfg['input_size'][0]),
        lines=[
            f'file     {file}, {len(content):,} bytes, git blob id {blob_id}{known or ", no known file"}',
            f'network  {name}, {how}; {model.num_classes} classes',
            f'trained  {", ".join(facts) or "not recorded"}',
            f'weights  {kind}',
        ],
        about=f'{about}. {cfg["notes"][0]}; {cfg["origin_url"]}.' if directory else f'{about}.',
        license=cfg.get('license', UNKNOWN_LICENSE) if directory else UNKNOWN_LICENSE,
        training=read_training(args, checkpoint, file, kind) if not directory else None,
    )


def identify(
        checkpoint: Dict[str, Any],
        state_dict: Dict[str, torch.Tensor],
        args: Dict[str, Any],
        blob_id: str,
) -> Tuple[str, str]:
    """ Find out which model a checkpoint is of.

    Returns:
        Name of the model, and how it was found.

    Raises:
        UserError: If the checkpoint names no model of timm, and fits none of ours or several.
    """
    for name in list_ours():
        cfg: Any = timm.get_pretrained_cfg(name)
        if BLOB_IDS.get(find_directory(cfg.url) or '') == blob_id:
            return name, 'by digest'
    if blob_id == _DETECTION:
        return 'mobilenext_100', 'by digest'
    for named, how in ((checkpoint.get('arch'), 'by its arch'), (args.get('model'), 'by its arguments')):
        architecture = str(named or '').partition('.')[0]
        if timm.is_model(architecture):
            return architecture, how
    fits = find_fits(state_dict)
    if not fits:
        part, fits = find_part(state_dict)
        if fits:
            raise UserError(
                f'The checkpoint is of a larger network, for another task than to classify: its part {shown(part)} is a'
                f' {" or ".join(fits)}. To have its features alone, save {shown(part)}.state_dict() and give that.')
        raise UserError(
            'The checkpoint fits no MobileNeXt model by keys and shapes: give --model to see what does not fit.')
    if len(fits) > 1:
        # identity tensor multipliers leave no trace in a state dict
        raise UserError(f'The checkpoint fits {", ".join(fits)} alike: give the right one with --model.')
    return fits[0], 'by keys and shapes'


def find_fits(state_dict: Dict[str, torch.Tensor]) -> List[str]:
    """ Names of our models that have the keys and shapes of a state dict."""
    num_classes, in_chans = classes_and_channels(state_dict)
    fits = []
    for name in list_ours() if in_chans else ():  # all of ours have a stem
        model = timm.create_model(name, device='meta', num_classes=num_classes, in_chans=in_chans)
        try:
            fit_state_dict(state_dict, model)
        except UserError:
            continue
        fits.append(name)
    return fits


def find_part(state_dict: Dict[str, torch.Tensor]) -> Tuple[str, List[str]]:
    """ Find a MobileNeXt in a larger network, such as the encoder of a segmentation network.

    Returns:
        Name of the part, and the names of our models that it fits, none if there is no such part.
    """
    end = '.conv_stem.weight'
    part = next((key.removesuffix(end) for key in state_dict if key.endswith(end)), '')
    prefix = f'{part}.'
    within = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    return part, find_fits(within)


def network_args(args: Dict[str, Any]) -> Dict[str, Any]:
    """ Select the arguments of the network among those of a training by timm."""
    model_kwargs = args.get('model_kwargs')
    model_args = dict(model_kwargs) if isinstance(model_kwargs, dict) else {}
    model_args.update({ours: args.get(theirs) for theirs, ours in _TRAIN_ARGS.items()})
    return {
        key: value for key, value in model_args.items()
        # a stranger's checkpoint may describe the network, but not what is read or fetched
        if value is not None and key not in _NOT_OF_THE_NETWORK and not str(key).startswith('pretrained')
    }


def create_model(name: str, state_dict: Dict[str, torch.Tensor], model_args: Dict[str, Any], tagged: str) -> Any:
    """ Create the model of a checkpoint, with its weights.

    Args:
        name: Model of timm.
        state_dict: The weights.
        model_args: More arguments of `timm.create_model`.
        tagged: The model with the tag of the weights that a training began with, which says how its images were
            prepared. It does not count unless timm has it.

    Returns:
        Model in evaluation mode.

    Raises:
        UserError: If the weights do not fit. Impossible arguments may lead to any other error.
    """
    if tagged not in timm.list_models(f'{name}.*', include_tags=True):
        tagged = name
    model_args = json.loads(json.dumps(model_args))  # as config.json will have them
    num_classes, in_chans = measure(
        state_dict, lambda n: create_empty(name, num_classes=n, in_chans=n, **model_args))
    model: Any = timm.create_model(tagged, num_classes=num_classes, in_chans=in_chans, **model_args)
    load_into(model, state_dict)
    if in_chans:
        model.pretrained_cfg['input_size'] = (in_chans, *model.pretrained_cfg['input_size'][1:])
    return model.eval()


def describe_weights(model: Any, data_args: Dict[str, Any]) -> None:
    """ Make a model's pretrained_cfg describe a user's weights, and no longer those that timm has.

    Raises:
        UserError: If the training's arguments give impossible settings of its images, which may lead to any other error
            too.
    """
    cfg = model.pretrained_cfg
    for key in _OF_TIMMS_WEIGHTS:
        cfg.pop(key, None)
    in_chans = cfg['input_size'][0]
    for key in ('mean', 'std'):
        if len(cfg[key]) != in_chans:
            cfg[key] = (sum(cfg[key]) / len(cfg[key]),) * in_chans
    cfg.update(resolve_data_config(dict(data_args, in_chans=in_chans), pretrained_cfg=cfg))
    check_cfg(model)


def finite_logits(model: Any) -> torch.Tensor:
    """ The model's `logits_of`.

    Raises:
        UserError: If they are not finite.
    """
    logits = logits_of(model)
    if not logits.isfinite().all():
        raise UserError('The network gives logits that are not finite: give weights of an earlier epoch.')
    return logits


def find_wrong(
        create: Callable[[Dict[str, Any], Dict[str, Any]], Any],
        error: Exception,
        model_args: Dict[str, Any],
        data_args: Dict[str, Any],
) -> Dict[str, Any]:
    """ Find the arguments of a training that keep its network from being created or from working.

    Args:
        create: Creates the network with such arguments of the network and of its images.
        error: Its error with all of them.
        model_args: Arguments of the network.
        data_args: Arguments of its images.

    Returns:
        Those without which it works. All of them if it works only without several, and none if it fails alike without
        any: then they are not the cause.
    """
    def fails(model_args: Dict[str, Any], data_args: Dict[str, Any]) -> Optional[Exception]:
        try:
            create(model_args, data_args)
        except Exception as e:
            return e
        return None

    wrong = {
        key: value for key, value in model_args.items()
        if not fails({other: model_args[other] for other in model_args if other != key}, data_args)
    }
    if data_args and not fails(model_args, {}):
        wrong.update(data_args)
    if wrong or type(fails({}, {})) is type(error):
        return wrong
    return {**model_args, **data_args}
