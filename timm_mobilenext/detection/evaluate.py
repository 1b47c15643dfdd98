""" How good detections are: the twelve figures of COCO, by pycocotools, and the average precision of Pascal VOC"""
import contextlib
import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.data import DataLoader, Dataset
from torchvision.ops import box_iou

from ..shared.console import create_console
from ..shared.errors import UserError
from ..shared.files import replacing
from .data import BCCD, collate, create_transform, DetectionDataset, DetectionSplit, load_split
from .predict import load_detector

__all__ = [
    'coco_figures', 'COCO_FIGURES', 'create_evaluation', 'detect', 'read_detections', 'run_eval', 'voc_figures',
]

COCO_FIGURES = (
    'AP', 'AP50', 'AP75', 'AP small', 'AP medium', 'AP large',
    'AR 1', 'AR 10', 'AR 100', 'AR small', 'AR medium', 'AR large',
)
# image_id, category_id, bbox (x, y, width, height) and score, as COCO's results, and the class by its name
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
        model_name: Folder or Hub repository of a detector.
        data_dir: Folder of the data set, the photographs that come with the package if None.
        split_name: Split of it.
        detections_file: JSON of detections, in COCO's format of results, in place of a detector.
        output: JSON to write the detections to.
        batch_size: Images at a time.
        workers: Processes that read images.
        device: Device of torch.
        use_07_metric: Average precision of VOC at eleven recalls, as up to 2009.

    Raises:
        UserError: If the data or the detections can't be used, or the classes differ from the detector's.
        UserError: If the detector can't be had.
    """
    console = create_console()
    data_dir = data_dir or BCCD
    if (model_name is None) == (detections_file is None):
        raise UserError('Give a detector or --detections, one of them.')
    if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise UserError(f'{output} can not be written: give the name of a JSON file, in a folder that is there.')
    if model_name is not None:
        model = load_detector(model_name, device)
        split = load_split(data_dir, split_name, model.class_names)
        dataset = DetectionDataset(split, create_transform(model.img_size, model.transform.image_mean))
        detections = detect(model, dataset, split, batch_size, workers, device, console)
    else:
        split = load_split(data_dir, split_name)
        detections = read_detections(Path(str(detections_file)), split)
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
    """ Detections in images of a split, all or some of them, in pixels of the images as they are."""
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
    """ Stored detections, their classes by name where they have one: numbers are each split's own.

    Raises:
        UserError: If they are not in COCO's format, or of images or classes that the split does not have.
    """
    try:
        detections = json.loads(file.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise UserError(f'{file} is not there: give a JSON file of detections.') from None
    except ValueError as e:
        raise UserError(f'{file} is no JSON: {e}.') from None
    image_ids, category_ids = {sample.image_id for sample in split.samples}, set(split.category_ids)
    by_name = dict(zip(split.class_names, split.category_ids, strict=True))
    if not isinstance(detections, list):
        raise UserError(f'{file} holds no list of detections.')
    for i, detection in enumerate(detections):
        box = detection.get('bbox') if isinstance(detection, dict) else None
        if not (isinstance(box, list) and len(box) == 4 and isinstance(detection.get('score'), (int, float))
                and isinstance(detection.get('image_id'), (int, str))):
            raise UserError(f'Detection {i} in {file} has not image_id, category_id, bbox of four and score.')
        if detection['image_id'] not in image_ids:
            raise UserError(f'Detection {i} in {file} is of image {detection["image_id"]!r}, which {split.name}'
                             ' does not have.')
        if 'class' in detection:
            # one that the split has no box of counts for nothing, whatever its number
            detection['category_id'] = by_name.get(detection['class'], 0)
        elif detection.get('category_id') not in category_ids:
            raise UserError(f'Detection {i} in {file} is of category {detection.get("category_id")!r}, which'
                             f' {split.name} does not have.')
    return detections


def create_evaluation(split: DetectionSplit, detections: Detections) -> COCOeval:
    """ pycocotools' evaluation of detections, yet to be run."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        # from 1 on, since pycocotools takes 0 for none
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
    """ COCO's twelve figures, and the AP of each class; NaN where there is nothing to find."""
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
    """ Average precision of each class at an IoU of 0.5, by Pascal VOC's rules; NaN of a class without boxes.

    A box is found by the detection of the highest score that overlaps it most, once; what overlaps a difficult box most
    is neither right nor wrong. From 2010 on, precision is averaged over all recalls.
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
                hits.append(boxes[best]['id'] not in taken)
                taken.add(boxes[best]['id'])
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
    """ Two tables, in percent."""
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
