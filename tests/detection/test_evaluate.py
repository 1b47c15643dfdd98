"""COCO's figures and Pascal VOC's, of stored detections, by the command."""
import copy
import json
import random
import re
import shutil

import pytest
from helpers import OFFLINE, run_cli
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from timm_mobilenext.detection.data import BCCD, load_split
from timm_mobilenext.detection.evaluate import COCO_FIGURES, coco_figures, read_detections, voc_figures

pytestmark = [pytest.mark.tools, pytest.mark.slow]


@pytest.fixture(scope='module')
def hard(tmp_path_factory):
    """BCCD with crowds, images without boxes and boxes of all sizes, and detections with every kind of fault."""
    folder = tmp_path_factory.mktemp('hard')
    draw = random.Random(0)
    samples = load_split(BCCD, 'train').samples + load_split(BCCD, 'val').samples
    names = ['Platelets', 'RBC', 'WBC']
    truth = dict(images=[], annotations=[], categories=[dict(id=10 * i, name=name) for i, name in enumerate(names, 1)])
    detections = []
    for i, sample in enumerate(samples):
        shutil.copy(sample.file, folder)
        truth['images'].append(dict(id=100 + i, file_name=sample.file.name, width=640, height=480))
        if i in (3, 7):  # without boxes, but not without detections
            detections.append(dict(image_id=100 + i, category_id=20, bbox=[10, 10, 50, 60], score=0.4))
            continue
        for (x1, y1, x2, y2), label in zip(sample.boxes, sample.labels, strict=True):
            shrink = draw.choice((1, 1, 1, 0.3))  # some small ones
            width, height = (x2 - x1) * shrink, (y2 - y1) * shrink
            truth['annotations'].append(dict(
                id=len(truth['annotations']) + 1, image_id=100 + i, category_id=10 * label,
                bbox=[x1, y1, width, height], area=width * height * draw.uniform(0.7, 1),
                iscrowd=int(draw.random() < 0.05)))
            if draw.random() < 0.15:  # dropped
                continue
            label = label if draw.random() < 0.9 else draw.randint(1, 3)  # mislabelled
            for _ in range(2 if draw.random() < 0.15 else 1):  # duplicated
                jitter = [draw.gauss(0, 0.06) for _ in range(4)]
                detections.append(dict(
                    image_id=100 + i, category_id=10 * label, score=draw.random(),
                    bbox=[x1 + jitter[0] * width, y1 + jitter[1] * height,
                          width * (1 + jitter[2]), height * (1 + jitter[3])]))
    (folder / 'truth.json').write_text(json.dumps(truth))
    (folder / 'detections.json').write_text(json.dumps(detections))
    return folder


def reference(folder):
    """pycocotools on the files, by itself."""
    truth = COCO(str(folder / 'truth.json'))
    evaluation = COCOeval(truth, truth.loadRes(str(folder / 'detections.json')), 'bbox')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats


def test_twelve_figures_are_those_of_pycocotools(hard):
    stats = reference(hard)
    assert 0.2 < stats[0] < 0.8 and all(stats > 0)
    truth = json.loads((hard / 'truth.json').read_text())
    assert sum(annotation['iscrowd'] for annotation in truth['annotations']) >= 3
    split = load_split(hard, 'truth.json')
    figures, by_class = coco_figures(split, read_detections(hard / 'detections.json', split))
    for name, expected in zip(COCO_FIGURES, stats, strict=True):
        assert figures[name] == pytest.approx(expected, abs=1e-6)
    assert list(by_class) == split.class_names and sum(by_class.values()) / 3 == pytest.approx(stats[0], abs=1e-6)

    printed = run_cli(OFFLINE, 'detect', 'eval', '--data-dir', hard, '--split', 'truth.json',
                      '--detections', hard / 'detections.json')
    for name, expected in zip(COCO_FIGURES, stats, strict=True):
        assert re.search(rf'^{name} +{100 * expected:.2f} %$', printed, re.M)


def test_nothing_found_is_nothing(hard):
    split = load_split(hard, 'truth.json')
    figures, _ = coco_figures(split, [])
    assert [figures[name] for name in COCO_FIGURES] == [0.] * 12
    assert set(voc_figures(split, []).values()) == {0.}


def test_figures_do_not_depend_on_order_and_leave_their_arguments_alone(hard):
    split = load_split(hard, 'truth.json')
    detections = read_detections(hard / 'detections.json', split)
    before = copy.deepcopy(detections)
    assert coco_figures(split, detections) == coco_figures(split, detections[::-1])
    assert detections == before
    assert voc_figures(split, detections[::-1]) == voc_figures(split, detections)


@pytest.fixture
def square(tmp_path):
    """One image, boxes side by side: one is found, one is difficult, one missed."""
    Image.new('RGB', (400, 100)).save(tmp_path / 'a.png')
    boxes = [[0, 0, 50, 50], [100, 0, 50, 50], [200, 0, 50, 50]]
    truth = dict(
        images=[dict(id=1, file_name='a.png')],
        annotations=[dict(id=i, image_id=1, category_id=1, bbox=box, iscrowd=int(i == 2))
                     for i, box in enumerate(boxes, 1)],
        categories=[dict(id=1, name='cell'), dict(id=2, name='other')],
    )
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    return load_split(tmp_path, 'truth.json')


def found(x, score):
    return dict(image_id=1, category_id=1, bbox=[x, 0, 50, 50], score=score)


@pytest.mark.parametrize('detections, ap, ap_07', [
    ([found(0, .9)], 1 / 2, 6 / 11),
    ([found(0, .9), found(200, .8)], 1., 1.),
    ([found(0, .9), found(5, .8), found(200, .7)], 1 / 2 + 1 / 2 * 2 / 3, (6 + 5 * 2 / 3) / 11),  # twice
    ([found(100, .9), found(0, .8)], 1 / 2, 6 / 11),  # the difficult one counts for nothing
    ([found(300, .9), found(0, .8)], 1 / 4, 6 / 11 / 2),
    ([found(300, .9)], 0., 0.),
    ([found(30, .9)], 0., 0.),  # an overlap of a quarter
])
def test_average_precision_of_voc(square, detections, ap, ap_07):
    assert voc_figures(square, detections)['cell'] == pytest.approx(ap)
    assert voc_figures(square, detections, use_07_metric=True)['cell'] == pytest.approx(ap_07)
    assert str(voc_figures(square, detections)['other']) == 'nan'  # no box of it


def test_annotation_of_id_zero_is_found(square):
    for annotation in square.truth['annotations']:
        annotation['id'] -= 1
    assert coco_figures(square, [found(0, .9), found(200, .8)])[0]['AP'] == pytest.approx(1.)


@pytest.mark.parametrize('relabel', [
    lambda i: None,
    lambda i: i or None,  # one of id 0
    lambda i: None if i == 1 else i,  # the second has no id, and is not the third
    lambda i: -i,
    lambda i: f'{i}',
    lambda i: f'a{i}',
    lambda i: 2 ** 60 - i,
])
def test_ids_of_annotations_change_no_figure(hard, tmp_path, relabel):
    truth = json.loads((hard / 'truth.json').read_text())
    for i, annotation in enumerate(truth['annotations']):
        annotation['id'] = relabel(i)
    for file in hard.glob('*.jpg'):
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    before, after = load_split(hard, 'truth.json'), load_split(tmp_path, 'truth.json')
    detections = read_detections(hard / 'detections.json', before)
    assert coco_figures(after, detections) == coco_figures(before, detections)
    assert voc_figures(after, detections) == voc_figures(before, detections)


def test_ids_of_images_and_of_categories_change_no_figure(hard, tmp_path):
    truth, found = (json.loads((hard / name).read_text()) for name in ('truth.json', 'detections.json'))
    for item in (*truth['annotations'], *found):
        item.update(image_id=-3 * item['image_id'], category_id=f'{30 - item["category_id"]}')
    for item in found:
        item['score'] = f'{item["score"]}'
    for item in truth['images']:
        item['id'] = f'{-3 * item["id"]}'
    for item in truth['categories']:
        item['id'] = 30 - item['id']  # the last is 0
    for file in hard.glob('*.jpg'):
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    (tmp_path / 'found.json').write_text(json.dumps(found))
    before, after = load_split(hard, 'truth.json'), load_split(tmp_path, 'truth.json')
    detections = read_detections(hard / 'detections.json', before)
    relabelled = read_detections(tmp_path / 'found.json', after)
    for one, other in zip(coco_figures(before, detections), coco_figures(after, relabelled), strict=True):
        assert other == pytest.approx(one)
    assert voc_figures(after, relabelled) == voc_figures(before, detections)


def test_class_that_the_split_lacks_is_not_category_zero(square, tmp_path):
    square.truth['categories'][0]['id'] = square.category_ids[0] = 0
    for annotation in square.truth['annotations']:
        annotation['category_id'] = 0
    good = [{**found(x, .9), 'class': 'cell'} for x in (0, 200)]
    wrong = {**found(300, .95), 'class': 'dust'}
    (tmp_path / 'found.json').write_text(json.dumps([wrong, *good]))
    detections = read_detections(tmp_path / 'found.json', square)
    assert voc_figures(square, detections)['cell'] == 1.
    assert coco_figures(square, detections)[1]['cell'] == pytest.approx(1.)


def test_class_named_like_a_figure(square):
    square.class_names[0] = 'small'
    figures, classes = coco_figures(square, [found(0, .9)])
    assert str(figures['AP small']) == 'nan' and classes['small'] > 0.4


def test_stored_detections_go_by_the_names_of_classes(tmp_path):
    """The numbers of a split are its own, and a detector's classes may be in another order."""
    split = load_split(BCCD, 'val', ['WBC', 'RBC', 'Platelets', 'Parasites'])
    ids = dict(zip(split.category_ids, split.class_names, strict=True))
    detections = [
        {'image_id': a['image_id'], 'category_id': 77, 'class': ids[a['category_id']], 'bbox': a['bbox'], 'score': .9}
        for a in split.truth['annotations']]
    detections.append({**detections[0], 'class': 'Parasites'})
    (tmp_path / 'found.json').write_text(json.dumps(detections))
    plain = load_split(BCCD, 'val')
    assert coco_figures(plain, read_detections(tmp_path / 'found.json', plain))[0]['AP'] == pytest.approx(1.)


@pytest.mark.parametrize('detections, told', [
    ('{}', 'does not hold a list'),
    ('[1', 'is not JSON'),
    ('[{"image_id": 100}]', 'Detection 0'),
    ('[{"image_id": 5, "category_id": 10, "bbox": [1, 2, 3, 4], "score": 1}]', 'is of image 5'),
    ('[{"image_id": 100, "category_id": 5, "bbox": [1, 2, 3, 4], "score": 1}]', 'is of category 5'),
])
def test_impossible_detections_are_reported(hard, tmp_path, detections, told):
    (tmp_path / 'detections.json').write_text(detections)
    with pytest.raises(ValueError, match=told):
        read_detections(tmp_path / 'detections.json', load_split(hard, 'truth.json'))
