"""Exports of a detector without NMS, by the command, and the NMS that docs/deployment.md gives to apps."""
import errno
import re
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers import randomize, ROOT
from typer.testing import CliRunner

from timm_mobilenext.cli.main import app
from timm_mobilenext.detection import create_ssdlite, SSDLite

pytestmark = [pytest.mark.tools, pytest.mark.slow]

SETTINGS = dict(
    coco=dict(score_thresh=0.2),
    voc=dict(score_thresh=0.02, nms_thresh=0.8, detections_per_img=1000),
)


@pytest.fixture(scope='module', params=SETTINGS)
def detector(request, tmp_path_factory):
    """Folder of a detector with random weights, that finds boxes everywhere."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    model = create_ssdlite(
        'mobilenext_035', 3, request.param, 128, class_names=['Platelets', 'RBC', 'WBC'], **SETTINGS[request.param])
    randomize(model).save_pretrained(folder)
    return folder


@pytest.fixture(scope='module', params=['.onnx', '.pt2'])
def raw(request, detector):
    """A raw export of the detector: how to run it, its metadata, and what the command printed."""
    file = detector / f'raw{request.param}'
    with pytest.MonkeyPatch.context() as patch:
        if file.suffix == '.pt2':
            patch.setitem(sys.modules, 'onnx', None)  # as if it were not installed, for a program needs none
        result = export(detector, file, '--raw')
    assert result.exit_code == 0, result.output
    if file.suffix == '.onnx':
        session = onnxruntime.InferenceSession(file)
        return (lambda image: session.run(None, {'image': image.numpy()}),
                session.get_modelmeta().custom_metadata_map, result.output)
    extra = dict.fromkeys(('class_names', 'img_size', *nms_settings(SSDLite.from_pretrained(detector))), '')
    program = torch.export.load(file, extra_files=extra).module()
    return lambda image: [output.detach().numpy() for output in program(image)], extra, result.output


def export(detector, file, *options):
    return CliRunner().invoke(app, ['detect', 'export', str(detector), '-o', str(file), *options])


def nms_settings(model) -> dict:
    names = 'score_thresh', 'nms_thresh', 'topk_candidates', 'detections_per_img'
    return {name: getattr(model, name) for name in names}


def documented_nms():
    """The function that the page gives."""
    page = (ROOT / 'docs' / 'deployment.md').read_text(encoding='utf-8')
    block, = (block for block in re.findall(r'^```python\n(.*?)^```', page, re.M | re.S) if 'def nms(' in block)
    namespace = {}
    exec(block, namespace)
    return namespace['nms']


@torch.no_grad()
def test_documented_nms_makes_the_detections_of_what_the_command_writes(detector, raw):
    model = SSDLite.from_pretrained(detector).eval()
    run, metadata, printed = raw
    settings = nms_settings(model)
    assert metadata['class_names'].splitlines() == ['Platelets', 'RBC', 'WBC'] and metadata['img_size'] == '128'
    assert {name: float(metadata[name]) for name in settings} == settings
    model.topk_candidates = settings['topk_candidates'] = 60  # fewer than pass the threshold
    for image in torch.rand(4, 1, 3, 128, 128):
        boxes, scores = run(image)
        assert f'boxes {boxes.shape}, scores {scores.shape} of Platelets, RBC, WBC' in printed.replace('\n', ' ')
        assert boxes.min() >= 0 and boxes.max() <= 128
        found = documented_nms()(boxes[0], scores[0], **settings)
        expected = model([image[0]])[0]
        assert [label for _, label, _ in found] == expected['labels'].tolist()
        assert np.abs([score for score, _, _ in found] - expected['scores'].numpy()).max() < 1e-5
        assert np.abs([box for _, _, box in found] - expected['boxes'].numpy()).max() < 1e-3
        assert len(found) > 50 and len({label for _, label, _ in found}) == 3


@torch.no_grad()
def test_raw_boxes_and_scores_are_those_before_nms(detector, raw):
    """Without thresholds the detector finds every box of every class."""
    model = SSDLite.from_pretrained(detector).eval()
    model.score_thresh, model.nms_thresh, model.topk_candidates, model.detections_per_img = -1, 1, 10 ** 6, 10 ** 6
    image = torch.rand(1, 3, 128, 128)
    boxes, scores = raw[0](image)
    found = model([image[0]])[0]
    assert boxes.shape == (1, len(found['labels']) // 3, 4) and scores.shape == (1, boxes.shape[1], 3)
    for label, column in enumerate(scores[0].T, 1):
        order, of_label = np.argsort(-column), found['labels'] == label
        assert np.abs(column[order] - found['scores'][of_label].numpy()).max() < 1e-5
        # the nearest, for a tie of scores may be in another order
        distances = torch.cdist(found['boxes'][of_label], torch.from_numpy(boxes[0]), p=torch.inf)
        assert distances.min(0)[0].max() < 1e-3 and distances.min(1)[0].max() < 1e-3


def test_graph_of_raw_onnx_has_fixed_shapes_and_no_nms(detector, tmp_path):
    assert export(detector, tmp_path / 'raw.onnx', '--raw').exit_code == 0
    written = onnx.load(tmp_path / 'raw.onnx')
    graph, inner = written.graph, onnx.shape_inference.infer_shapes(written, strict_mode=True).graph.value_info
    assert not {node.op_type for node in graph.node} & {'NonMaxSuppression', 'NonZero', 'TopK', 'Loop', 'If'}
    for value in (*graph.input, *graph.output, *inner):
        assert all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim), value.name


@pytest.mark.parametrize('detector', ['coco'], indirect=True)
@pytest.mark.parametrize('suffix', ['.onnx', '.pt2'])
def test_full_disk_leaves_the_old_file(detector, tmp_path, monkeypatch, suffix):
    def fill(*arguments, **kwargs):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(onnx, 'save', fill)
    monkeypatch.setattr('pathlib.Path.write_bytes', fill)
    file = tmp_path / f'raw{suffix}'
    file.write_text('old')
    result = export(detector, file, '--raw')
    assert (result.exit_code, result.output) == (1, 'Error: No space left on device\n')
    assert [path.name for path in tmp_path.iterdir()] == [file.name] and file.read_text() == 'old'
