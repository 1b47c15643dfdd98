"""Make the data of tin100.py from the published Tiny ImageNet: 100 classes, with a split to choose rates on.

    python -m experiments.tiny_imagenet tiny-imagenet-200 tin100

tin100.csv lists, by their numbers, the photographs of the published training set that are held out to report on. It
also lists four that are left out, for they are copies of others. The published validation images are the split `tune`.
Images are linked, not copied.
"""
import argparse
import csv
from pathlib import Path
from typing import Dict, List, Tuple

from timm_mobilenext.shared.files import replacing

SPLITS = Path(__file__).with_name('tin100.csv')
NUM_IMAGES = 500  # of a class in the published training set


def read_splits() -> Dict[str, Tuple[List[int], List[int]]]:
    """For each class, the numbers of the images to report on, and of those that are left out."""
    with SPLITS.open(newline='') as file:
        rows = list(csv.DictReader(file))
    return {row['wnid']: ([*map(int, row['validation'].split())], [*map(int, row['removed'].split())]) for row in rows}


def read_tune(published: Path) -> Dict[str, List[str]]:
    """For each class, the names of its published validation images."""
    names: Dict[str, List[str]] = {}
    for line in (published / 'val' / 'val_annotations.txt').read_text().splitlines():
        name, wnid, *_ = line.split('\t')
        names.setdefault(wnid, []).append(name)
    return names


def split(published: Path, data_dir: Path) -> Dict[str, int]:
    """Link the images of the three splits.

    Args:
        published: Folder of `train/WNID/images/*.JPEG`, `val/images/*.JPEG` and `val/val_annotations.txt`.
        data_dir: Folder that is made, with a folder for each class in `train`, `validation` and `tune`.

    Returns:
        The number of images of each split.

    Raises:
        SystemExit: The published folder lacks an image, or `data_dir` exists.
    """
    tune, links = read_tune(published), {}
    for wnid, (validation, removed) in read_splits().items():
        for number in set(range(NUM_IMAGES)).difference(removed):
            name = f'{wnid}_{number}.JPEG'
            links['validation' if number in validation else 'train', wnid, name] = published / 'train' / wnid / 'images'
        links.update({('tune', wnid, name): published / 'val' / 'images' for name in tune.get(wnid, ())})
    counts: Dict[str, int] = {}
    for (name, _, image), folder in links.items():
        counts[name] = counts.get(name, 0) + 1
        if not (folder / image).is_file():
            raise SystemExit(f'{folder / image} is missing: give the folder of the whole Tiny ImageNet.')
    if data_dir.exists():
        raise SystemExit(f'{data_dir} exists: give a new folder.')
    with replacing(data_dir) as new:
        for (name, wnid, image), folder in links.items():
            link = new / name / wnid / image
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((folder / image).resolve())
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('published', type=Path, help='folder of the published Tiny ImageNet, tiny-imagenet-200')
    parser.add_argument('data_dir', type=Path, help='folder to make')
    args = parser.parse_args()
    if not (args.published / 'val' / 'val_annotations.txt').is_file():
        parser.error(f'{args.published} has no val/val_annotations.txt: give the folder tiny-imagenet-200')
    for name, count in split(args.published, args.data_dir).items():
        print(f'{name:11} {count:,} images')


if __name__ == '__main__':
    main()
