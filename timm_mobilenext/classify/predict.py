""" What is in a photograph: a model of timm names it, in a table and in a picture

Nothing here knows MobileNeXt, any model of timm with weights will do.
"""
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple

import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

import timm
from timm.data import create_transform, ImageNetInfo, infer_imagenet_subset, resolve_data_config
from timm.models import get_deprecated_models, is_model_pretrained

from ..hub.folders import load_hub_folder
from ..shared.console import create_table_console
from ..shared.errors import UserError
from ..shared.files import replacing
from ..shared.images import check_file, read_image

__all__ = ['load_model', 'name_images', 'Prediction', 'print_table', 'run_predict']

_LOCAL, _HUB = 'local-dir:', ('hf-hub:', 'hf_hub:')
_SHOWN, _DRAWN_AT_MOST = 400, 100  # pixels of a side in a picture, and images


@dataclass
class Prediction:
    """ What a model says of an image."""
    file: Path
    image: Image.Image  # small
    classes: List[Tuple[str, float]]  # names and probabilities, the most probable first


def run_predict(files: Sequence[Path], model_name: str, top_k: int, output: Optional[Path]) -> None:
    """ Name what is in images, print a table, and draw a picture if there is an output.

    Args:
        files: Images.
        model_name: Model of timm, `local-dir:` and a Hub folder among them.
        top_k: Classes to tell for each image.
        output: PNG to write.

    Raises:
        UserError: If an image or the output can't be used, or if the model has no weights or no classes.
        UserError: If the weights can't be had.
    """
    if output is not None:
        check_output(output, files)
    for file in files:
        check_file(file)
    # rows are for a terminal's width, or for other programs
    console = create_table_console()
    predictions = name_images(load_model(model_name), files, top_k, console)
    print_table(predictions, console)
    if output is not None:
        from .plots import draw_predictions

        with replacing(output) as new:
            draw_predictions(new, model_name, predictions)
        console.print(f'\npicture  {output}', soft_wrap=True)


def check_output(output: Path, files: Sequence[Path]) -> None:
    """ Raise a UserError if no picture can be written there."""
    if output.suffix.lower() != '.png':
        raise UserError(f'{output} is no PNG: give a name that ends in .png.')
    if output.is_dir():
        raise UserError(f'{output} is a folder: give the name of a PNG.')
    if not output.absolute().parent.is_dir():
        raise UserError(f'{output.parent} is no folder: make it, or write elsewhere.')
    if output.resolve() in [file.resolve() for file in files]:
        raise UserError(f'{output} is one of the images: give the picture another name.')
    if len(files) > _DRAWN_AT_MOST:
        raise UserError(
            f'A picture takes {_DRAWN_AT_MOST} images at most, here are {len(files)}: give fewer, or no --output.')


def load_model(name: str) -> Any:
    """ A model with weights, in evaluation mode.

    Raises:
        UserError: If it has no weights or names no classes.
        UserError: If the weights can't be had.
    """
    if name.startswith(_LOCAL):
        model: Any = load_hub_folder(Path(name.removeprefix(_LOCAL)))
    elif name.startswith(_HUB):
        repo_id = name.partition(':')[2]
        raise UserError(
            f'{name} is on the Hub: timm-mobilenext pull {repo_id} -o folder checks it, then give'
            f' --model {_LOCAL}folder.')
    else:
        name = get_deprecated_models().get(name) or name
        if not is_model_pretrained(name):
            tags = ', '.join(timm.list_pretrained(f'{name.partition(".")[0]}.*'))
            raise UserError(f'{name} has no weights: {f"give one of {tags}" if tags else "give a model that has"}.')
        cfg: Any = timm.get_pretrained_cfg(name)
        if not cfg.num_classes:
            raise UserError(f'{name} has no classifier: give a model with classes.')
        model = timm.create_model(name, pretrained=True).eval()
    if not model.num_classes:
        raise UserError(f'{name} has no classifier: give a model with classes.')
    return model


def name_classes(model: Any) -> Callable[[int], str]:
    """ Names of a model's classes: its own, ImageNet's, or their numbers where nothing tells."""
    names = model.pretrained_cfg.get('label_names')
    if names:
        # JSON makes the numbers of a dict strings
        named = {int(i): str(name) for i, name in (names.items() if isinstance(names, dict) else enumerate(names))}
        told = model.pretrained_cfg.get('label_descriptions')
        descriptions = told if isinstance(told, dict) else {}
        return lambda index: str(descriptions.get(named.get(index), named.get(index, f'class {index}')))
    subset = infer_imagenet_subset(model)
    if subset:
        info = ImageNetInfo(subset)
        # the first of its synonyms
        return lambda index: info.index_to_description(index).partition(',')[0]
    return lambda index: f'class {index}'


@torch.inference_mode()
def name_images(model: Any, files: Sequence[Path], top_k: int, console: Console) -> List[Prediction]:
    """ The most probable classes of each image.

    Raises:
        UserError: If an image can't be read.
    """
    config = resolve_data_config(model=model, use_test_size=True)
    transform: Any = create_transform(**config)
    mode = 'L' if config['input_size'][0] == 1 else 'RGB'
    name = name_classes(model)
    predictions = []
    for file in track(files, 'naming images', console=console, transient=True, disable=not console.is_terminal):
        image = read_image(file).convert(mode)
        probabilities = model(transform(image)[None])[0].softmax(0)
        top = probabilities.topk(min(top_k, len(probabilities)))
        classes = [(name(int(i)), float(p)) for i, p in zip(top.indices, top.values, strict=True)]
        image.thumbnail((_SHOWN, _SHOWN))  # of many photographs, no more is kept
        predictions.append(Prediction(file, image, classes))
    return predictions


def print_table(predictions: Sequence[Prediction], console: Console) -> None:
    """ A row for each image."""
    table = Table(box=None, pad_edge=False, header_style='bold')
    for heading in ('image', 'is', '', 'or'):
        table.add_column(heading, justify='right' if not heading else 'left', overflow='fold')
    for prediction in predictions:
        (name, probability), *others = prediction.classes
        rest = ', '.join(f'{other} {100 * p:.1f} %' for other, p in others)
        table.add_row(Text(prediction.file.name), Text(name, style='bold'), f'{100 * probability:.1f} %', Text(rest))
    console.print(table)
