""" Boxes around what is in photographs, drawn on them and written as JSON"""
import contextlib
import io
import json
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import torch
from PIL import Image, ImageDraw
from rich.progress import track
from rich.table import Table
from rich.text import Text
from torchvision.transforms.v2 import functional as F

from ..checkpoints.read import check_finite
from ..hub.pull import download
from ..shared.console import create_table_console
from ..shared.device import check_device
from ..shared.errors import shown, UserError
from ..shared.files import replacing
from ..shared.images import check_all_read, read_image
from ..shared.paths import check_file, check_output_folder
from ..shared.style import INK, legible, load_font
from .ssdlite import SSDLite

__all__ = ['draw_boxes', 'find_boxes', 'load_detector', 'run_predict']

_HUB = 'hf-hub:'
# of the same lightness, so that dark text can be read on each of them
_COLORS = ('#5eead4', '#fdba74', '#93c5fd', '#f9a8d4', '#bef264', '#c4b5fd', '#fcd34d', '#a5f3fc')


def load_detector(name: str, device: str = 'cpu') -> SSDLite:
    """ Load a detector with its weights, in evaluation mode.

    Args:
        name: Folder with config.json and model.safetensors, or `hf-hub:` and a repository.
        device: Device of torch.

    Raises:
        UserError: If there is no such folder, repository or device, or if the detector is damaged.
    """
    check_device(device)
    if not name.startswith(_HUB) and not (Path(name) / 'config.json').is_file():
        raise UserError(f'{name} is not the folder of a detector, with a config.json and a model.safetensors: give'
                        f' one, or {_HUB} and a repository.')
    source = Path(name)
    if name.startswith(_HUB):
        source = download(name, only=['config.json', 'model.safetensors'])
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # huggingface_hub prints that it loads
            model: SSDLite = SSDLite.from_pretrained(source)
        check_finite(model.state_dict())
        return model.to(device).eval()
    except Exception as e:  # a stranger's config and weights may lead to any error
        reason = shown(' '.join(str(e).split()) or type(e).__name__)
        raise UserError(f'{name} is not a detector that can be used: {reason}') from e


def run_predict(
        files: Sequence[Path],
        model_name: str,
        output: Path,
        score_thresh: float = 0.5,
        device: str = 'cpu',
) -> None:
    """ Find boxes in images, draw them, and print a table.

    An image that cannot be read does not keep the others from being done.

    Args:
        files: Images.
        model_name: Folder of a detector, or `hf-hub:` and a repository.
        output: Folder to write to: a PNG for each image, and detections.json.
        score_thresh: Lowest score of a detection that is shown.
        device: Device of torch.

    Raises:
        UserError: If an image, the output or the detector cannot be used.
    """
    console = create_table_console()
    for file in files:
        check_file(file)
    check_output_folder(output)
    named: Dict[str, Path] = {}
    for file in files:
        name = file.stem.casefold()  # macOS and Windows take A.png and a.png for one file
        if name in named:
            raise UserError(f'{named[name]} and {file} would have the same picture: give them in two calls.')
        named[name] = file
        if (output / f'{file.stem}.png').resolve() == file.resolve():
            raise UserError(f'{file} would be replaced by its picture: give another folder than {output}.')
    model = load_detector(model_name, device)
    table = Table('image', 'boxes', 'of', box=None, pad_edge=False, header_style='bold')
    table.columns[1].justify = 'right'
    results = []
    bad: Dict[Path, UserError] = {}
    for file in track(files, 'finding boxes', console=console, transient=True, disable=not console.is_terminal):
        try:
            image = read_image(file).convert('RGB')
        except UserError as e:
            bad[file] = e
            continue
        found = [box for box in find_boxes(model, image, device) if box['score'] >= score_thresh]
        results.append(dict(file=str(file), boxes=found))
        output.mkdir(parents=True, exist_ok=True)
        with replacing(output / f'{file.stem}.png') as new:
            draw_boxes(image, found, model.class_names).save(new, format='PNG')
        counts = {name: sum(box['class'] == name for box in found) for name in model.class_names}
        summary = ', '.join(f'{count} {name}' for name, count in counts.items() if count)
        table.add_row(Text(file.name), str(len(found)), Text(summary))
    if results:
        with replacing(output / 'detections.json') as new:
            new.write_text(json.dumps(results, indent=1) + '\n', encoding='utf-8')
        console.print(table)
        console.print(f'\nwritten  {output}: a PNG for each image, detections.json', soft_wrap=True)
    check_all_read(bad, len(files))


@torch.inference_mode()
def find_boxes(model: Any, image: Image.Image, device: Any = 'cpu') -> List[Dict[str, Any]]:
    """ Find boxes in an image: class, score and box (x1, y1, x2, y2 in pixels), sorted by score from high to low."""
    tensor = F.to_dtype(F.pil_to_tensor(image), torch.float32, scale=True)
    found = model([tensor.to(device)])[0]
    return [
        {'class': model.class_names[label - 1], 'score': round(score, 4), 'box': [round(n, 2) for n in box]}
        for label, score, box in zip(
            found['labels'].tolist(), found['scores'].tolist(), found['boxes'].tolist(), strict=True)
    ]


def draw_boxes(image: Image.Image, boxes: Sequence[Dict[str, Any]], class_names: Sequence[str]) -> Image.Image:
    """ Draw boxes on a copy of an image, each with its class and score."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    unit = max(1, round(max(image.size) / 320))
    size = 8 * unit
    font = load_font(size)
    for box in reversed(boxes):  # the highest score on top
        color = _COLORS[list(class_names).index(box['class']) % len(_COLORS)]
        corners: Tuple[float, ...] = tuple(box['box'])
        draw.rectangle(corners, outline=color, width=unit)
        score = f' {100 * box["score"]:.0f}' if 'score' in box else ''
        label = f'{legible(box["class"], size, image.width - font.getlength(score))}{score}'.strip()
        left, top, right, bottom = draw.textbbox((0, 0), label, font=font)
        x = min(corners[0], max(0, image.width - right))
        y = corners[1] - bottom - unit if corners[1] > bottom + unit else corners[1]
        draw.rectangle((x, y, x + right + unit, y + bottom + unit), fill=color)
        draw.text((x + unit / 2, y), label, fill=INK, font=font)
    return image
