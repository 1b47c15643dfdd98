"""The detectors start from the classifiers that they say, and their detections are kept as they were."""
import json

import pytest

from timm_mobilenext.detection.data import BCCD

detection = pytest.importorskip('experiments.detection', reason='needs pycocotools and matplotlib, of the extras')

pytestmark = pytest.mark.tools
RUN = detection.Run('final', 'mobilenext_075', 'cifar10', 0.1, 2)


def test_classifier_of_the_same_network_and_seed(tmp_path):
    def add(name):
        file = tmp_path / name / 'train' / 'last.pth.tar'
        file.parent.mkdir(parents=True)
        file.touch()
        return file

    add('final-mobilenext_075-authors-lr0.4-seed1')
    add('final-mobilenetv2_075-authors-lr0.4-seed2')
    add('pilot-mobilenext_075-authors-lr0.4-seed2')
    with pytest.raises(SystemExit, match='one final classifier mobilenext_075 with seed 2, and has none'):
        detection.find_classifier(RUN, tmp_path)
    file = add('final-mobilenext_075-authors-lr0.4-seed2')
    assert detection.find_classifier(RUN, tmp_path) == file
    add('final-mobilenext_075-timm-lr0.1-seed2')
    with pytest.raises(SystemExit, match='has .*-authors-lr0.4-seed2 and .*-timm-lr0.1-seed2'):
        detection.find_classifier(RUN, tmp_path)


def test_detections_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(detection.Run, 'results', tmp_path / 'results')
    split = detection.load_split(BCCD, 'val')
    found = [
        dict(image_id=sample.image_id, category_id=category, bbox=[1.5, 2, 30.25, 40], score=0.123456)
        for sample in split.samples[:2] for category in split.category_ids]
    (tmp_path / 'found.json').write_text(json.dumps(found))
    RUN.keep_detections(tmp_path / 'found.json', split)
    assert RUN.detections(split) == [dict(detected, bbox=[1.5, 2, 30.2, 40], score=0.1235) for detected in found]


def test_committed_runs_have_the_recipe():
    assert all(run.is_done for run in detection.PILOTS + detection.finals())
