""" Image folders: a folder for each class in train/ and in validation/, as timm reads them

timm passes over a class without images, and skips an image that it can't read, as it trains; here they are told before.
"""
import os
from pathlib import Path
from typing import Dict, Optional, Set

from PIL import Image
from rich.console import Console
from rich.progress import track

from timm.data import create_dataset

from ..shared.console import create_console
from ..shared.errors import UserError

__all__ = ['check_image_folder', 'run_check', 'SPLITS']

# names of the two splits, as timm knows them
SPLITS = {
    'train': ('train', 'training'),
    'validate': ('validation', 'val', 'valid', 'eval', 'evaluation'),
}


def run_check(data_dir: Path, num_classes: Optional[int] = None) -> None:
    """ Check an image folder and print what is in it.

    Raises:
        UserError: That names the first thing wrong, another number of classes than expected among them.
    """
    console = create_console()
    counts = check_image_folder(data_dir, console)
    if num_classes is not None and num_classes != counts['classes']:
        raise UserError(f'{data_dir} has {counts["classes"]} classes, not {num_classes}: give --num-classes'
                         f' {counts["classes"]}.')
    console.print(f'data   {data_dir}: {counts["classes"]} classes, {counts["train"]} images to train,'
                  f' {counts["validate"]} to validate, all can be read')


def check_image_folder(data_dir: Path, console: Console) -> Dict[str, int]:
    """ Read an image folder as timm does, every image of it.

    Returns:
        Number of `classes`, and of images to `train` and to `validate`.

    Raises:
        UserError: That names the first thing wrong: a split or a class without images, fewer than two classes, a file
            that is no image.
    """
    if not data_dir.is_dir():
        raise UserError(f'{data_dir} is no folder: give one with train/ and validation/ (or val/).')
    found: Dict[Path, Set[str]] = {}
    classes: Set[str] = set()
    samples = []
    counts: Dict[str, int] = {}
    for task, names in SPLITS.items():
        folder = next((data_dir / name for name in names if (data_dir / name).is_dir()), None)
        if folder is None:
            raise UserError(f'{data_dir} has no {" or ".join(names[:2])} folder, with a folder for each class in it.')
        try:
            reader = create_dataset('', str(folder), search_split=False).reader
        except RuntimeError:
            raise UserError(f'{folder} has no images: put some into a folder for each class there.') from None
        samples += reader.samples
        counts[task] = len(reader.samples)
        found[folder] = set(reader.class_to_idx)
        # timm passes over folders without an image
        leaves = {Path(root).name for root, subfolders, _ in os.walk(folder) if not subfolders and root != str(folder)}
        classes |= found[folder] | {name for name in leaves if not name.startswith('.')}
    if '' in classes:
        raise UserError(f'{data_dir} has images outside of class folders: put each into the folder of its class.')
    if len(classes) < 2:
        raise UserError(f'{data_dir} has one class, {min(classes)}: a classifier needs two or more.')
    for folder, has in found.items():
        if classes - has:
            missing = ', '.join(sorted(classes - has))
            raise UserError(f'{folder} has no images of class {missing}: add some, or remove the class.')
    for file, _ in track(samples, 'checking images', console=console, transient=True, disable=not console.is_terminal):
        try:
            with Image.open(file) as image:
                image.load()
        except Exception as e:
            raise UserError(f'{file} can not be read as an image ({type(e).__name__}): repair or remove it.') from e
    return dict(counts, classes=len(classes))
