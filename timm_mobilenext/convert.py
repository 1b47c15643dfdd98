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

from .checkpoints import check_state_dict, convert_state_dict, read_checkpoint, select_state_dict
from .fetch import blob_id_of, BLOB_IDS, find_directory
from .files import replacing
from .hub import check_hub_folder, save_hub_folder

__all__ = ['run_convert']

# the stem's and the linear layer's weights in the authors' two namings and in ours
_STEMS = ('conv_stem.weight', 'features.0.0.weight', '_conv_stem.weight')
_CLASSIFIERS = ('classifier.weight', 'classifier.1.weight', '_fc.weight')

CARD = """---
license: {license}
library_name: timm
pipeline_tag: image-classification
tags:
- image-classification
- timm
---
# {model_name}

{origin}

```python
import timm

model = timm.create_model('local-dir:path/of/this/folder', pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
```

MobileNeXt models need `pip install timm-mobilenext` beside timm, and no import.
"""


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
    name, why = (model_name, 'as told') if model_name else identify(checkpoint, state_dict, directory)
    model = create_source(name, checkpoint, state_dict, directory)
    if half:
        model.half()
    known = f"the authors' {directory}" if directory else 'no file known here'
    facts = [f'{key} {checkpoint[key]}' for key in ('epoch', 'metric') if isinstance(checkpoint.get(key), (int, float))]
    console.print(f"""\
file     {file}, {len(content):,} bytes, git blob id {blob_id}, {known}
network  {name}, {why}; {model.num_classes} classes
trained  {", ".join(facts) or "nothing is said of it"}
weights  {kind}{", made 16 bits" if half else ""}""")

    cfg = model.pretrained_cfg
    origin = f'The {kind} weights of `{file.name}`, git blob id {blob_id}, {known}; made by `timm-mobilenext convert`.'
    if directory:
        origin += f' {cfg["notes"][0]}; {cfg["origin_url"]}.'
    with replacing(output) as folder:
        save_hub_folder(folder, model, CARD.format(license=cfg.get('license', 'other'), model_name=name, origin=origin))
        difference = reload_difference(folder, model)
    console.print(f'written  {output}, largest difference of the logits, loaded back, {difference:.1g}')


def identify(
        checkpoint: Dict[str, Any],
        state_dict: Dict[str, torch.Tensor],
        directory: Optional[str] = None,
) -> Tuple[str, str]:
    """ Name of the model that a checkpoint is of, and how that is known.

    Raises:
        RuntimeError: If it fits none of ours.
    """
    names = timm.list_models(module='mobilenext')
    for name in names:
        cfg: Any = timm.get_pretrained_cfg(name)
        if directory and find_directory(cfg.url) == directory:
            return name, 'by digest'
    if checkpoint.get('arch') in names:
        return checkpoint['arch'], 'by its arch'
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
    if len(fits) == 1:
        return fits[0], 'by keys and shapes'
    # identity tensor multipliers leave no trace in a state dict
    return fits[0], f'by keys and shapes, as of {", ".join(fits[1:])} (--model to insist)'


def create_empty(name: str, state_dict: Dict[str, torch.Tensor], device: str = 'meta', **kwargs: Any) -> Any:
    """ Model with the classes and input channels of a state dict."""
    classifier = next((state_dict[key] for key in _CLASSIFIERS if key in state_dict), None)
    stem = next((state_dict[key] for key in _STEMS if key in state_dict), None)
    kwargs.setdefault('num_classes', 0 if classifier is None else len(classifier))
    if stem is not None and stem.ndim == 4:
        kwargs.setdefault('in_chans', stem.shape[1])
    return timm.create_model(name, device=device, **kwargs)


def create_source(
        name: str,
        checkpoint: Dict[str, Any],
        state_dict: Dict[str, torch.Tensor],
        directory: Optional[str],
) -> Any:
    """ Model with the weights of a checkpoint, and a pretrained_cfg that tells of them and of no others."""
    args = vars(checkpoint['args']) if isinstance(checkpoint.get('args'), Namespace) else {}
    model = create_empty(name, state_dict, device='cpu', **(args.get('model_kwargs') or {}))
    model.load_state_dict(state_dict)
    cfg = model.pretrained_cfg
    if not directory:
        for key in ('url', 'tag', 'license', 'notes', 'origin_url'):
            cfg.pop(key, None)
        data_keys = ('img_size', 'input_size', 'mean', 'std', 'interpolation', 'crop_pct', 'crop_mode')
        data_args = dict({key: args.get(key) for key in data_keys}, in_chans=model.in_chans)
        data_config = resolve_data_config(data_args, pretrained_cfg=cfg)
        cfg.update(data_config)
    cfg['num_classes'] = model.num_classes
    return model.eval()


@torch.inference_mode()
def reload_difference(folder: Path, model: Any) -> float:
    """ Load a Hub folder as any user of timm would, to the largest difference of the outputs.

    Raises:
        RuntimeError: If it is not the model that was saved.
    """
    reloaded = timm.create_model(f'local-dir:{folder.resolve()}', pretrained=True).eval()
    x = torch.randn(2, *model.pretrained_cfg['input_size'], generator=torch.Generator().manual_seed(0))
    expected = model.float()(x)
    difference = (reloaded(x) - expected).abs().max().item()
    if not difference <= 1e-5 * max(1., expected.abs().max().item()):
        raise RuntimeError(f'{folder} is not the converted model: loaded back, its logits differ by {difference:.2g}.')
    return difference
