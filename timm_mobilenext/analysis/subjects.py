""" What is studied: networks of timm in a state of their weights, their blocks, and images to show them

Blocks are what the network's own `group_matcher` calls so, which timm keeps for layer-wise learning rates. So nothing
here knows MobileNeXt, and a comparison with another network is one code path with two names.
"""
import ast
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn

import timm
from timm.data import create_dataset, resolve_data_config
from timm.models import is_model_pretrained
from timm.utils import random_seed

from ..checkpoints import check_state_dict, convert_state_dict, read_checkpoint, select_state_dict
from ..errors import check_model
from ..image_folder import SPLITS
from ..images import read_image

__all__ = [
    'calibrate_norms', 'check_output', 'create_network', 'draw_weights', 'find_blocks', 'Images', 'load_images',
    'Network', 'normalize', 'plan', 'Subject', 'WEIGHT_INITS',
]

WEIGHT_INITS = 'model', 'authors', 'timm'  # as the network draws them, or by one scheme for all of them


@dataclass(frozen=True)
class Subject:
    """ A network as it was asked for, in one state of its weights."""
    spec: str  # name and arguments, such as mobilenext_050,narrow_skip=True
    name: str
    kwargs: Tuple[Tuple[str, Any], ...]
    checkpoint: Optional[Path] = None


@dataclass
class Network:
    """ A network to study, with its blocks by name."""
    model: Any
    state: str  # 'initial', 'pretrained', 'after epoch 8'
    blocks: Dict[str, nn.Module]


@dataclass
class Images:
    """ Images of one size, and their classes."""
    pixels: torch.Tensor  # (N, 3, H, W), uint8
    targets: torch.Tensor  # (N,)
    num_classes: int


def plan(specs: Sequence[str], checkpoints: Sequence[str] = ()) -> List[Subject]:
    """ What there is to study.

    Args:
        specs: Models of timm, each with arguments after commas if it has any: `mobilenext_050,narrow_skip=True`.
        checkpoints: `MODEL=FILE`, MODEL being one of the specs; of a single model, FILE is enough.

    Returns:
        Each model as it begins, and after it its checkpoints as they were given.

    Raises:
        ValueError: If there is no such model or checkpoint, or if a model is given twice.
    """
    subjects: Dict[str, List[Subject]] = {}
    for spec in specs:
        name, *arguments = spec.split(',')
        check_model(name)
        if spec in subjects:
            raise ValueError(f'{spec} is given twice: give each model once.')
        subjects[spec] = [Subject(spec, name, tuple(_parse_argument(spec, text) for text in arguments))]
    if not subjects:
        raise ValueError('No model is given: --models takes one or more of timm.')
    for text in checkpoints:
        of = max((spec for spec in subjects if text.startswith(f'{spec}=')), key=len, default=None)
        file = Path(text if of is None else text[len(of) + 1:])
        if of is None:
            if len(subjects) > 1:
                raise ValueError(f'--checkpoint {text} does not say of which model: give MODEL=FILE, MODEL as before.')
            of = next(iter(subjects))
        if not file.is_file():
            raise ValueError(f'{file} is no file: --checkpoint takes a checkpoint of {of}.')
        first = subjects[of][0]
        subjects[of].append(Subject(first.spec, first.name, first.kwargs, file))
    return [subject for group in subjects.values() for subject in group]


def _parse_argument(spec: str, text: str) -> Tuple[str, Any]:
    key, equals, value = text.partition('=')
    if not key.isidentifier() or not equals:
        raise ValueError(f'{spec}: {text!r} is no argument, give NAME,KEY=VALUE such as mobilenext_050,noskip=True.')
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value  # a word, as timm's --model-kwargs takes it


def create_network(
        subject: Subject,
        num_classes: int,
        img_size: int,
        seed: int = 0,
        weight_init: str = 'model',
        pretrained: bool = False,
) -> Network:
    """ Create a network with its weights.

    Args:
        subject: What to create.
        num_classes: Classes of the data.
        img_size: Size of the images, for networks that are made for one.
        seed: Seed of the weights.
        weight_init: Initial weights as the 'model' draws them, or drawn by one scheme for every network, 'authors' or
            'timm' (`draw_weights`).
        pretrained: Begin with timm's weights instead.

    Raises:
        ValueError: If it can't be created, has no blocks, or has other classes than the data.
        RuntimeError: If weights can't be had, or don't fit.
    """
    if weight_init not in WEIGHT_INITS:
        raise ValueError(f'weight_init {weight_init!r} is none of {", ".join(WEIGHT_INITS)}.')
    kwargs = dict(subject.kwargs)
    cfg: Any = timm.get_pretrained_cfg(subject.name)
    if cfg is not None and cfg.fixed_input_size:
        kwargs['img_size'] = img_size
    random_seed(seed)
    if pretrained and not subject.checkpoint:
        if not is_model_pretrained(subject.name):
            raise ValueError(f'{subject.name} has no pretrained weights: give a checkpoint, or leave --pretrained out.')
        model: Any = timm.create_model(subject.name, pretrained=True, **kwargs)
        _check_classes(subject.spec, model.num_classes, num_classes)
        state = 'pretrained'
    else:
        try:
            model = timm.create_model(subject.name, num_classes=num_classes, **kwargs)
        except TypeError as e:
            raise ValueError(f'{subject.spec} can not be created: {e}') from None
        state = 'initial'
    if subject.checkpoint:
        checkpoint = read_checkpoint(subject.checkpoint)
        state_dict = convert_state_dict(select_state_dict(checkpoint)[0], model)
        head = model.pretrained_cfg.get('classifier')
        weight = state_dict.get(f'{head}.weight') if isinstance(head, str) else None
        if weight is not None:
            _check_classes(str(subject.checkpoint), len(weight), num_classes)
        check_state_dict(state_dict, model)
        model.load_state_dict(state_dict)
        epoch = checkpoint.get('epoch')
        state = f'after epoch {epoch + 1}' if isinstance(epoch, int) else subject.checkpoint.name
    elif state == 'initial' and weight_init != 'model':
        draw_weights(model, weight_init)
    return Network(model, state, find_blocks(model, subject.spec))


def _check_classes(what: str, has: int, num_classes: int) -> None:
    if has != num_classes:
        raise ValueError(f'{what} has {has} classes, the data has {num_classes}: give weights and data of the same.')


def draw_weights(model: nn.Module, scheme: str) -> None:
    """ Draw the weights of convolutions and linear layers anew, by one scheme whatever the network.

    Args:
        model: Network.
        scheme: 'authors', as in their mnext.py, or 'timm', as timm draws EfficientNet-style networks. They differ in
            depthwise convolutions, whose fan-out is that of all channels in the first, and in the linear layer.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size)
            if scheme == 'timm':
                fan_out //= module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.out_features)
            if scheme == 'timm':
                nn.init.uniform_(module.weight, -bound, bound)
            else:
                nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


def find_blocks(model: Any, name: str) -> Dict[str, nn.Module]:
    """ Modules that the network's `group_matcher` takes for blocks, by name.

    Raises:
        ValueError: That names what was looked for, if there are none.
    """
    told: Any = model.group_matcher() if hasattr(model, 'group_matcher') else {}
    told = told.get('blocks', ())
    entries = [(told, None)] if isinstance(told, str) else [(e, None) if isinstance(e, str) else e for e in told]
    patterns = [pattern for pattern, ordinal in entries if ordinal is None]  # with one, it is no block but a layer
    blocks = {
        module_name: module for module_name, module in model.named_modules()
        if any((match := re.match(pattern, module_name)) and match.end() == len(module_name) for pattern in patterns)
    }
    if not blocks:
        looked = ', '.join(patterns) or "modules that its group_matcher calls blocks, and it names none"
        children = ', '.join(child for child, _ in model.named_children())
        raise ValueError(f'{name} has no blocks to look into. Looked for {looked}; its modules are {children}.')
    return blocks


def load_images(data_dir: Path, split: str, img_size: int, count: int, seed: int = 0) -> Images:
    """ Load some images of an image folder, chosen at random, each class as often as it comes.

    Args:
        data_dir: Folder with a folder for each split, and in it one for each class.
        split: Folder of the split, timm's names for it among them.
        img_size: Size to which images are cut square and resized.
        count: How many.
        seed: Seed of the choice.

    Raises:
        ValueError: If there are too few, or one can't be read.
    """
    names = next((names for names in SPLITS.values() if split in names), (split,))
    folder = next((data_dir / name for name in (split, *names) if (data_dir / name).is_dir()), data_dir / split)
    try:
        reader = create_dataset('', str(folder), search_split=False).reader
    except (AssertionError, RuntimeError):  # no such folder, or nothing in it
        raise ValueError(f'{data_dir} has no images of a split {split!r}: put some into a folder for each class in'
                         f' {data_dir / split}.') from None
    files = reader.samples
    num_classes = len(reader.class_to_idx)
    if num_classes < 2:
        raise ValueError(f'{data_dir} has one class in its split {split!r}: two or more are needed.')
    if len(files) < count:
        raise ValueError(f'{data_dir} has {len(files)} images in its split {split!r}, {count} are needed.')
    chosen = np.random.RandomState(seed).permutation(len(files))[:count]
    pixels = torch.stack([
        torch.from_numpy(np.asarray(ImageOps.fit(
            read_image(Path(files[i][0])).convert('RGB'), (img_size, img_size), Image.Resampling.BICUBIC)).copy())
        for i in chosen])
    return Images(pixels.permute(0, 3, 1, 2), torch.tensor([files[i][1] for i in chosen]), num_classes)


def normalize(pixels: torch.Tensor, model: Any) -> torch.Tensor:
    """ Images as a network takes them, (N, 3, H, W), of uint8 pixels."""
    config = resolve_data_config(model=model)
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ('mean', 'std'))
    return (pixels / 255 - mean) / std


@torch.no_grad()
def calibrate_norms(model: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """ Make the running statistics of all batch norms those of some images: those of a fresh network are of none."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    was_training = model.training
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
        norm.train()
    for batch in batches:
        model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(was_training)


def check_output(output: Path) -> None:
    """ Raise a ValueError if an output folder can't be written, or holds something."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f'{output} exists: give another name, nothing is overwritten.')
    if not output.absolute().parent.is_dir():
        raise ValueError(f'{output.parent} is no folder: make it, or write elsewhere.')
