""" How good detections are: COCO's twelve figures, by pycocotools, and Pascal VOC's average precision"""
import contextlib
import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.data import DataLoader, Dataset
from torchvision.ops import box_iou

from ..shared.console import create_console
from ..shared.errors import first_line, shown, UserError
from ..shared.extras import need
from ..shared.files import replacing
from ..shared.parsing import parse
from .data import BCCD, collate, create_transform, DetectionDataset, DetectionSplit, load_split
from .formats import read_box, read_number, to_id
from .predict import load_detector

__all__ = [
    'coco_figures', 'COCO_FIGURES', 'create_evaluation', 'detect', 'read_detections', 'run_eval', 'voc_figures',
]

COCO_FIGURES = (
    'AP', 'AP50', 'AP75', 'AP small', 'AP medium', 'AP large',
    'AR 1', 'AR 10', 'AR 100', 'AR small', 'AR medium', 'AR large',
)
# each with COCO's image_id, category_id, bbox (x, y, width, height) and score, and the name of the class
Detections = List[Dict[str, Any]]


def run_eval(
        model_name: Optional[str],
        data_dir: Optional[Path],
        split_name: str,
        detections_file: Optional[Path] = None,
        output: Optional[Path] = None,
        batch_size: int = 16,
        workers: int = 0,
        device: str = 'cpu',
        use_07_metric: bool = False,
) -> None:
    """ Measure a detector, or stored detections, and print the figures.

    Args:
        model_name: Folder of a detector, or `hf-hub:` and a repository.
        data_dir: Folder of the data set. None for the photographs that come with the package.
        split_name: Split of the data set.
        detections_file: JSON file of detections, in COCO's format of results, instead of a detector.
        output: JSON file to write the detections to.
        batch_size: Number of images that the detector gets at a time.
        workers: Processes that read images.
        device: Device of torch.
        use_07_metric: Average VOC's precision over eleven recalls, as VOC did before 2010.

    Raises:
        UserError: If the data, the detections or the detector cannot be used, or if their classes differ.
    """
    console = create_console()
    data_dir = data_dir or BCCD
    if (model_name is None) == (detections_file is None):
        raise UserError('Give either a detector or --detections.')
    if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise UserError(f'{output} cannot be written: give the name of a JSON file, in a folder that exists.')
    if model_name is not None:
        model = load_detector(model_name, device)
        split = load_split(data_dir, split_name, model.class_names)
        need('pycocotools', extra='detection')
        dataset = DetectionDataset(split, create_transform(model.img_size, model.transform.image_mean))
        detections = detect(model, dataset, split, batch_size, workers, device, console)
    else:
        split = load_split(data_dir, split_name)
        detections = read_detections(Path(str(detections_file)), split)
        need('pycocotools', extra='detection')
    console.print(f'data        {split.name}: {len(split.samples):,} images, {len(split.truth["annotations"]):,} boxes')
    for note in split.notes:
        console.print(f'            {note}')
    console.print(f'detections  {len(detections):,}\n')
    print_figures(*coco_figures(split, detections), voc_figures(split, detections, use_07_metric), console)
    if output is not None:
        with replacing(output) as new:
            new.write_text(json.dumps(detections), encoding='utf-8')
        console.print(f'\nwritten     {output}')


@torch.inference_mode()
def detect(
        model: Any,
        dataset: Dataset,
        split: DetectionSplit,
        batch_size: int = 16,
        workers: int = 0,
        device: Any = 'cpu',
        console: Optional[Console] = None,
) -> Detections:
    """ Find boxes in images.

    Args:
        model: Detector.
        dataset: Images of the split, all or some of them.
        split: Split that the images are from.
        batch_size: Number of images that the detector gets at a time.
        workers: Processes that read images.
        device: Device of torch that the detector is on.
        console: Console to show the progress on.

    Returns:
        Detections, in pixels of the original images.
    """
    was_training = model.training
    model.eval()
    loader: Any = DataLoader(dataset, batch_size, num_workers=workers, collate_fn=collate)
    if console is not None:
        loader = track(
            loader, 'finding boxes', console=console, transient=True, disable=not console.is_terminal)
    detections: Detections = []
    for images, targets in loader:
        size = torch.tensor(images[0].shape[-2:][::-1])
        for target, found in zip(targets, model([image.to(device) for image in images]), strict=True):
            sample = split.samples[target['index']]
            scale = (torch.tensor(sample.size) / size).repeat(2)
            boxes = found['boxes'].cpu() * scale
            boxes[:, 2:] -= boxes[:, :2]
            detections += [
                {'image_id': sample.image_id, 'category_id': split.category_ids[label - 1],
                 'class': split.class_names[label - 1], 'bbox': box, 'score': score}
                for box, label, score in zip(
                    boxes.tolist(), found['labels'].tolist(), found['scores'].tolist(), strict=True)
            ]
    model.train(was_training)
    return detections


def read_detections(file: Path, split: DetectionSplit) -> Detections:
    """ Read stored detections.

    A class goes by its name if the file has it: each split has its own numbers for classes.

    Raises:
        UserError: If the file is not in COCO's format, or if the split does not have an image or a class of it.
    """
    try:
        detections = parse(json.loads, file.read_bytes())
    except FileNotFoundError:
        raise UserError(f'{file} is not there: give a JSON file of detections.') from None
    except ValueError as e:
        raise UserError(f'{file} is not JSON: {first_line(e)}.') from None
    image_ids = {to_id(sample.image_id): sample.image_id for sample in split.samples}
    category_ids = {*split.category_ids, *(category['id'] for category in split.truth['categories'])}
    by_name = dict(zip(split.class_names, split.category_ids, strict=True))
    if not isinstance(detections, list):
        raise UserError(f'{file} does not hold a list of detections.')
    for i, detection in enumerate(detections):
        fields = detection if isinstance(detection, dict) else {}
        box, score = read_box(fields.get('bbox')), read_number(fields.get('score'))
        image_id, category_id = fields.get('image_id'), fields.get('category_id')
        if box is None or score is None or not isinstance(image_id, (int, float, str)):
            raise UserError(f'Detection {i} in {file} lacks some of image_id, category_id, bbox of four numbers, and'
                            ' score.')
        known_id, number = to_id(image_id), read_number(category_id)
        if known_id not in image_ids:
            raise UserError(f'Detection {i} in {file} is of image {shown(repr(image_id))}, which {split.name} does not'
                            ' have.')
        detection.update(bbox=box, score=score, image_id=image_ids[known_id])
        if 'class' in detection:
            # a class that the split does not have counts for nothing, whatever its number
            detection['category_id'] = by_name.get(str(detection['class']))
        elif number not in category_ids:
            raise UserError(f'Detection {i} in {file} is of category {shown(repr(category_id))}, which {split.name}'
                            ' does not have.')
        else:
            detection['category_id'] = number
    return detections


def create_evaluation(split: DetectionSplit, detections: Detections) -> Any:
    """ Create pycocotools' `COCOeval` of detections, which has not run yet."""
    from pycocotools.coco import COCO  # of the extra `detection`
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        # from 1 on, because 0 means no match to pycocotools
        annotations = [dict(annotation, id=i) for i, annotation in enumerate(split.truth['annotations'], 1)]
        truth.dataset = dict(split.truth, annotations=annotations)
        truth.createIndex()
        found.dataset = dict(
            images=split.truth['images'],
            categories=split.truth['categories'],
            annotations=[
                dict(detection, id=i, area=detection['bbox'][2] * detection['bbox'][3], iscrowd=0)
                for i, detection in enumerate(detections, 1)
            ],
        )
        found.createIndex()
        return COCOeval(truth, found, 'bbox')


def coco_figures(split: DetectionSplit, detections: Detections) -> Tuple[Dict[str, float], Dict[str, float]]:
    """ COCO's twelve figures, and the AP of each class. NaN where there is nothing to find."""
    evaluation = create_evaluation(split, detections)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = {name: _figure(value) for name, value in zip(COCO_FIGURES, evaluation.stats, strict=True)}
    classes = {}
    # IoU, recall, class, area (all), detections (100)
    precision = evaluation.eval['precision'][:, :, :, 0, -1]
    columns = {category_id: i for i, category_id in enumerate(evaluation.params.catIds)}
    for name, category_id in zip(split.class_names, split.category_ids, strict=True):
        values = precision[:, :, columns[category_id]] if category_id in columns else np.full(1, -1.)
        classes[name] = _figure(values[values > -1].mean() if (values > -1).any() else -1.)
    return figures, classes


def _figure(value: float) -> float:
    return float(value) if value >= 0 else float('nan')


def voc_figures(split: DetectionSplit, detections: Detections, use_07_metric: bool = False) -> Dict[str, float]:
    """ Average precision of each class at an IoU of 0.5, by Pascal VOC's rules. NaN for a class without boxes.

    Each detection goes to the box that it overlaps most. If several go to one box, the highest score is right and the
    others are wrong. A detection that goes to a difficult box is neither. Precision is averaged over all recalls, as
    VOC does since 2010.

    Args:
        split: Photographs with their boxes.
        detections: Detections in them.
        use_07_metric: Average over eleven recalls, as VOC did before 2010.
    """
    truth: Dict[Any, List[Dict[str, Any]]] = defaultdict(list)
    for annotation in split.truth['annotations']:
        truth[annotation['image_id'], annotation['category_id']].append(annotation)
    by_class: Dict[int, Detections] = defaultdict(list)
    for detection in detections:
        by_class[detection['category_id']].append(detection)
    figures = {}
    for name, category_id in zip(split.class_names, split.category_ids, strict=True):
        wanted = sum(
            not annotation['iscrowd'] for annotation in split.truth['annotations']
            if annotation['category_id'] == category_id)
        hits = []
        taken = set()
        for detection in sorted(by_class[category_id], key=lambda detection: -detection['score']):
            boxes = truth[detection['image_id'], category_id]
            ious = box_iou(
                _corners([detection]), _corners(boxes))[0] if boxes else torch.zeros(1, dtype=torch.float64)
            best = int(ious.argmax())
            if ious[best] < 0.5:
                hits.append(False)
            elif not boxes[best]['iscrowd']:
                hits.append(id(boxes[best]) not in taken)  # of the object, for files may lack ids
                taken.add(id(boxes[best]))
        figures[name] = _average_precision(np.array(hits, dtype=bool), wanted, use_07_metric)
    return figures


def _corners(items: Sequence[Dict[str, Any]]) -> torch.Tensor:
    boxes = torch.tensor([item['bbox'] for item in items], dtype=torch.float64)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _average_precision(hits: np.ndarray, wanted: int, use_07_metric: bool) -> float:
    if not wanted:
        return float('nan')
    right = hits.cumsum()
    recall = right / wanted
    precision = right / np.arange(1, len(hits) + 1)
    if use_07_metric:
        return float(np.mean([precision[recall >= r].max(initial=0.) for r in np.arange(11) / 10]))
    # the best precision at this recall or a higher one, over the steps of recall
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.) * envelope).sum())


def print_figures(
        coco: Dict[str, float],
        classes: Dict[str, float],
        voc: Dict[str, float],
        console: Console,
) -> None:
    """ Print two tables of percentages: COCO's figures, and each class."""
    table = Table('COCO', '', box=None, pad_edge=False, header_style='bold')
    table.columns[1].justify = 'right'
    for name in COCO_FIGURES:
        table.add_row(name, _percent(coco[name]))
    console.print(table)
    console.print()
    table = Table('class', 'AP', 'AP50 of VOC', box=None, pad_edge=False, header_style='bold')
    for column in table.columns[1:]:
        column.justify = 'right'
    for name, ap in voc.items():
        table.add_row(name, _percent(classes[name]), _percent(ap))
    known = [ap for ap in voc.values() if ap == ap]
    table.add_row('mean', _percent(coco['AP']), _percent(float(np.mean(known)) if known else float('nan')))
    console.print(table)


def _percent(figure: float) -> str:
    return f'{100 * figure:.2f} %' if figure >= 0 else '-'
