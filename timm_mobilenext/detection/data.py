""" Photographs with boxes: COCO's JSON and Pascal VOC's folders, checked before a training starts

A split is a file in the data folder. In COCO's format this is a JSON file, such as
`annotations/instances_val2017.json`. In VOC's format it is a list in `ImageSets/Main`, such as `trainval`; several
lists are joined by a plus, as in `VOC2007/trainval+VOC2012/trainval`.
"""
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from ..shared.errors import shown, UserError
from ..shared.images import read_image
from ..shared.paths import check_folder
from .formats import Found, read_coco, read_voc, Sample

__all__ = ['BCCD', 'collate', 'create_transform', 'DetectionDataset', 'DetectionSplit', 'load_split', 'Sample']

BCCD = Path(__file__).parent / 'bccd'  # a dozen photographs, the default of every command
_MAX_LISTED = 5  # classes that a message lists
_OUTSIDE = 1.0  # pixels that a box may reach beyond its image without a note, because VOC counts pixels from 1


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
    found = Found()
    truth, samples, ids = (read_coco if split.endswith('.json') else read_voc)(data_dir, split, found)
    name = f'{data_dir}, {split}'
    found.check(name)
    if class_names is None:
        class_names = list(ids)
    named = {category_id: name for name, category_id in ids.items()}
    for annotation in truth['annotations']:
        class_name = named[annotation['category_id']]
        if class_name not in class_names:
            file = samples[annotation['image_id']].file
            more = ' ...' if len(class_names) > _MAX_LISTED else ''
            raise UserError(f'{name} has boxes of unknown class {shown(class_name)}, the first in {file}: expected'
                            f' {", ".join(class_names[:_MAX_LISTED])}{more}.')
    # a class that this split does not have gets a new category
    free = max((category['id'] for category in truth['categories']), default=0)
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


def _fill(samples: Dict[Any, Sample], truth: Dict[str, Any], labels: Dict[int, int], found: Found) -> None:
    """ Give each photograph the boxes to train on, and count the others."""
    for annotation in truth['annotations']:
        sample = samples[annotation['image_id']]
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
