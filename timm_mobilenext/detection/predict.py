""" Boxes around what is in photographs, drawn on them and as JSON"""
import contextlib
import io
import json
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import torch
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track
from rich.table import Table
from rich.text import Text
from torchvision.transforms.v2 import functional as F

from ..shared.console import create_table_console
from ..shared.errors import UserError
from ..shared.files import replacing
from ..shared.images import check_file, read_image
from .ssdlite import SSDLite

__all__ = ['check_device', 'draw_boxes', 'find_boxes', 'load_detector', 'run_predict']

_HUB = 'hf-hub:'
# of one lightness, so that dark text is read on all of them
_COLORS = ('#5eead4', '#fdba74', '#93c5fd', '#f9a8d4', '#bef264', '#c4b5fd', '#fcd34d', '#a5f3fc')


def check_device(device: str) -> None:
    """ Raise a UserError if this is no device that torch has here."""
    try:
        torch.empty(1, device=device)
    except Exception as e:  # what torch raises differs from device to device
        reason = (str(e).splitlines() or [type(e).__name__])[0].rstrip('.')
        raise UserError(f'There is no device {device} here ({reason}): give another, cpu for instance.') from None


def load_detector(name: str, device: str = 'cpu') -> SSDLite:
    """ A detector with its weights, in evaluation mode.

    Args:
        name: Folder with config.json and model.safetensors, or `hf-hub:` and a repository.
        device: Device of torch.

    Raises:
        UserError: If there is no such folder or device.
        UserError: If it holds no detector, or one that is damaged.
    """
    check_device(device)
    source = name.removeprefix(_HUB)
    if not name.startswith(_HUB) and not (Path(name) / 'config.json').is_file():
        raise UserError(f'{name} is no folder of a detector, with a config.json and a model.safetensors: give one, or'
                         f' {_HUB} and a repository.')
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # huggingface_hub tells that it loads
            return SSDLite.from_pretrained(source).to(device).eval()
    except (HfHubHTTPError, HFValidationError):
        raise
    except Exception as e:  # of what a stranger wrote
        reason = ' '.join(str(e).split())[:300] or type(e).__name__
        raise UserError(f'{name} is no detector that can be used: {reason}') from e


def run_predict(
        files: Sequence[Path],
        model_name: str,
        output: Path,
        score_thresh: float = 0.5,
        device: str = 'cpu',
) -> None:
    """ Find boxes in images, draw them, and print a table.

    Args:
        files: Images.
        model_name: Folder or Hub repository of a detector.
        output: Folder to write a PNG for each image and detections.json to.
        score_thresh: Score of the detections that are shown.
        device: Device of torch.

    Raises:
        UserError: If an image, the output or the name of the detector can't be used.
        UserError: If the detector can't be had.
    """
    # rows are for a terminal's width, or for other programs
    console = create_table_console()
    for file in files:
        check_file(file)
    if output.exists() and not output.is_dir():
        raise UserError(f'{output} is a file: give a folder.')
    names = [file.stem for file in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f'Two images are named {twice[0]}, whose pictures would be one: predict them apart.')
    for file in files:
        if (output / f'{file.stem}.png').resolve() == file.resolve():
            raise UserError(f'{file} would be replaced by its picture: give another folder than {output}.')
    model = load_detector(model_name, device)
    output.mkdir(parents=True, exist_ok=True)
    table = Table('image', 'boxes', 'of', box=None, pad_edge=False, header_style='bold')
    table.columns[1].justify = 'right'
    results = []
    for file in track(files, 'finding boxes', console=console, transient=True, disable=not console.is_terminal):
        image = read_image(file).convert('RGB')
        found = [box for box in find_boxes(model, image, device) if box['score'] >= score_thresh]
        results.append(dict(file=str(file), boxes=found))
        with replacing(output / f'{file.stem}.png') as new:
            draw_boxes(image, found, model.class_names).save(new, format='PNG')
        counts = {name: sum(box['class'] == name for box in found) for name in model.class_names}
        said = ', '.join(f'{count} {name}' for name, count in counts.items() if count)
        table.add_row(Text(file.name), str(len(found)), Text(said))
    with replacing(output / 'detections.json') as new:
        new.write_text(json.dumps(results, indent=1) + '\n', encoding='utf-8')
    console.print(table)
    console.print(f'\nwritten  {output}: a PNG for each image, detections.json', soft_wrap=True)


@torch.inference_mode()
def find_boxes(model: Any, image: Image.Image, device: Any = 'cpu') -> List[Dict[str, Any]]:
    """ Detections in an image: class, score, and box (x1, y1, x2, y2 in pixels), the highest score first."""
    tensor = F.to_dtype(F.pil_to_tensor(image), torch.float32, scale=True)
    found = model([tensor.to(device)])[0]
    return [
        {'class': model.class_names[label - 1], 'score': round(score, 4), 'box': [round(n, 2) for n in box]}
        for label, score, box in zip(
            found['labels'].tolist(), found['scores'].tolist(), found['boxes'].tolist(), strict=True)
    ]


def draw_boxes(image: Image.Image, boxes: Sequence[Dict[str, Any]], class_names: Sequence[str]) -> Image.Image:
    """ A copy of an image with boxes, and class and score at each."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    unit = max(1, round(max(image.size) / 320))
    font: Any = ImageFont.load_default(8 * unit)
    for box in reversed(boxes):  # the highest score on top
        color = _COLORS[list(class_names).index(box['class']) % len(_COLORS)]
        corners: Tuple[float, ...] = tuple(box['box'])
        draw.rectangle(corners, outline=color, width=unit)
        label = f'{box["class"]} {100 * box["score"]:.0f}' if 'score' in box else box['class']
        left, top, right, bottom = draw.textbbox((0, 0), label, font=font)
        x = min(corners[0], max(0, image.width - right))
        y = corners[1] - bottom - unit if corners[1] > bottom + unit else corners[1]
        draw.rectangle((x, y, x + right + unit, y + bottom + unit), fill=color)
        draw.text((x + unit / 2, y), label, fill='#1f2933', font=font)
    return image
