""" What is studied: networks of timm in a state of their weights, their blocks, and images to show them

Blocks are those that the network's own `group_matcher` names, which timm keeps for layer-wise learning rates. So
nothing here knows MobileNeXt, and a comparison with another network runs the same code with another name.
"""
import ast
import math
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn

import timm
from timm.data import create_dataset, resolve_data_config
from timm.models import is_model_pretrained
from timm.utils import random_seed

from ..checkpoints.convert import check_state_dict, convert_state_dict
from ..checkpoints.read import read_checkpoint, select_state_dict
from ..shared.device import check_device
from ..shared.errors import first_line, shown, UserError
from ..shared.extras import need
from ..shared.images import read_image
from ..shared.names import check_model, refused_size
from ..shared.paths import check_not_hidden, SPLITS
from .settings import AnalysisSettings, check_paths

__all__ = [
    'calibrate_norms', 'check_weight_init', 'create_network', 'draw_weights', 'find_blocks',
    'flat_tensors', 'Images', 'load_images', 'map_side', 'naming', 'Network', 'normalize', 'NORMS', 'plan', 'prepare',
    'study', 'Subject', 'WEIGHT_INITS',
]

NORMS = nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm
WEIGHT_INITS = 'model', 'authors', 'timm'  # as each network draws them, or by one scheme for all


@dataclass(frozen=True)
class Subject:
    """ A network as it was asked for, in one state of its weights."""
    label: str  # what it was called, or its name and arguments, such as mobilenext_050,narrow_skip=True
    name: str
    kwargs: Tuple[Tuple[str, Any], ...]
    state: str = 'initial'  # or 'pretrained', or a state of a training such as 'after epoch 8'
    checkpoints: Tuple[Path, ...] = ()  # of that state: one, or one for each seed

    def weights(self, seed: int) -> str:
        """ Where the weights for a seed come from."""
        if self.checkpoints:
            return str(self.checkpoint(seed))
        return self.state if self.state == 'pretrained' else f'drawn, seed {seed}'

    def img_size(self) -> int:
        """ Size of the images, in pixels, that the model's weights are made for."""
        cfg: Any = timm.get_pretrained_cfg(self.name)
        return int(cfg.input_size[-1]) if cfg is not None and cfg.input_size else 224

    def checkpoint(self, seed: int) -> Path:
        """ Checkpoint for a seed, of a state that has some."""
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


def prepare(settings: AnalysisSettings) -> Tuple[List[Subject], int]:
    """ Check what was asked for, before anything slow is done.

    Returns:
        What to study, and the size of the images in pixels.

    Raises:
        UserError: If a setting is impossible, or if the pictures' library is missing.
    """
    check_paths(settings)
    check_weight_init(settings.weight_init, settings.pretrained)
    check_device(settings.device)
    subjects = plan(settings.models, settings.checkpoints, settings.pretrained, settings.seeds)
    need('matplotlib', extra='demo')
    return subjects, settings.img_size or subjects[0].img_size()


def study(
        settings: AnalysisSettings, subjects: Sequence[Subject], img_size: int, count: int,
) -> Iterator[Tuple[Dict[str, Any], Network, Images]]:
    """ Load images and create networks, seed by seed.

    Args:
        settings: Data, weights and seeds.
        subjects: What to study.
        img_size: Size of the images in pixels.
        count: Number of images of each seed.

    Yields:
        For each network: the columns that say which one it is, the network, and the images.

    Raises:
        UserError: If images or weights cannot be loaded, or if a network cannot be created for them.
    """
    for seed in range(settings.seeds):
        images = load_images(settings.data_dir, settings.split, img_size, count, seed)
        for subject in subjects:
            network = create_network(
                subject, images.num_classes, img_size, seed, settings.weight_init, settings.device)
            random_seed(seed)
            columns = dict(model=subject.label, state=subject.state, weights=subject.weights(seed), seed=seed)
            yield columns, network, images


@contextmanager
def naming(columns: Dict[str, Any]) -> Iterator[None]:
    """ Let a UserError say which network of `study` it is about."""
    try:
        yield
    except UserError as e:
        raise UserError(f'{columns["model"]}, {columns["state"]}, seed {columns["seed"]}: {e}') from None


def plan(
        specs: Sequence[str], checkpoints: Sequence[str] = (), pretrained: bool = False, seeds: int = 1,
) -> List[Subject]:
    """ Find out what there is to study.

    Args:
        specs: Models of timm. Arguments follow after commas, and a label with an equals sign may come first:
            `narrow=mobilenext_050,narrow_skip=True`.
        checkpoints: `MODEL=FILE`, where MODEL is a label, or the spec of a model without one. For a single model, FILE
            is enough. Several checkpoints of a model after the same epoch are from several trainings, one for each
            seed.
        pretrained: Models begin with timm's weights instead of initial ones.
        seeds: Number of seeds.

    Returns:
        Each model as it begins, then the states of its checkpoints in the order in which they were given.

    Raises:
        UserError: If a model or a checkpoint does not exist or is given twice, if a checkpoint cannot be read, or if a
            state has several checkpoints but not one for each seed.
    """
    subjects: Dict[str, Subject] = {}
    for spec in specs:
        subject = _parse_spec(spec, 'pretrained' if pretrained else 'initial')
        if subject.label in subjects:
            raise UserError(f'{subject.label} is given twice: give each model once, or under another label,'
                            f' LABEL={_split_label(spec)[1]}.')
        subjects[subject.label] = subject
    if not subjects:
        raise UserError('No model is given: --models takes one or more models of timm.')
    files: Dict[str, Dict[str, List[Path]]] = {label: {} for label in subjects}
    for text in checkpoints:
        label, file = _parse_checkpoint(text, list(subjects))
        epoch = read_checkpoint(file).get('epoch')
        state = f'after epoch {epoch + 1}' if isinstance(epoch, int) else file.name
        same_state = files[label].setdefault(state, [])
        if file in same_state:
            raise UserError(f'{file} is given twice: give each checkpoint once.')
        same_state.append(file)
    planned = []
    for label, subject in subjects.items():
        planned.append(subject)
        for state, same_state in files[label].items():
            if len(same_state) not in (1, seeds):
                raise UserError(
                    f'{label} has {len(same_state)} checkpoints of the same state, {state}: give one, or one for each'
                    f' of the {seeds} seeds.')
            planned.append(replace(subject, state=state, checkpoints=tuple(same_state)))
    return planned


def _split_label(spec: str) -> Tuple[str, str]:
    """ Label and the rest of a spec, which is its own label if it has no other."""
    before, equals, after = spec.partition('=')
    # after a comma, it is the equals sign of an argument
    return (before, after) if before and equals and ',' not in before else (spec, spec)


def _parse_spec(spec: str, state: str) -> Subject:
    label, model = _split_label(spec)
    # not at a comma within an argument
    name, *arguments = re.split(r',(?=\w*(?:=|,|$))', model)
    check_model(name)
    return Subject(label, name, tuple(_parse_argument(model, text) for text in arguments), state)


def _parse_argument(model: str, text: str) -> Tuple[str, Any]:
    key, equals, value = text.partition('=')
    if not key.isidentifier() or not equals:
        raise UserError(f'{shown(model)}: {shown(text)!r} is not an argument, give NAME,KEY=VALUE such as'
                        ' mobilenext_050,noskip=True.')
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return key, value  # a word, as in timm's --model-kwargs


def _parse_checkpoint(text: str, labels: Sequence[str]) -> Tuple[str, Path]:
    """ Label of the model, and the file."""
    label = max((label for label in labels if text.startswith(f'{label}=')), key=len, default=None)
    file = Path(text if label is None else text[len(label) + 1:])
    if label is None:
        if len(labels) > 1:
            raise UserError(f'--checkpoint {shown(text)} does not say which model it is for: give MODEL=FILE, with'
                            ' MODEL as in --models.')
        label = labels[0]
    if not file.is_file():
        raise UserError(f'{shown(str(file))} is not a file: --checkpoint takes a checkpoint of {label}.')
    return label, file


def create_network(
        subject: Subject,
        num_classes: int,
        img_size: int,
        seed: int = 0,
        weight_init: str = 'model',
        device: str = 'cpu',
) -> Network:
    """ Create a network with its weights.

    Args:
        subject: What to create.
        num_classes: Number of classes of the data.
        img_size: Size of the images in pixels, for networks that are made for one size.
        seed: Seed of initial weights, and number of the checkpoint.
        weight_init: 'model' for initial weights as the network draws them, or a scheme of `draw_weights`.
        device: Device of torch.

    Raises:
        UserError: If the network cannot be created with its arguments, does not take images of this size, has no
            blocks, has another number of classes than the data, or if its weights cannot be loaded.
    """
    kwargs = dict(subject.kwargs)
    cfg: Any = timm.get_pretrained_cfg(subject.name)
    if cfg is not None and cfg.fixed_input_size:
        kwargs.setdefault('img_size', img_size)
    pretrained = subject.state == 'pretrained' and not subject.checkpoints
    if pretrained and not is_model_pretrained(subject.name):
        raise UserError(f'{subject.name} has no pretrained weights: give a checkpoint, or leave --pretrained out.')
    classes: Dict[str, Any] = {} if pretrained else dict(num_classes=num_classes)
    random_seed(seed)
    try:
        model: Any = timm.create_model(subject.name, pretrained, **{**kwargs, **classes})
    except Exception as e:
        if not kwargs or isinstance(e, OSError):  # a bug, or a download that failed
            raise
        # arguments that a user gave may lead to any error
        raise UserError(f'{subject.label} cannot be created: {shown(first_line(e))}') from e
    _check_classes(subject.label, getattr(model, 'num_classes', None), num_classes)
    if subject.checkpoints:
        file = subject.checkpoint(seed)
        state_dict = convert_state_dict(select_state_dict(read_checkpoint(file))[0], model)
        head = model.pretrained_cfg.get('classifier')
        weight = state_dict.get(f'{head}.weight') if isinstance(head, str) else None
        if weight is not None:
            _check_classes(str(file), len(weight), num_classes)
        check_state_dict(state_dict, model)
        model.load_state_dict(state_dict)
    elif weight_init != 'model':
        draw_weights(model, weight_init)
    network = Network(model.to(device), find_blocks(model, subject.label))
    _check_forward(network.model, img_size, num_classes, subject)
    return network


def check_weight_init(weight_init: str, pretrained: bool) -> None:
    """ Raise a UserError if there is no such scheme, or if it would not be used."""
    if weight_init not in WEIGHT_INITS:
        raise UserError(f'weight_init {shown(weight_init)!r} is not one of {", ".join(WEIGHT_INITS)}.')
    if pretrained and weight_init != 'model':
        raise UserError(f'weight_init {weight_init!r} and pretrained weights exclude each other: leave one out.')


def _check_classes(name: str, num_classes: Optional[int], expected: int) -> None:
    if not num_classes:
        raise UserError(f'{name} has no classifier: leave out the argument that takes it away, such as features_only,'
                        ' or give a model with classes.')
    if num_classes != expected:
        raise UserError(f'{name} has {num_classes} classes and the data has {expected}: give weights and data with the'
                        ' same classes.')


@torch.no_grad()
def _check_forward(model: Any, img_size: int, num_classes: int, subject: Subject) -> None:
    """ Raise a UserError if a network does not map images of a size to logits. It stays in its mode."""
    was_training = model.training
    image = torch.zeros(1, 3, img_size, img_size, device=next(model.parameters()).device)
    try:
        logits = model.eval()(image)
    except (AssertionError, IndexError, RuntimeError, ValueError) as e:
        other = 'other arguments' if subject.kwargs else 'another model'
        raise UserError(
            f'{subject.label} gives no logits of an image {refused_size(subject.name, img_size, e, other)}') from e
    if getattr(logits, 'shape', None) != (1, num_classes):
        raise UserError(
            f'{subject.label} gives no logits of an image: leave out the argument that changes its output.')
    model.train(was_training)


def draw_weights(model: nn.Module, scheme: str) -> None:
    """ Draw the weights of convolutions and linear layers again, by the same scheme for any network.

    Norms get weight 1 and bias 0, also those that a network begins with weight 0.

    Args:
        model: Network.
        scheme: 'authors', as in their mnext.py, or 'timm', as timm draws EfficientNet-style networks. They differ in
            the linear layer, and in depthwise convolutions: the authors take the number of all output channels for
            their fan-out.
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
    """ Modules that the network's `group_matcher` names as blocks, by name.

    Args:
        model: Network.
        name: What messages call it.

    Raises:
        UserError: If there are none. The message says what was looked for.
    """
    groups: Any = model.group_matcher() if hasattr(model, 'group_matcher') else {}
    groups = groups.get('blocks', ()) if isinstance(groups, dict) else ()  # a function does not name modules
    entries = [groups] if isinstance(groups, str) else groups
    # an entry with an ordinal is not a block but a layer
    patterns = [entry if isinstance(entry, str) else entry[0] for entry in entries
                if isinstance(entry, str) or entry[1] is None]
    blocks = {
        module_name: module for module_name, module in model.named_modules()
        if any(re.fullmatch(pattern, module_name) for pattern in patterns)
    }
    if not blocks:
        expected = ', '.join(patterns) or 'modules that its group_matcher calls blocks, and it names none'
        children = ', '.join(child for child, _ in model.named_children())
        raise UserError(f'{name} has no blocks to measure. Looked for {expected}; its modules are {children}.')
    return blocks


def load_images(data_dir: Path, split: str, img_size: int, count: int, seed: int = 0) -> Images:
    """ Load some images of an image folder, chosen at random from all classes together.

    Args:
        data_dir: Folder with a folder for each split, which has one for each class.
        split: Folder of the split, or one of timm's names for it.
        img_size: Size in pixels. Images are cut to squares and resized.
        count: Number of images.
        seed: Seed of the choice.

    Raises:
        UserError: If there are too few images, if some are in a hidden folder, or if one cannot be read.
    """
    names = next((names for names in SPLITS.values() if split in names), (split,))
    folder = next((data_dir / name for name in (split, *names) if (data_dir / name).is_dir()), data_dir / split)
    try:
        reader = create_dataset('', str(folder), search_split=False).reader
    except (AssertionError, RuntimeError):  # there is no such folder, or it is empty
        raise UserError(f'{data_dir} has no images of a split {shown(split)!r}: put some into a folder for each class'
                        f' in {shown(str(data_dir / split))}.') from None
    files = reader.samples
    check_not_hidden(folder, (file for file, _ in files))
    num_classes = len(reader.class_to_idx)
    if num_classes < 2:
        raise UserError(f'{data_dir} has one class in its split {split!r}: two or more are needed.')
    if len(files) < count:
        raise UserError(f'{data_dir} has {len(files)} images in its split {split!r}: {count} are needed.')
    chosen = np.random.RandomState(seed).permutation(len(files))[:count]
    pixels = torch.stack([
        torch.from_numpy(np.asarray(ImageOps.fit(
            read_image(Path(files[i][0])).convert('RGB'), (img_size, img_size), Image.Resampling.BICUBIC)).copy())
        for i in chosen])
    return Images(pixels.permute(0, 3, 1, 2), torch.tensor([files[i][1] for i in chosen]), num_classes)


def normalize(pixels: torch.Tensor, model: Any) -> torch.Tensor:
    """ Images (N, 3, H, W) as a network takes them, from pixels of uint8."""
    config = resolve_data_config(model=model)
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ('mean', 'std'))
    return (pixels / 255 - mean) / std


def flat_tensors(border: Any) -> List[torch.Tensor]:
    """ Tensors that a block takes or gives, in lists and tuples too."""
    if isinstance(border, torch.Tensor):
        return [border]
    return [x for part in border for x in flat_tensors(part)] if isinstance(border, (list, tuple)) else []


def map_side(x: torch.Tensor) -> Optional[int]:
    """ Side of a square feature map, (B, C, H, W) or (B, H, W, C). None if the tensor is not a feature map."""
    if x.ndim != 4:
        return None
    _, first, second, last = x.shape
    return second if second == last else first if first == second else None


@torch.no_grad()
def calibrate_norms(model: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """ Set the running statistics of batch norms to those of some images."""
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
