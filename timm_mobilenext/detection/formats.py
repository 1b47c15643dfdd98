""" What the files of a split say, in COCO's JSON and in Pascal VOC's folders, and what is wrong with it"""
import json
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from PIL import Image

from ..shared.errors import shown, UserError

__all__ = ['Found', 'is_box', 'read_coco', 'read_voc', 'Sample']

_MAX_LISTED = 5  # errors that a message lists
_SUFFIXES = ('.jpg', '.jpeg', '.png', '.JPG', '.JPEG', '.PNG')


@dataclass
class Sample:
    """ A photograph and its boxes: x1, y1, x2, y2 in pixels, and labels from 1 on."""
    file: Path
    image_id: Any
    size: Tuple[int, int]  # width and height
    is_turned: bool  # whether the size and the boxes are of the image as its camera was held
    boxes: List[List[float]] = field(default_factory=list)
    labels: List[int] = field(default_factory=list)


class Found:
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


def read_coco(data_dir: Path, split: str, found: Found) -> Tuple[Dict[str, Any], Dict[Any, Sample]]:
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


def read_voc(data_dir: Path, split: str, found: Found) -> Tuple[Dict[str, Any], Dict[Any, Sample]]:
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


def _find_image(file: Path, image_id: Any, size: Optional[Tuple[int, int]], found: Found) -> Optional[Sample]:
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
