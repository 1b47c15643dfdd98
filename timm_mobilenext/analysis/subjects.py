""" What is studied: networks of timm in a state of their weights, their blocks, and images to show them

Blocks are what the network's own `group_matcher` calls so, which timm keeps for layer-wise learning rates. So nothing
here knows MobileNeXt, and a comparison with another network is one code path with two names.
"""
import ast
import math
import re
from dataclasses import dataclass, replace
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

from ..checkpoints.convert import check_state_dict, convert_state_dict, read_checkpoint, select_state_dict
from ..shared.errors import UserError
from ..shared.images import read_image
from ..shared.names import check_model
from ..shared.paths import SPLITS

__all__ = [
    'calibrate_norms', 'check_weight_init', 'create_network', 'draw_weights', 'find_blocks',
    'flat_tensors', 'Images', 'load_images', 'map_side', 'Network', 'normalize', 'NORMS', 'plan', 'Subject',
    'WEIGHT_INITS',
]

NORMS = nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm
WEIGHT_INITS = 'model', 'authors', 'timm'  # as the network draws them, or by one scheme for all of them


@dataclass(frozen=True)
class Subject:
    """ A network as it was asked for, in one state of its weights."""
    label: str  # name and arguments, such as mobilenext_050,narrow_skip=True, if it was given no other
    name: str
    kwargs: Tuple[Tuple[str, Any], ...]
    state: str = 'initial'  # or 'pretrained', or such as 'after epoch 8'
    checkpoints: Tuple[Path, ...] = ()  # of that state: one, or that of a training for each seed

    def weights(self, seed: int) -> str:
        """ Where the weights for a seed are from."""
        if self.checkpoints:
            return str(self._checkpoint(seed))
        return self.state if self.state == 'pretrained' else f'drawn, seed {seed}'

    def img_size(self) -> int:
        """ Size of the images that the model's weights are made for."""
        cfg: Any = timm.get_pretrained_cfg(self.name)
        return int(cfg.input_size[-1])

    def _checkpoint(self, seed: int) -> Path:
        return self.checkpoints[seed % len(self.checkpoints)]


@dataclass
class Network:
    """ A network to study, with its blocks by name."""
    model: Any
    blocks: Dict[str, nn.Module]


@dataclass
class Images:
    """ Images of one size, and their classes."""
    pixels: torch.Tensor  # (N, 3, H, W), uint8
    targets: torch.Tensor  # (N,)
    num_classes: int


def plan(
        specs: Sequence[str], checkpoints: Sequence[str] = (), pretrained: bool = False, seeds: int = 1,
) -> List[Subject]:
    """ What there is to study.

    Args:
        specs: Models of timm, each with arguments after commas if it has any, and what to call it before an equals sign
            if not that: `narrow=mobilenext_050,narrow_skip=True`.
        checkpoints: `MODEL=FILE`, MODEL being what a model is called; of a single model, FILE is enough. Several of a
            model after the same epoch are of several trainings, one for each seed.
        pretrained: Models begin with timm's weights rather than initial ones.
        seeds: Number of seeds.

    Returns:
        Each model as it begins, and after it the states of its checkpoints in the order in which they were given.

    Raises:
        UserError: If there is no such model or checkpoint, if one is given twice, or if there are more checkpoints of
            a state than one, but not one for each seed.
        UserError: If a checkpoint can't be read.
    """
    subjects: Dict[str, Subject] = {}
    files: Dict[str, Dict[str, List[Path]]] = {}
    for given in specs:
        before, equals, after = given.partition('=')
        # else it is that of an argument
        label, spec = (before, after) if before and equals and ',' not in before else (given, given)
        # a comma may stand in an argument too
        name, *arguments = re.split(r',(?=\w*(?:=|,|$))', spec)
        check_model(name)
        if label in subjects:
            raise UserError(f'{label} is given twice: give each model once, or under another label, LABEL={spec}.')
        kwargs = tuple(_parse_argument(spec, text) for text in arguments)
        subjects[label] = Subject(label, name, kwargs, 'pretrained' if pretrained else 'initial')
        files[label] = {}
    if not subjects:
        raise UserError('No model is given: --models takes one or more of timm.')
    for text in checkpoints:
        of = max((label for label in subjects if text.startswith(f'{label}=')), key=len, default=None)
        file = Path(text if of is None else text[len(of) + 1:])
        if of is None:
            if len(subjects) > 1:
                raise UserError(f'--checkpoint {text} does not say of which model: give MODEL=FILE, MODEL as before.')
            of = next(iter(subjects))
        if not file.is_file():
            raise UserError(f'{file} is no file: --checkpoint takes a checkpoint of {of}.')
        epoch = read_checkpoint(file).get('epoch')
        found = files[of].setdefault(f'after epoch {epoch + 1}' if isinstance(epoch, int) else file.name, [])
        if file in found:
            raise UserError(f'{file} is given twice: give each checkpoint once.')
        found.append(file)
    planned = []
    for label, subject in subjects.items():
        planned.append(subject)
        for state, of_state in files[label].items():
            if len(of_state) not in (1, seeds):
                raise UserError(
                    f'{label} has {len(of_state)} checkpoints of a state, {state}: give one, or one for each of the'
                    f' {seeds} seeds.')
            planned.append(replace(subject, state=state, checkpoints=tuple(of_state)))
    return planned


def _parse_argument(spec: str, text: str) -> Tuple[str, Any]:
    key, equals, value = text.partition('=')
    if not key.isidentifier() or not equals:
        raise UserError(f'{spec}: {text!r} is no argument, give NAME,KEY=VALUE such as mobilenext_050,noskip=True.')
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value  # a word, as timm's --model-kwargs takes it


def create_network(
        subject: Subject, num_classes: int, img_size: int, seed: int = 0, weight_init: str = 'model') -> Network:
    """ Create a network with its weights.

    Args:
        subject: What to create.
        num_classes: Classes of the data.
        img_size: Size of the images, for networks that are made for one.
        seed: Seed of initial weights, and number of the checkpoint.
        weight_init: Initial weights as the 'model' draws them, or drawn by one scheme for every network, 'authors' or
            'timm' (`draw_weights`).

    Raises:
        UserError: If it can't be created, has no blocks, or has other classes than the data.
        UserError: If weights can't be had, or don't fit.
    """
    kwargs = dict(subject.kwargs)
    cfg: Any = timm.get_pretrained_cfg(subject.name)
    if cfg is not None and cfg.fixed_input_size:
        kwargs.setdefault('img_size', img_size)
    pretrained = subject.state == 'pretrained' and not subject.checkpoints
    if pretrained and not is_model_pretrained(subject.name):
        raise UserError(f'{subject.name} has no pretrained weights: give a checkpoint, or leave --pretrained out.')
    if not pretrained:
        kwargs['num_classes'] = num_classes
    random_seed(seed)
    try:
        model: Any = timm.create_model(subject.name, pretrained=pretrained, **kwargs)
    except TypeError as e:
        raise UserError(f'{subject.label} can not be created: {e}') from None
    _check_classes(subject.label, model.num_classes, num_classes)
    if subject.checkpoints:
        file = subject._checkpoint(seed)
        state_dict = convert_state_dict(select_state_dict(read_checkpoint(file))[0], model)
        head = model.pretrained_cfg.get('classifier')
        weight = state_dict.get(f'{head}.weight') if isinstance(head, str) else None
        if weight is not None:
            _check_classes(str(file), len(weight), num_classes)
        check_state_dict(state_dict, model)
        model.load_state_dict(state_dict)
    elif weight_init != 'model':
        draw_weights(model, weight_init)
    return Network(model, find_blocks(model, subject.label))


def check_weight_init(weight_init: str, pretrained: bool) -> None:
    """ Raise a UserError if there is no such scheme, or if it would not be used."""
    if weight_init not in WEIGHT_INITS:
        raise UserError(f'weight_init {weight_init!r} is none of {", ".join(WEIGHT_INITS)}.')
    if pretrained and weight_init != 'model':
        raise UserError(f'weight_init {weight_init!r} and pretrained weights contradict each other: leave one out.')


def _check_classes(what: str, has: int, num_classes: int) -> None:
    if has != num_classes:
        raise UserError(f'{what} has {has} classes, the data has {num_classes}: give weights and data of the same.')


def draw_weights(model: nn.Module, scheme: str) -> None:
    """ Draw the weights of convolutions and linear layers anew, by one scheme whatever the network.

    Norms begin at 1 and 0, those too that a network begins at 0.

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
        elif isinstance(module, NORMS) and module.weight is not None:
            nn.init.ones_(module.weight)
        if isinstance(module, (nn.Conv2d, nn.Linear, *NORMS)) and module.bias is not None:
            nn.init.zeros_(module.bias)


def find_blocks(model: Any, name: str) -> Dict[str, nn.Module]:
    """ Modules that the network's `group_matcher` takes for blocks, by name.

    Raises:
        UserError: That names what was looked for, if there are none.
    """
    told: Any = model.group_matcher() if hasattr(model, 'group_matcher') else {}
    told = told.get('blocks', ()) if isinstance(told, dict) else ()  # a function tells nothing of modules
    entries = [(told, None)] if isinstance(told, str) else [(e, None) if isinstance(e, str) else e for e in told]
    patterns = [pattern for pattern, ordinal in entries if ordinal is None]  # with one, it is no block but a layer
    blocks = {
        module_name: module for module_name, module in model.named_modules()
        if any(re.fullmatch(pattern, module_name) for pattern in patterns)
    }
    if not blocks:
        looked = ', '.join(patterns) or "modules that its group_matcher calls blocks, and it names none"
        children = ', '.join(child for child, _ in model.named_children())
        raise UserError(f'{name} has no blocks to look into. Looked for {looked}; its modules are {children}.')
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
        UserError: If there are too few, or one can't be read.
    """
    names = next((names for names in SPLITS.values() if split in names), (split,))
    folder = next((data_dir / name for name in (split, *names) if (data_dir / name).is_dir()), data_dir / split)
    try:
        reader = create_dataset('', str(folder), search_split=False).reader
    except (AssertionError, RuntimeError):  # no such folder, or nothing in it
        raise UserError(f'{data_dir} has no images of a split {split!r}: put some into a folder for each class in'
                         f' {data_dir / split}.') from None
    files = reader.samples
    num_classes = len(reader.class_to_idx)
    if num_classes < 2:
        raise UserError(f'{data_dir} has one class in its split {split!r}: two or more are needed.')
    if len(files) < count:
        raise UserError(f'{data_dir} has {len(files)} images in its split {split!r}, {count} are needed.')
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


def flat_tensors(border: Any) -> List[torch.Tensor]:
    """ Tensors that a block takes or gives, those in lists and tuples too."""
    if isinstance(border, torch.Tensor):
        return [border]
    return [x for part in border for x in flat_tensors(part)] if isinstance(border, (list, tuple)) else []


def map_side(x: torch.Tensor) -> Optional[int]:
    """ Side of a square feature map, (B, C, H, W) or (B, H, W, C), None if it is none."""
    if x.ndim != 4:
        return None
    _, first, second, last = x.shape
    return second if second == last else first if first == second else None


@torch.no_grad()
def calibrate_norms(model: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """ Make running statistics of batch norms those of some images."""
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
