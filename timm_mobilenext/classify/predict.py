""" What is in a photograph: a model of timm names it, in a table and in a picture

Nothing here knows MobileNeXt: any model of timm with weights will do.
"""
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from timm.data import create_transform, resolve_data_config

from ..shared.console import create_table_console
from ..shared.device import check_device
from ..shared.errors import first_line, UserError
from ..shared.extras import need
from ..shared.files import replacing
from ..shared.images import check_all_read, read_image
from ..shared.names import name_classes
from .arguments import check_predict
from .load import check_name, load_model

__all__ = ['name_images', 'Prediction', 'print_table', 'run_predict']

_MODES = {1: 'L', 3: 'RGB'}  # of PIL, for so many channels
_SHOWN = 400  # pixels of a side in a picture


@dataclass
class Prediction:
    """ What a model says about an image."""
    file: Path
    image: Image.Image  # small
    classes: List[Tuple[str, float]]  # names and probabilities, the most probable first


def run_predict(
        files: Sequence[Path],
        model_name: str,
        top_k: int,
        output: Optional[Path],
        device: str = 'cpu',
) -> None:
    """ Name what is in images, print a table, and draw a picture if there is an output.

    An image that cannot be read does not keep the others from being named.

    Args:
        files: Images.
        model_name: Model of timm, `local-dir:` and a Hub folder, or `hf-hub:` and a repository.
        top_k: Number of classes to name for each image.
        output: PNG to write.
        device: Device of torch.

    Raises:
        UserError: If an image, the output, the device or the model cannot be used.
    """
    check_predict(files, output)
    check_device(device)
    check_name(model_name)
    if output is not None:
        need('matplotlib', extra='demo')
    console = create_table_console()
    model = load_model(model_name).to(device)
    predictions, bad = name_images(model, files, top_k, console, device)
    if predictions:
        print_table(predictions, console)
    if predictions and output is not None:
        from .plots import draw_predictions

        with replacing(output) as new:
            draw_predictions(new, model_name, predictions)
        console.print(f'\npicture  {output}', soft_wrap=True)
    check_all_read(bad, len(files))


@torch.inference_mode()
def name_images(
        model: Any,
        files: Sequence[Path],
        top_k: int,
        console: Console,
        device: str = 'cpu',
) -> Tuple[List[Prediction], Dict[Path, UserError]]:
    """ Name the most probable classes of each image.

    Args:
        model: Model, on the device.
        files: Images.
        top_k: Number of classes to name for each image.
        console: Console that shows the progress.
        device: Device of torch.

    Returns:
        What the model says of each image that can be read, and the errors of the others.

    Raises:
        UserError: If the model does not take photographs, or does not work at the size of its images.
    """
    config = resolve_data_config(model=model, use_test_size=True)
    transform: Any = create_transform(**config)
    channels = config['input_size'][0]
    if channels not in _MODES:
        raise UserError(f'The model takes images of {channels} channels, and a photograph has 3 (colour) or 1'
                        ' (greyscale): give a model of 3 or 1.')
    name = name_classes(model)
    predictions = []
    bad: Dict[Path, UserError] = {}
    for file in track(files, 'naming images', console=console, transient=True, disable=not console.is_terminal):
        try:
            image = read_image(file).convert(_MODES[channels])
        except UserError as e:
            bad[file] = e
            continue
        try:
            probabilities = model(transform(image)[None].to(device))[0].softmax(0)
        except (AssertionError, RuntimeError, ValueError) as e:
            size = ' x '.join(map(str, config['input_size']))
            raise UserError(f'The model does not work on images of {size}: {first_line(e)}') from e
        top = probabilities.topk(min(top_k, len(probabilities)))
        classes = [(name(int(i)), float(p)) for i, p in zip(top.indices, top.values, strict=True)]
        image.thumbnail((_SHOWN, _SHOWN))  # enough for a picture, and many fit into memory
        predictions.append(Prediction(file, image, classes))
    return predictions, bad


def print_table(predictions: Sequence[Prediction], console: Console) -> None:
    """ Print a row for each image."""
    table = Table(box=None, pad_edge=False, header_style='bold')
    for heading in ('image', 'is', '', 'or'):
        table.add_column(heading, justify='right' if not heading else 'left', overflow='fold')
    for prediction in predictions:
        (name, probability), *others = prediction.classes
        rest = ', '.join(f'{other} {100 * p:.1f} %' for other, p in others)
        table.add_row(Text(prediction.file.name), Text(name, style='bold'), f'{100 * probability:.1f} %', Text(rest))
    console.print(table)
