""" Photographs with boxes: COCO's JSON and Pascal VOC's folders, checked before a training starts

A split is a file in the data folder. In COCO's format this is a JSON file, such as
`annotations/instances_val2017.json`. In VOC's format it is a list in `ImageSets/Main`, such as `trainval`; several
lists are joined by a plus, as in `VOC2007/trainval+VOC2012/trainval`.
"""
import json
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from ..shared.errors import shown, UserError
from ..shared.images import read_image
from ..shared.paths import check_folder

__all__ = ['BCCD', 'collate', 'create_transform', 'DetectionDataset', 'DetectionSplit', 'load_split', 'Sample']

BCCD = Path(__file__).parent / 'bccd'  # a dozen photographs, the default of every command
_MAX_LISTED = 5  # errors or classes that a message lists
_SUFFIXES = ('.jpg', '.jpeg', '.png', '.JPG', '.JPEG', '.PNG')
_OUTSIDE = 1.0  # pixels that a box may reach beyond its image without a note, because VOC counts pixels from 1


@dataclass
class Sample:
    """ A photograph and its boxes: x1, y1, x2, y2 in pixels, and labels from 1 on."""
    file: Path
    image_id: Any
    size: Tuple[int, int]  # width and height
    is_turned: bool  # whether the size and the boxes are of the image as its camera was held
    boxes: List[List[float]] = field(default_factory=list)
    labels: List[int] = field(default_factory=list)


@dataclass
class DetectionSplit:
    """ Photographs to train on or to measure on."""
    name: str
    class_names: List[str]
    samples: List[Sample]
    truth: Dict[str, Any]  # in COCO's format, including the boxes that the samples leave out
    category_ids: List[int]  # of each class, in the truth
    notes: List[str]  # what was left out or changed, with counts

    def count_tiny(self, img_size: int) -> int:
        """ Count the boxes that are less than a pixel wide or high at an image size, and so are not trained on."""
        return sum(
            (x2 - x1) * img_size < sample.size[0] or (y2 - y1) * img_size < sample.size[1]
            for sample in self.samples for x1, y1, x2, y2 in sample.boxes)


class _Found:
    """ What is wrong with a split: errors, for which it is refused, and faults, which are counted."""

    def __init__(self) -> None:
        self.errors: List[str] = []
        self.counts: Counter = Counter()
        self.first: Dict[str, str] = {}

    def refuse(self, error: str) -> None:
        self.errors.append(error)

    def count(self, what: str, where: str) -> None:
        self.counts[what] += 1
        self.first.setdefault(what, where)

    def check(self, name: str) -> None:
        """ Raise a UserError that lists the first errors, if there are any."""
        if self.errors:
            more = len(self.errors) - _MAX_LISTED
            raise UserError('; '.join(self.errors[:_MAX_LISTED]) + (f'; and {more} more' if more > 0 else '')
                            + f'. Mend or remove them in {name}.')

    def notes(self) -> List[str]:
        return [f'{count:,} {what}, the first in {self.first[what]}' for what, count in self.counts.items()]


def load_split(data_dir: Path, split: str, class_names: Optional[Sequence[str]] = None) -> DetectionSplit:
    """ Read and check the photographs of a split.

    Args:
        data_dir: Folder of the data set.
        split: JSON file of COCO's format in this folder, or lists of VOC's format.
        class_names: Classes that are expected. None for those of the split.

    Raises:
        UserError: If an image is missing, damaged or listed twice, if a class is unknown, or if an annotation is
            incomplete. The message names the files.
    """
    check_folder(data_dir, 'one in the format of COCO or Pascal VOC')
    found = _Found()
    truth, samples = (_read_coco if split.endswith('.json') else _read_voc)(data_dir, split, found)
    name = f'{data_dir}, {split}'
    found.check(name)
    # the truth's category of each class; a class that this split does not have gets a new one
    ids = {category['name']: category['id'] for category in truth['categories']}
    if class_names is None:
        class_names = list(ids)
    named = {category_id: name for name, category_id in ids.items()}
    for annotation in truth['annotations']:
        class_name = named[annotation['category_id']]
        if class_name not in class_names:
            file = getattr(samples.get(annotation['image_id']), 'file', f'annotation {annotation["id"]}')
            more = ' ...' if len(class_names) > _MAX_LISTED else ''
            raise UserError(f'{name} has boxes of unknown class {shown(class_name)}, the first in {file}: expected'
                            f' {", ".join(class_names[:_MAX_LISTED])}{more}.')
    free = max(ids.values(), default=0)
    category_ids = []
    for class_name in class_names:
        if class_name not in ids:
            free += 1
            ids[class_name] = free
        category_ids.append(ids[class_name])
    labels = {category_id: label for label, category_id in enumerate(category_ids, 1)}
    _fill(samples, truth, labels, found)
    found.check(name)
    if not samples:
        raise UserError(f'{name} lists no images: give another split.')
    return DetectionSplit(name, list(class_names), list(samples.values()), truth, category_ids, found.notes())


def _read_coco(data_dir: Path, split: str, found: _Found) -> Tuple[Dict[str, Any], Dict[Any, Sample]]:
    file = data_dir / split
    try:
        truth = json.loads(file.read_text(encoding='utf-8'))
        images, annotations = truth['images'], truth['annotations']
        categories = truth['categories'] = sorted(truth['categories'], key=lambda category: category['id'])
        for category in categories:
            category['id'], category['name'] = int(category['id']), str(category['name'])
        for item in (*images, *annotations):
            for key in ('id', 'image_id', 'category_id'):
                hash(item.get(key))
            if not isinstance(item.get('file_name') or '', str):
                raise TypeError('a file_name is not text')
    except FileNotFoundError:
        raise UserError(f'{file} is not there: give the JSON file of a split, in {data_dir}.') from None
    except (ValueError, LookupError, TypeError, AttributeError) as e:
        reason = f'{type(e).__name__}: {shown(str(e))}'
        raise UserError(f'{file} is not a JSON file in the format of COCO ({reason}).') from None
    for what, items in (('category', categories), ('image', images), ('annotation', annotations)):
        for item_id, count in Counter(item.get('id') for item in items if what != 'annotation' or 'id' in item).items():
            if count > 1 or item_id is None:
                found.refuse(f'{file} has {count} entries of {what} id {item_id}')
    if len({category['name'] for category in categories}) < len(categories):
        found.refuse(f'{file} has two categories with the same name')
    # where COCO and similar data sets keep images
    folders = [data_dir / Path(split).stem.rpartition('_')[2], data_dir, data_dir / 'images', file.parent]
    first = next((image['file_name'] for image in images if image.get('file_name')), None)
    folder = next((folder for folder in folders if first and (folder / first).is_file()), None)
    if first and folder is None:
        raise UserError(f'{shown(first)}, the first image of {file}, is not there. These folders do not have it:'
                        f' {", ".join(str(folder) for folder in dict.fromkeys(folders))}.')
    samples = {}
    known = {category['id'] for category in categories}
    for image in images:
        name = image.get('file_name')
        if not name:
            found.refuse(f'{file} has an image without a file_name, id {image.get("id")}')
            continue
        size = (image['width'], image['height']) if image.get('width') and image.get('height') else None
        sample = _find_image((folder or data_dir) / name, image.get('id'), size, found)
        if sample:
            samples[sample.image_id] = sample
            image['width'], image['height'] = sample.size
    for number, annotation in enumerate(annotations, 1):
        if not is_box(annotation.get('bbox')):
            found.refuse(f'{file} has an annotation without a bbox of four numbers, id {shown(annotation.get("id"))}')
            continue
        area = annotation['bbox'][2] * annotation['bbox'][3]
        for key, value in (('id', number), ('iscrowd', 0), ('area', area)):
            if annotation.get(key) is None:
                annotation[key] = value
        if not all(isinstance(annotation[key], (int, float)) for key in ('iscrowd', 'area')):
            found.refuse(f'{file} has an annotation whose iscrowd or area is not a number, id {annotation["id"]}')
        if annotation.get('category_id') not in known:
            found.refuse(f'{file} has an annotation of unknown class {shown(annotation.get("category_id"))},'
                         f' id {shown(annotation["id"])}')
    return truth, samples


def is_box(box: Any) -> bool:
    """ Whether this is a list of four finite numbers."""
    return isinstance(box, list) and len(box) == 4 and all(
        isinstance(n, (int, float)) and abs(n) < float('inf') for n in box)


def _read_voc(data_dir: Path, split: str, found: _Found) -> Tuple[Dict[str, Any], Dict[Any, Sample]]:
    samples: Dict[Any, Sample] = {}
    annotations: List[Dict[str, Any]] = []
    for part in split.split('+'):
        folder, _, name = part.rpartition('/')
        root = data_dir / folder
        file = root / 'ImageSets' / 'Main' / f'{name}.txt'
        if not file.is_file():
            raise UserError(f'{file} is not there: give a list in {root / "ImageSets" / "Main"}, or a JSON file.')
        text = file.read_text(encoding='utf-8', errors='replace')  # a wrong name is refused as a missing file
        listed = [line.split()[0] for line in text.splitlines() if line.strip()]
        for image_name, count in Counter(listed).items():
            if count > 1:
                found.refuse(f'{file} lists {image_name} {count} times')
            image_id = f'{folder}/{image_name}' if folder else image_name
            if image_id in samples:
                found.refuse(f'{file} lists {image_name}, which another list of {split} has too')
                continue
            xml = root / 'Annotations' / f'{image_name}.xml'
            try:
                tree = ElementTree.parse(xml).getroot()
                boxes = [_voc_object(item) for item in tree.iter('object')]
                size = int(tree.findtext('size/width', '0')), int(tree.findtext('size/height', '0'))
            except (OSError, ElementTree.ParseError, ValueError, LookupError, AttributeError, TypeError) as e:
                found.refuse(f'{xml} cannot be read as an annotation ({type(e).__name__})')
                continue
            files = [root / 'JPEGImages' / f'{image_name}{suffix}' for suffix in _SUFFIXES]
            image_file = next((file for file in files if file.is_file()), files[0])
            sample = _find_image(image_file, image_id, size if all(size) else None, found)
            if sample is None:
                continue
            samples[image_id] = sample
            for class_name, (x1, y1, x2, y2), difficult in boxes:
                annotations.append(dict(
                    id=len(annotations) + 1, image_id=image_id, name=class_name, bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=max(0., x2 - x1) * max(0., y2 - y1), iscrowd=int(difficult), difficult=difficult))
    ids = {name: i for i, name in enumerate(sorted({annotation['name'] for annotation in annotations}), 1)}
    for annotation in annotations:
        annotation['category_id'] = ids[annotation.pop('name')]
    truth = dict(
        images=[dict(id=s.image_id, file_name=s.file.name, width=s.size[0], height=s.size[1])
                for s in samples.values()],
        annotations=annotations,
        categories=[dict(id=i, name=name) for name, i in ids.items()],
    )
    return truth, samples


def _voc_object(item: Any) -> Tuple[str, List[float], bool]:
    """ Class, box, and whether it is difficult. VOC counts pixels from 1, and the last one belongs to the box."""
    corners = [float(item.find(f'bndbox/{corner}').text) for corner in ('xmin', 'ymin', 'xmax', 'ymax')]
    difficult = item.findtext('difficult', '0').strip() == '1'
    return item.find('name').text.strip(), [corners[0] - 1, corners[1] - 1, corners[2], corners[3]], difficult


def _find_image(file: Path, image_id: Any, size: Optional[Tuple[int, int]], found: _Found) -> Optional[Sample]:
    """ A photograph without boxes, if it is there and has the size that its annotation says."""
    if not file.is_file():
        found.refuse(f'{file} is not there')
        return None
    try:
        with Image.open(file) as image:
            plain: Tuple[int, int] = image.size
            turned = plain[::-1] if image.getexif().get(0x0112, 1) > 4 else plain
    except Exception as e:
        found.refuse(f'{file} cannot be read as an image ({type(e).__name__})')
        return None
    # without a size in the annotation, boxes are of the image as people see it
    is_turned = size is None or tuple(size) != plain
    if size is not None and tuple(size) not in (plain, turned):
        found.refuse(f'{file} has {plain[0]}x{plain[1]} pixels, not {size[0]}x{size[1]} as its annotation says')
        return None
    return Sample(file, image_id, turned if is_turned else plain, is_turned)


def _fill(samples: Dict[Any, Sample], truth: Dict[str, Any], labels: Dict[int, int], found: _Found) -> None:
    """ Give each photograph the boxes to train on, and count the others."""
    for annotation in truth['annotations']:
        sample = samples.get(annotation.get('image_id'))
        if sample is None:
            found.refuse(f'annotation {shown(annotation["id"])} is of image {shown(annotation.get("image_id"))},'
                         ' which is not there')
            continue
        x, y, width, height = annotation['bbox']
        where = str(sample.file)
        inside = [max(0., x), max(0., y), min(sample.size[0], x + width), min(sample.size[1], y + height)]
        if width <= 0 or height <= 0:
            found.count('boxes without an area are left out', where)
        elif inside[2] <= inside[0] or inside[3] <= inside[1]:
            found.count('boxes outside of their image are left out', where)
        elif annotation.get('difficult'):
            found.count('difficult boxes are not trained on', where)
        elif annotation.get('iscrowd'):
            found.count('crowds are not trained on', where)
        else:
            beyond = max(-x, -y, x + width - sample.size[0], y + height - sample.size[1])
            if beyond > _OUTSIDE:
                found.count('boxes that reach out of their image are cut', where)
            sample.boxes.append([float(n) for n in inside])
            sample.labels.append(labels[annotation['category_id']])
    for sample in samples.values():
        if not sample.boxes:
            found.count('images have no boxes', str(sample.file))


class DetectionDataset(Dataset):
    """ Photographs as uint8 tensors (3, H, W), each with its boxes, labels and index in the split."""

    def __init__(
            self,
            split: DetectionSplit,
            transform: Optional[Callable] = None,
            cache_size: Optional[int] = None,
    ):
        """
        Args:
            split: Photographs to read.
            transform: Transform of torchvision.transforms.v2, for image and target.
            cache_size: Keep every image in memory, resized to this width and height in pixels. If None, each is read
                when it is needed.
        """
        self.split = split
        self.transform = transform
        self.cache: Dict[int, torch.Tensor] = {}
        if cache_size:  # before worker processes start
            for index in range(len(self)):
                self.cache[index] = F.resize(self.read(index), [cache_size, cache_size], antialias=True)

    def __len__(self) -> int:
        return len(self.split.samples)

    def read(self, index: int) -> torch.Tensor:
        """ Read an image: resized if there is a cache, in its own size if not.

        Raises:
            UserError: If it cannot be read.
        """
        if index in self.cache:
            return self.cache[index]
        sample = self.split.samples[index]
        return F.pil_to_tensor(read_image(sample.file, sample.is_turned).convert('RGB'))

    def __getitem__(self, index: int) -> Tuple[torch.Tensor, Dict[str, Any]]:
        sample = self.split.samples[index]
        image = self.read(index)
        height, width = image.shape[-2:]
        scale = torch.tensor([width / sample.size[0], height / sample.size[1]]).repeat(2)
        boxes = torch.tensor(sample.boxes, dtype=torch.float32).reshape(-1, 4) * scale
        target: Dict[str, Any] = dict(
            boxes=tv_tensors.BoundingBoxes(boxes, format='XYXY', canvas_size=(height, width)),  # type: ignore[call-arg]
            labels=torch.tensor(sample.labels, dtype=torch.int64),
        )
        if self.transform is not None:
            image, target = self.transform(tv_tensors.Image(image), target)
        target['boxes'] = target['boxes'].as_subclass(torch.Tensor)
        return image.as_subclass(torch.Tensor), dict(target, index=index)


def create_transform(
        img_size: int,
        mean: Sequence[float],
        is_training: bool = False,
        no_aug: bool = False,
) -> v2.Compose:
    """ Create a transform to float images of one size, with SSD's augmentation for training.

    The augmentation is that of the authors' `transforms.py`: photometric distortion, zoom-out over the mean colour,
    crop by IoU, and flip.

    Args:
        img_size: Width and height in pixels.
        mean: Mean of each channel, in the range of 0 to 1.
        is_training: Use the augmentation.
        no_aug: Leave it out in training too.
    """
    augmentation: List[Any] = []
    if is_training and not no_aug:
        augmentation = [
            v2.RandomPhotometricDistort(),
            v2.RandomZoomOut(fill=[255 * m for m in mean]),
            v2.RandomIoUCrop(),
            v2.RandomHorizontalFlip(),
        ]
    return v2.Compose([
        *augmentation,
        v2.Resize((img_size, img_size), antialias=True),
        v2.SanitizeBoundingBoxes(),  # removes boxes of less than a pixel
        v2.ToDtype(torch.float32, scale=True),
    ])


def collate(batch: Sequence[Tuple[torch.Tensor, Dict[str, Any]]]) -> Tuple[List[torch.Tensor], List[Dict[str, Any]]]:
    """ Lists of images and of targets, as torchvision's detectors take them."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)
