""" What the files of a split say, in COCO's JSON and in Pascal VOC's folders, and what is wrong with it"""
import codecs
import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from PIL import Image

from ..shared.errors import shown, UserError
from ..shared.parsing import parse

__all__ = ['Found', 'read_box', 'read_coco', 'read_number', 'read_voc', 'Sample', 'to_id']

_MAX_LISTED = 5  # errors that a message lists
# a number as JSON and XML write it, where Python would take 1_0 and inf too
_NUMBER = re.compile(r'\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*', re.ASCII | re.IGNORECASE)
_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')  # of VOC's images, the first wins


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
        self.told: List[str] = []

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
        return self.told + [f'{count:,} {what}, the first in {self.first[what]}' for what, count in self.counts.items()]


def read_coco(data_dir: Path, split: str, found: Found) -> Tuple[Dict[str, Any], Dict[Any, Sample], Dict[str, int]]:
    """ Truth in COCO's format, photographs by their ids, and the truth's category of each class.

    The truth has numbers where the file has them as text.
    """
    file = data_dir / split
    try:
        truth = parse(json.loads, file.read_bytes())
        images, annotations, categories = truth['images'], truth['annotations'], truth['categories']
        for item in (*images, *annotations, *categories):
            for key in ('id', 'image_id', 'category_id'):
                if item.get(key) is not None and not is_id(item[key]):
                    raise TypeError(f'{key} {shown(repr(item[key]))} is neither a whole number nor text')
            if not isinstance(item.get('file_name') or '', str):
                raise TypeError('a file_name is not text')
        for category in categories:
            number = read_number(category['id'])
            if not isinstance(number, int):
                raise TypeError(f'category id {shown(repr(category["id"]))} is not a whole number')
            category['id'], category['name'] = number, str(category['name'])
        categories.sort(key=lambda category: category['id'])
    except FileNotFoundError:
        raise UserError(f'{file} is not there: give the JSON file of a split, in {data_dir}.') from None
    except (ValueError, LookupError, TypeError, AttributeError) as e:
        reason = f'{type(e).__name__}: {shown(str(e))}'
        raise UserError(f'{file} is not a JSON file in the format of COCO ({reason}).') from None
    for what, items in (('category', categories), ('image', images), ('annotation', annotations)):
        for item_id, count in Counter(to_id(item.get('id')) for item in items).items():
            if count > 1 and item_id is not None or item_id is None and what != 'annotation':
                found.refuse(f'{file} has {count} entries of {what} id {shown(item_id)}')
    if len({isinstance(image.get('id'), str) for image in images}) > 1:  # pycocotools would take all for text
        found.refuse(f'{file} has image ids that are numbers and others that are text')
    locate = _find_images(data_dir, file, [image.get('file_name') for image in images])
    samples = {}
    for image in images:
        name = image.get('file_name')
        if not name:
            found.refuse(f'{file} has an image without a file_name, id {shown(image.get("id"))}')
            continue
        _read_numbers(image, ('width', 'height'), f'{file}: image {shown(image.get("id"))}', found)
        size = (image['width'], image['height']) if image.get('width') and image.get('height') else None
        sample = _find_image(locate(name), image.get('id'), size, found)
        if sample:
            samples[sample.image_id] = sample
            image['width'], image['height'] = sample.size
    _read_annotations(file, truth, found)
    classes = _leave_out_parents(truth, found)
    if len({category['name'] for category in classes}) < len(classes):
        found.refuse(f'{file} has two categories with the same name')
    return truth, samples, {category['name']: category['id'] for category in classes}


def _find_images(data_dir: Path, json_file: Path, names: Sequence[Optional[str]]) -> Callable[[str], Path]:
    """ Function that finds an image by its name, in the folder that has the first one.

    Names may begin with folders of another computer, and have backslashes.
    """
    kind = json_file.stem.rpartition('_')[2]  # such as train2017
    folders = list(dict.fromkeys((
        data_dir / kind, data_dir / 'images' / kind, data_dir, data_dir / 'images', json_file.parent,
        json_file.parent / 'images')))
    first = next(filter(None, names), None)
    if first is None:
        return data_dir.joinpath
    spellings = [PurePosixPath(first).parts, PurePosixPath(first.replace('\\', '/')).parts]
    folder, dropped = next((
        (folder, parts[:start]) for parts in spellings for start in range(len(parts)) for folder in folders
        if folder.joinpath(*parts[start:]).is_file()), (None, ()))
    if folder is None:
        raise UserError(f'{shown(first)}, the first image of {json_file}, is not there. These folders do not have it:'
                        f' {", ".join(str(folder) for folder in folders)}.')

    def locate(name: str) -> Path:
        files = []
        for spelling in (name, name.replace('\\', '/')):
            parts = PurePosixPath(spelling).parts
            files.append(folder.joinpath(*(parts[len(dropped):] if parts[:len(dropped)] == dropped else parts)))
        return files[0] if files[0].is_file() else files[1]

    return locate


def _leave_out_parents(truth: Dict[str, Any], found: Found) -> List[Dict[str, Any]]:
    """ Categories that are classes. Roboflow puts one without boxes before them, which is the parent of all."""
    used = {annotation.get('category_id') for annotation in truth['annotations']}
    parents = [category for category in truth['categories'] if category['id'] not in used and any(
        other is not category and other.get('supercategory') == category['name'] for other in truth['categories'])]
    if parents:
        names = ', '.join(category['name'] for category in parents)
        found.told.append(f'{len(parents)} categories without boxes, parents of others, are left out: {shown(names)}')
    return [category for category in truth['categories'] if category not in parents]


def _read_annotations(file: Path, truth: Dict[str, Any], found: Found) -> None:
    """ Make numbers of the fields of annotations, and fill in what tools leave out."""
    image_ids = {to_id(image.get('id')): image.get('id') for image in truth['images']}
    category_ids = {category['id'] for category in truth['categories']}
    given = (to_id(annotation.get('id')) for annotation in truth['annotations'])
    free = 1 + max((number for number in given if isinstance(number, int)), default=0)
    for place, annotation in enumerate(truth['annotations'], 1):
        if annotation.get('id') is None:
            name = f'{file}: annotation {place} of the list'
            annotation['id'] = free
            free += 1
        else:
            name = f'{file}: annotation {shown(annotation["id"])}'
        box = annotation['bbox'] = read_box(annotation.get('bbox'))
        if box is None:
            found.refuse(f'{name} has no bbox of four numbers')
            continue
        for key, value in (('iscrowd', 0), ('area', box[2] * box[3])):
            if annotation.get(key) is None:
                annotation[key] = value
        _read_numbers(annotation, ('iscrowd', 'area', 'difficult'), name, found)
        if annotation['iscrowd'] not in (0, 1, None):
            found.refuse(f'{name}: iscrowd is {shown(annotation["iscrowd"])}, not 0 or 1')
        image_id, category_id = annotation.get('image_id'), read_number(annotation.get('category_id'))
        if to_id(image_id) not in image_ids:
            found.refuse(f'{name} is of image {shown(image_id)}, which is not there')
        if category_id not in category_ids:
            found.refuse(f'{name} is of unknown class {shown(annotation.get("category_id"))}')
        annotation['image_id'], annotation['category_id'] = image_ids.get(to_id(image_id)), category_id


def read_number(value: Any) -> Any:
    """ A finite number below 2 ** 63, also one that is written as text; None for anything else."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        number = float(value)
        value = int(value) if number.is_integer() and value.strip().lstrip('+-').isdigit() else number
    if not isinstance(value, (int, float)) or not abs(value) < 2 ** 63:
        return None
    return int(value) if value == int(value) else value


def read_box(value: Any) -> Optional[List[Any]]:
    """ A list of four numbers; None if this is not one."""
    box = [read_number(n) for n in value] if isinstance(value, list) else []
    return box if len(box) == 4 and None not in box else None


def is_id(value: Any) -> bool:
    """ Whether this can be an id: text or a whole number."""
    return isinstance(value, str) or isinstance(read_number(value), int)


def to_id(value: Any) -> Any:
    """ An id, as a number if it is one. The text `7` is the number 7, and `007` is a name."""
    number = read_number(value)
    return value if isinstance(value, str) and value != str(number) else number


def _read_numbers(item: Dict[str, Any], keys: Sequence[str], name: str, found: Found) -> None:
    """ Make numbers of fields, and refuse what is none. A field may be missing."""
    for key in keys:
        value = item.get(key)
        if value is not None:
            item[key] = read_number(value)
            if item[key] is None:
                found.refuse(f'{name}: {key} is {shown(repr(value))}, which is not a number')


def read_voc(data_dir: Path, split: str, found: Found) -> Tuple[Dict[str, Any], Dict[Any, Sample], Dict[str, int]]:
    """ Truth in COCO's format, photographs by their ids, and the truth's category of each class."""
    samples: Dict[Any, Sample] = {}
    images: Dict[Path, Dict[str, List[Path]]] = {}  # of each folder, by their names without suffixes
    owners: Dict[Path, Path] = {}  # the annotation of each image
    annotations: List[Dict[str, Any]] = []
    for part in split.split('+'):
        folder, _, name = part.rpartition('/')
        root = data_dir / folder
        file = root / 'ImageSets' / 'Main' / f'{name}.txt'
        if not file.is_file():
            raise UserError(f'{file} is not there: give a list in {root / "ImageSets" / "Main"}, or a JSON file.')
        lines = _read_text(file).splitlines()
        listed = [_listed_name(line.strip(), root / 'Annotations') for line in lines if line.strip()]
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
                boxes = [_voc_object(item, place) for place, item in enumerate(tree.iter('object'), 1)]
                size = [_voc_number(tree, f'size/{side}', default=0) for side in ('width', 'height')]
            except UserError as e:
                found.refuse(f'{xml}: {e}')
                continue
            except (OSError, ElementTree.ParseError, ValueError, LookupError) as e:  # an encoding that is none
                found.refuse(f'{xml} cannot be read as an annotation ({type(e).__name__})')
                continue
            image_file = _voc_image(root / 'JPEGImages' / image_name, tree.findtext('filename') or '', images)
            other = owners.setdefault(image_file, xml)
            if other != xml:
                found.refuse(f'{xml} and {other.name} are both of {image_file}')
                continue
            sample = _find_image(image_file, image_id, (size[0], size[1]) if all(size) else None, found)
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
    return truth, samples, ids


def _read_text(file: Path) -> str:
    """ Text as Windows writes it too, with names that are not UTF-8 as the system's calls take them."""
    data = file.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode('utf-16', 'replace')
    return data.decode('utf-8-sig', 'surrogateescape')


def _listed_name(line: str, folder: Path) -> str:
    """ Name that a line of a list gives, which may have spaces. In lists of one class, -1, 0 or 1 follows it."""
    return line if (folder / f'{line}.xml').is_file() else re.sub(r'\s+(-1|0|1)$', '', line)


def _voc_image(place: Path, given: str, images: Dict[Path, Dict[str, List[Path]]]) -> Path:
    """ File of an image.

    Args:
        place: Where it should be, without a suffix.
        given: What the annotation calls it. Its folder is of another computer, and its name may be an older one.
        images: Images of the folders that were listed before.
    """
    folder = place.parent
    if folder not in images:
        images[folder] = defaultdict(list)
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            if file.suffix.lower() in _SUFFIXES:
                images[folder][file.stem].append(file)
    named = folder / (PureWindowsPath(given.strip()).name or place.name)
    if named.stem == place.name and named.is_file():
        return named
    same = sorted(images[folder].get(place.name, ()), key=lambda file: _SUFFIXES.index(file.suffix.lower()))
    return same[0] if same else named if named.is_file() else folder / f'{place.name}.jpg'


def _voc_object(item: Any, place: int) -> Tuple[str, List[float], bool]:
    """ Class, box, and whether it is difficult. VOC counts pixels from 1, and the last one belongs to the box."""
    where = f' of object {place}'
    name = (item.findtext('name') or '').strip()
    if not name:
        raise UserError(f'name{where} is missing or empty')
    x1, y1, x2, y2 = (_voc_number(item, f'bndbox/{side}', where) for side in ('xmin', 'ymin', 'xmax', 'ymax'))
    return name, [x1 - 1, y1 - 1, x2, y2], _voc_number(item, 'difficult', where, default=0) == 1


def _voc_number(item: Any, path: str, where: str = '', default: Optional[float] = None) -> Any:
    """ Number in a field, which may be missing if there is a default."""
    text = item.findtext(path)
    if text is None and default is not None:
        return default
    number = read_number(text)
    if number is None:
        reason = 'is missing' if text is None else f'is {shown(repr(text))}, which is not a number'
        raise UserError(f'{path}{where} {reason}')
    return number


def _find_image(file: Path, image_id: Any, size: Optional[Tuple[float, float]], found: Found) -> Optional[Sample]:
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
