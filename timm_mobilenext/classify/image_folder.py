""" Image folders: a folder for each class in train/ and in validation/, as timm reads them

In a training, timm passes over classes without images, images that it cannot read, and files that its readers do not
know. It takes every folder with images for a class, hidden ones too. The check finds all this before.
"""
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple

from PIL import Image
from rich.console import Console
from rich.progress import track

from timm.data import create_dataset, get_img_extensions

from ..shared.console import create_console
from ..shared.errors import UserError
from ..shared.paths import check_not_hidden, find_splits

__all__ = ['check_image_folder', 'run_check']


def run_check(data_dir: Path, num_classes: Optional[int] = None, batch_size: Optional[int] = None) -> None:
    """ Check an image folder and print what is in it.

    Args:
        data_dir: Image folder.
        num_classes: Expected number of classes.
        batch_size: Images in a step of the training, in all processes together.

    Raises:
        UserError: If something is wrong, the first thing of it, or if there is another number of classes.
    """
    console = create_console()
    counts = check_image_folder(data_dir, console)
    if num_classes is not None and num_classes != counts['classes']:
        raise UserError(
            f'{data_dir} has {counts["classes"]} classes, not {num_classes}: give --num-classes {counts["classes"]}.')
    if batch_size is not None and batch_size > counts['train']:
        raise UserError(
            f'{data_dir} has {counts["train"]} images to train, too few for a batch of {batch_size}: train.py would'
            f' make no step. Give it --batch-size {counts["train"]} or less.')
    console.print(f'data   {data_dir}: {counts["classes"]} classes, {counts["train"]} images to train,'
                  f' {counts["validate"]} to validate, all can be read')


def check_image_folder(data_dir: Path, console: Console) -> Dict[str, int]:
    """ Read an image folder as timm does, and every image in it.

    Args:
        data_dir: Image folder.
        console: Console that shows the progress, and notes on what timm passes over or takes together.

    Returns:
        Number of `classes`, of images to `train` on, and of images to `validate` on.

    Raises:
        UserError: If a split or a class has no images, there are fewer than two classes, a hidden folder has images, or
            an image cannot be read.
    """
    found: Dict[Path, Set[str]] = {}
    classes: Set[str] = set()
    samples = []
    counts: Dict[str, int] = {}
    notes = []
    read = f'timm reads ({", ".join(get_img_extensions())})'
    for task, folder in find_splits(data_dir).items():
        try:
            reader = create_dataset('', str(folder), search_split=False).reader
        except RuntimeError:
            raise UserError(
                f'{folder} has no images that {read}: put some into a folder for each class there.') from None
        files = [file for file, _ in reader.samples]
        check_not_hidden(folder, files)
        leaves, told = _walk(folder, set(files))
        samples += reader.samples
        counts[task] = len(reader.samples)
        found[folder] = set(reader.class_to_idx)
        classes |= found[folder] | leaves  # timm passes over folders without an image
        notes += told
    if '' in classes:
        raise UserError(f'{data_dir} has images outside of class folders: put each into the folder of its class.')
    if len(classes) < 2:
        raise UserError(f'{data_dir} has one class, {min(classes)}: a classifier needs two or more.')
    for folder, has in found.items():
        if classes - has:
            missing = ', '.join(sorted(classes - has))
            raise UserError(
                f'{folder} has no images of class {missing} that {read}: add some, or remove the class.')
    for file, _ in track(samples, 'checking images', console=console, transient=True, disable=not console.is_terminal):
        try:
            with Image.open(file) as image:
                image.load()
        except Exception as e:  # bytes that are not an image lead to errors of every kind
            raise UserError(f'{file} cannot be read as an image ({type(e).__name__}): repair or remove it.') from e
    for note in notes:
        console.print(f'note   {note}')
    return dict(counts, classes=len(classes))


def _walk(folder: Path, images: Set[str]) -> Tuple[Set[str], List[str]]:
    """ Names of the innermost folders of a split, and notes on what timm makes of it."""
    leaves: Set[str] = set()
    places: Dict[str, List[str]] = defaultdict(list)  # folders with images, by the class that timm takes them for
    passed_over: Counter = Counter()
    for root, subfolders, files in os.walk(str(folder), followlinks=True):  # as timm walks
        place = Path(root).relative_to(folder)
        if any(part.startswith('.') for part in place.parts):
            continue
        if not subfolders and place.parts:
            leaves.add(place.name)
        if any(os.path.join(root, file) in images for file in files):
            places[place.name].append(place.as_posix())
        passed_over.update(
            Path(file).suffix.lower() or 'without a suffix' for file in files
            if os.path.join(root, file) not in images and not file.startswith('.'))
    notes = [f'{folder}: {" and ".join(sorted(same))} are one class to timm, {name}'
             for name, same in sorted(places.items()) if len(same) > 1]
    if passed_over:
        kinds = ', '.join(f'{count:,} {kind}' for kind, count in sorted(passed_over.items()))
        notes.append(f'{folder}: timm passes over {passed_over.total():,} files, {kinds}')
    return leaves, notes
