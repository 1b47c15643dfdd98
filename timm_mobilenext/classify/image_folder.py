""" Image folders: a folder for each class in train/ and in validation/, as timm reads them

In a training, timm passes over classes without images and images that it cannot read. The check finds them before.
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
from ..shared.paths import find_splits

__all__ = ['check_image_folder', 'run_check']


def run_check(data_dir: Path, num_classes: Optional[int] = None) -> None:
    """ Check an image folder and print what is in it.

    Args:
        data_dir: Image folder.
        num_classes: Expected number of classes.

    Raises:
        UserError: If something is wrong, the first thing of it, or if there is another number of classes.
    """
    console = create_console()
    counts = check_image_folder(data_dir, console)
    if num_classes is not None and num_classes != counts['classes']:
        raise UserError(
            f'{data_dir} has {counts["classes"]} classes, not {num_classes}: give --num-classes {counts["classes"]}.')
    console.print(f'data   {data_dir}: {counts["classes"]} classes, {counts["train"]} images to train,'
                  f' {counts["validate"]} to validate, all can be read')


def check_image_folder(data_dir: Path, console: Console) -> Dict[str, int]:
    """ Read an image folder as timm does, and every image in it.

    Args:
        data_dir: Image folder.
        console: Console that shows the progress.

    Returns:
        Number of `classes`, of images to `train` on, and of images to `validate` on.

    Raises:
        UserError: If a split or a class has no images, there are fewer than two classes, or an image cannot be read.
    """
    found: Dict[Path, Set[str]] = {}
    classes: Set[str] = set()
    samples = []
    counts: Dict[str, int] = {}
    for task, folder in find_splits(data_dir).items():
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
        except Exception as e:  # bytes that are not an image lead to errors of every kind
            raise UserError(f'{file} cannot be read as an image ({type(e).__name__}): repair or remove it.') from e
    return dict(counts, classes=len(classes))
