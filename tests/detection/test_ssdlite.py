"""SSDLite: the authors' maps, boxes and losses, on any backbone of timm."""
import copy
import json
import math

import pytest
import torch
import torch.nn.functional as F
from authors import load_golden
from helpers import randomize, ROOT
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

import timm

from timm_mobilenext.checkpoints.convert import convert_state_dict
from timm_mobilenext.detection import create_ssdlite, SSDLite, ssdlite320_mobilenetv2_100, ssdlite320_mobilenext_100
from timm_mobilenext.shared.counts import count
from timm_mobilenext.shared.errors import UserError

SIZE = 96  # pixels, for speed
# the authors' sequence of an extra block -> ours
EXTRA = {'0': '0.conv', '1': '0.bn', '3': '1.conv', '4': '1.bn', '5': '2.conv', '6': '2.bn'}


def small(**kwargs):
    return create_ssdlite(**{'backbone': 'mobilenext_035', 'num_classes': 3, 'img_size': SIZE, **kwargs})


def targets(*boxes):
    return dict(
        boxes=torch.tensor([box[:4] for box in boxes], dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor([box[4] for box in boxes], dtype=torch.int64),
    )


def test_backbone_gives_the_authors_maps():
    golden = load_golden('ssdlite_backbone')
    backbone = create_ssdlite('mobilenext_100', num_classes=1).backbone
    body = {key: value for key, value in golden.state_dict.items() if key.startswith('features.')}
    state_dict = {f'body.{key}': value for key, value in convert_state_dict(body, backbone.body).items()}
    for key, value in golden.state_dict.items():
        kind, *place = key.split('.')
        if kind == 'extras':
            state_dict[f'extras.{place[0]}.{EXTRA[place[1]]}.{place[2]}'] = value
    backbone.load_state_dict(state_dict)
    with torch.no_grad():
        maps = backbone.double().eval()(golden.image.double())
    assert list(maps) == ['0', '1', '2', '3', '4', '5']
    for i, features in maps.items():
        for name, ours in (('mean', features.mean((0, 2, 3))), ('std', features.std((0, 2, 3), unbiased=False))):
            theirs = golden.outputs[f'map{i}_channel_{name}']
            largest = golden.outputs[f'map{i}_channel_mean'].abs().max()  # the last map has one pixel, and no deviation
            assert (ours - theirs).abs().max() <= 1e-9 * max(theirs.abs().max(), largest)


@pytest.mark.parametrize('backbone, channels, module', [
    ('mobilenext_100', [576, 1280], 'blocks.5.0.conv_dw2'),
    ('mobilenext_075', [432, 1280], 'blocks.5.0.conv_dw2'),
    ('mobilenetv2_100', [576, 1280], 'blocks.5.0.conv_dw'),
    ('mobilenetv2_075', [432, 1280], 'blocks.5.0.conv_dw'),
])
def test_taps_of_both_networks_match(backbone, channels, module):
    """The tensors that enter the strided depthwise convolution, and the 1280 channels of stride 32."""
    network = create_ssdlite(backbone, num_classes=1, img_size=SIZE).backbone.eval()
    seen = []
    conv = network.body.get_submodule(module)
    conv.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    x = torch.rand(1, 3, SIZE, SIZE)
    with torch.no_grad():
        maps = list(network(x).values())
    assert [m.shape[1] for m in maps] == [*channels, 512, 256, 256, 128] == network.out_channels
    assert [m.shape[-1] for m in maps] == [6, 3, 2, 1, 1, 1]
    assert conv.stride == (2, 2) and torch.equal(maps[0], seen[0])
    if 'v2' in backbone:
        with torch.no_grad():
            assert torch.equal(maps[1], network.body.forward_features(x))


@pytest.mark.parametrize('backbone, channels', [
    ('resnet18', [256, 512]),
    ('mobilenetv3_small_050', [24, 288]),
    ('mobilenext_s', [576, 1280]),
    ('test_vit', None),
])
def test_any_backbone_with_features(backbone, channels):
    if channels is None:
        with pytest.raises(ValueError, match='no feature map of stride 32|gives no feature maps'):
            create_ssdlite(backbone, num_classes=2)
        return
    model = create_ssdlite(backbone, num_classes=2, img_size=SIZE).eval()
    assert model.backbone.out_channels[:2] == channels
    with torch.no_grad():
        found = model([torch.rand(3, 50, 70)])[0]
    assert set(found) == {'boxes', 'scores', 'labels'}


@pytest.mark.parametrize('arguments', [
    {},
    dict(backbone='mobilenext_050.cifar10', pretrained=True),
    dict(backbone='test_resnet'),
    dict(backbone='test_resnet', checkpoint_path='checkpoint.pth'),
])
def test_backbone_is_built_once(arguments, tmp_path, monkeypatch):
    """Networks that are only looked at have no weights."""
    monkeypatch.chdir(tmp_path)
    torch.save(timm.create_model('test_resnet').state_dict(), 'checkpoint.pth')
    create, devices = timm.create_model, []

    def create_and_note(*args, **kwargs):
        model = create(*args, **kwargs)
        devices.append(next(model.parameters()).device.type)
        return model

    monkeypatch.setattr(timm, 'create_model', create_and_note)
    small(**arguments)
    assert devices.count('cpu') == 1 and set(devices) <= {'cpu', 'meta'}


@pytest.mark.parametrize('name, img_size, words', [
    ('levit_128s', 100, r'100 pixels \(The size of tensor a .*\): give an image size of 224, which it is made for, or'),
    ('halonet26t', 320, '320 pixels: give an image size of 256, which it is made for, or'),  # it asserts without a text
])
def test_image_size_that_a_backbone_refuses(name, img_size, words):
    with pytest.raises(UserError, match=f'^{name} does not take images of {words} another model.$'):
        create_ssdlite(name, num_classes=2, img_size=img_size)


def test_channels_last_features_are_turned():
    model = create_ssdlite('swin_tiny_patch4_window7_224', num_classes=2, img_size=224)
    assert model.backbone.out_channels[:2] == [384, 768]


@pytest.mark.parametrize('preset, max_sizes, last_ratios', [
    ('coco', (90, 135, 180, 225, 270, 315), (2,)),
    ('voc', (120, 180, 220, 260, 300, 320), (2, 3)),
])
def test_default_boxes_are_the_authors(preset, max_sizes, last_ratios):
    """REFERENCE.md and the authors' configs: strides, min and max sizes, aspect ratios."""
    expected = []
    rows = zip((20, 10, 5, 3, 2, 1), (16, 32, 64, 120, 160, 320), (45, 90, 135, 180, 225, 270), max_sizes, strict=True)
    for cells, stride, min_size, max_size in rows:
        ratios = last_ratios if cells == 1 else (2, 3)
        sides = [(min_size, min_size), (math.sqrt(min_size * max_size),) * 2]
        for ratio in ratios:
            sides += [(min_size * math.sqrt(ratio), min_size / math.sqrt(ratio)),
                      (min_size / math.sqrt(ratio), min_size * math.sqrt(ratio))]
        for y in range(cells):
            for x in range(cells):
                for width, height in sides:
                    center = (x + 0.5) * stride, (y + 0.5) * stride
                    width, height = min(width, 320), min(height, 320)
                    expected.append([center[0] - width / 2, center[1] - height / 2,
                                     center[0] + width / 2, center[1] + height / 2])
    model = ssdlite320_mobilenext_100(num_classes=1, preset=preset).eval()
    seen = {}
    model.anchor_generator.register_forward_hook(lambda module, args, output: seen.update(boxes=output[0]))
    with torch.no_grad():
        model([torch.zeros(3, 320, 320)])
    assert torch.allclose(seen['boxes'], torch.tensor(expected), atol=1e-3)


def test_head_is_separable_and_its_last_module_is_not():
    for preset, columns in (('coco', 3), ('voc', 4)):
        model = small(preset=preset)
        for branch, per_box in ((model.head.classification_head, columns), (model.head.regression_head, 4)):
            *separable, last = branch.module_list
            boxes = 4 if preset == 'coco' else 6
            assert isinstance(last, nn.Conv2d) and last.kernel_size == (1, 1)
            assert last.out_channels == boxes * per_box
            for module in separable:
                convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
                assert [conv.kernel_size for conv in convs] == [(3, 3), (1, 1)]
                assert convs[0].groups == convs[0].in_channels and convs[1].out_channels == 6 * per_box


def test_focal_loss_is_the_authors():
    """Sigmoids without a background column, alpha 0.25, gamma 2, weighted 5, by the number of positives."""
    model = small(preset='coco')
    anchors = [torch.tensor([[0., 0, 40, 40], [50, 50, 90, 90], [0, 0, 90, 90]])] * 2
    truth = [targets([2, 0, 40, 44, 3]), targets()]
    matched = [torch.tensor([0, -1, -1]), torch.tensor([-1, -1, -1])]
    logits, regression = torch.randn(2, 3, 3), torch.randn(2, 3, 4)
    losses = model.compute_loss(truth, dict(cls_logits=logits, bbox_regression=regression), anchors, matched)
    expected = 0.
    for i in range(2):
        for j in range(3):
            for label in (1, 2, 3):
                p = torch.sigmoid(logits[i, j, label - 1])
                hit = (i, j, label) == (0, 0, 3)
                expected -= 0.25 * (1 - p) ** 2 * p.log() if hit else 0.75 * p ** 2 * (1 - p).log()
    assert losses['classification'].item() == pytest.approx(5 * expected.item(), rel=1e-5)
    # center 21 and 22, width 38, height 44, against a default box of 40 about 20; variances 0.1 and 0.2
    wanted = torch.tensor([1 / 40 / 0.1, 2 / 40 / 0.1, math.log(38 / 40) / 0.2, math.log(44 / 40) / 0.2])
    box_loss = F.smooth_l1_loss(regression[0, 0], wanted, reduction='sum')
    assert losses['bbox_regression'].item() == pytest.approx(box_loss.item(), rel=1e-5)


@pytest.mark.parametrize('preset', ['coco', 'voc'])
def test_losses_without_any_box_are_finite_and_train(preset):
    model = small(preset=preset).train()
    losses = model([torch.rand(3, 80, 60), torch.rand(3, 96, 96)], [targets(), targets()])
    total = sum(losses.values())
    total.backward()
    assert math.isfinite(total.item())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize('preset', ['coco', 'voc'])
def test_learns_a_box(preset):
    torch.manual_seed(0)
    model = small(preset=preset, nms_thresh=0.3)
    images = [torch.zeros(3, SIZE, SIZE) for _ in range(4)]
    truth = []
    for i, image in enumerate(images):
        x, y = 8 * i, 30 - 8 * i
        image[i % 3, y:y + 48, x:x + 40] = 1.
        truth.append(targets([x, y, x + 40, y + 48, i % 3 + 1]))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(120):
        optimizer.zero_grad()
        sum(model(images, copy.deepcopy(truth)).values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.)
        optimizer.step()
    with torch.no_grad():
        for _ in range(30):  # batch norm takes its time
            model(images, copy.deepcopy(truth))
        found = model.eval()(images)
    for detections, wanted in zip(found, truth, strict=True):
        assert detections['labels'][0] == wanted['labels'][0] and detections['scores'][0] > 0.1, detections
        assert box_iou(detections['boxes'][:1], wanted['boxes']).item() > 0.3, detections


def test_detections_are_those_of_torchvision():
    """Its own loop over classes, on the same head's outputs, is the reference of the faster one."""
    model = randomize(small(preset='voc', score_thresh=0.2)).eval()
    images = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        ours = model(list(images))
        features = list(model.backbone(model.transform(list(images))[0].tensors).values())
        outputs = model.head(features)
        image_list, _ = model.transform(list(images))
        anchors = model.anchor_generator(image_list, features)
        theirs = SSD.postprocess_detections(model, outputs, anchors, image_list.image_sizes)
    assert any(len(found['scores']) for found in theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a['scores'], b['scores']) and torch.equal(a['labels'], b['labels'])
        assert torch.allclose(a['boxes'], b['boxes'], atol=1e-3)


def test_boxes_are_of_the_image_as_given():
    """In pixels of an image that is resized within, whatever its size and shape, one pixel too."""
    model = randomize(small(score_thresh=0.)).eval()
    with torch.no_grad():
        for height, width in ((200, 300), (96, 96), (1, 1), (31, 500)):
            boxes = model([torch.rand(3, height, width)])[0]['boxes']
            assert len(boxes) == 100
            assert boxes.min() >= 0 and boxes[:, 0::2].max() <= width and boxes[:, 1::2].max() <= height
            assert boxes[:, 2].max() > 0.5 * width


def test_average_of_weights_gives_its_own_detections():
    """Taps are hooks, which a copy has to have of its own."""
    model = randomize(small(score_thresh=0.)).eval()
    image = torch.rand(3, SIZE, SIZE)
    with torch.no_grad():
        expected = model([image])[0]['scores']
        other = copy.deepcopy(model)
        for parameter in model.parameters():
            parameter.zero_()
        assert torch.equal(other([image])[0]['scores'], expected)


@pytest.mark.parametrize('backbone', ['mobilenext_035', 'mobilenetv2_035', 'test_resnet'])
def test_checkpoint_of_a_classifier_is_loaded_below(backbone, tmp_path):
    network = randomize(timm.create_model(backbone, num_classes=7))
    torch.save({'state_dict': network.state_dict(), 'epoch': 3}, tmp_path / 'checkpoint.pth.tar')
    body = create_ssdlite(
        backbone, num_classes=2, img_size=SIZE, checkpoint_path=tmp_path / 'checkpoint.pth.tar').backbone.body
    ours = [value for key, value in body.state_dict().items() if value.ndim == 4]
    theirs = [value for key, value in network.state_dict().items() if value.ndim == 4]
    assert len(ours) == len(theirs) > 5
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_checkpoint_of_the_authors_is_loaded_below(tmp_path):
    golden = load_golden('mnext_w100').state_dict
    torch.save(golden, tmp_path / 'mnext.pth.tar')
    body = create_ssdlite('mobilenext_100', num_classes=2, checkpoint_path=tmp_path / 'mnext.pth.tar').backbone.body
    assert torch.equal(body.conv_stem.weight, golden['features.0.0.weight'])


def test_checkpoint_of_another_network_is_refused(tmp_path):
    torch.save(timm.create_model('mobilenext_050').state_dict(), tmp_path / 'other.pth')
    with pytest.raises(RuntimeError, match='of another network'):
        small(checkpoint_path=tmp_path / 'other.pth')
    state_dict = timm.create_model('mobilenext_035').state_dict()
    del state_dict['blocks.3.0.conv_pw1.weight']
    torch.save(state_dict, tmp_path / 'lacks.pth')
    with pytest.raises(RuntimeError, match='blocks.3.0.conv_pw1.weight'):
        small(checkpoint_path=tmp_path / 'lacks.pth')


def test_checkpoint_that_lacks_a_tensor_of_any_backbone_is_refused(tmp_path):
    state_dict = timm.create_model('test_resnet').state_dict()
    key = next(key for key in state_dict if key.startswith('layer2') and key.endswith('weight'))
    del state_dict[key]
    torch.save(state_dict, tmp_path / 'lacks.pth')
    with pytest.raises(RuntimeError, match=key):
        small(backbone='test_resnet', checkpoint_path=tmp_path / 'lacks.pth')


def test_pretrained_weights_of_timm_are_loaded_below():
    body = create_ssdlite('mobilenext_050.cifar10', num_classes=2, img_size=SIZE, pretrained=True).backbone.body
    network = timm.create_model('mobilenext_050.cifar10', pretrained=True)
    assert torch.equal(body.blocks[3][0].conv_pw1.weight, network.blocks[3][0].conv_pw1.weight)
    with pytest.raises(ValueError, match='mobilenext_075 has no pretrained weights'):
        create_ssdlite('mobilenext_075', num_classes=2, pretrained=True)


@pytest.mark.parametrize('arguments, told', [
    (dict(backbone='mobilenxt_100'), "timm has no model 'mobilenxt_100'"),
    (dict(preset='kitti'), "preset 'kitti' is not one of coco, voc"),
    (dict(num_classes=0), 'the background is not counted'),
    (dict(img_size=16), 'img_size 16 is not a number of at least 32 pixels'),
    (dict(img_size=96.), 'img_size 96.0 is not a number of'),
    (dict(class_names=[1, 2, 3]), r'class_names \[1, 2, 3\] is not a list of names.'),
    (dict(score_thresh='0.5'), "score_thresh '0.5' is not a number from 0 to 1."),
    (dict(nms_thresh=math.nan), 'nms_thresh nan is not a number from 0 to 1.'),
    (dict(detections_per_img=0), 'detections_per_img 0 is not a number of at least 1.'),
    (dict(image_mean=[0, 0]), r'image_mean \[0, 0\] is not three numbers.'),
    (dict(image_std=[1, 1, 0]), r'image_std \[1, 1, 0\] is not three numbers above 0.'),
    (dict(class_names=['cat']), 'There are 1 class names for 3 classes'),
    (dict(pretrained=True, checkpoint_path='a.pth'), 'give one of them'),
])
def test_bad_arguments_are_reported_in_one_line(arguments, told):
    with pytest.raises(ValueError, match=told) as caught:
        small(**arguments)
    assert '\n' not in str(caught.value)


def test_saves_and_loads_as_the_hub_does(tmp_path):
    model = randomize(small(class_names=['a|b', 'c', 'd'], score_thresh=0.)).eval()
    model.save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {'config.json', 'model.safetensors', 'README.md'}
    config = json.loads((tmp_path / 'config.json').read_text())
    assert config['backbone'] == 'mobilenext_035' and config['num_classes'] == 3 and config['image_mean']
    card = (tmp_path / 'README.md').read_text()
    assert f'{sum(p.numel() for p in model.parameters()):,}' in card and 'a\\|b' in card
    again = SSDLite.from_pretrained(tmp_path)
    image = torch.rand(3, SIZE, SIZE)
    with torch.no_grad():
        assert torch.equal(again([image])[0]['scores'], model([image])[0]['scores'])
    assert again.class_names == ['a|b', 'c', 'd'] and not again.training
    # what a file lacks is not left random
    weights = load_file(tmp_path / 'model.safetensors')
    weights.pop('backbone.body.conv_stem.weight')
    save_file(weights, tmp_path / 'model.safetensors')
    with pytest.raises(RuntimeError, match='conv_stem.weight'):
        SSDLite.from_pretrained(tmp_path)


def test_counts_macs_and_parameters():
    """At 320 pixels, counted by hand for the extra blocks and the head."""
    for create in (ssdlite320_mobilenext_100, ssdlite320_mobilenetv2_100):
        model = create(num_classes=80, preset='voc')
        counts = model.count()
        assert counts['params'] == sum(p.numel() for p in model.parameters())
        macs = 0
        in_chs = 1280
        for (out_chs, ratio), cells in zip(((512, .2), (256, .25), (256, .5), (128, .5)), (5, 3, 2, 1), strict=True):
            mid_chs = int(in_chs * ratio)
            macs += cells ** 2 * (9 * in_chs + in_chs * mid_chs + mid_chs * out_chs)
            in_chs = out_chs
        for chs, cells in zip((576, 1280, 512, 256, 256), (20, 10, 5, 3, 2), strict=True):
            macs += cells ** 2 * (2 * 9 * chs + chs * 6 * (81 + 4))
        macs += 128 * 6 * (81 + 4)
        body = timm.create_model(model.backbone.name, num_classes=0, global_pool='')
        assert counts['macs'] == macs + count(body, (3, 320, 320))['macs']


def test_counts_of_the_page():
    page = (ROOT / 'docs' / 'detection.md').read_text(encoding='utf-8')
    for backbone in 'mobilenext_100', 'mobilenetv2_100', 'mobilenext_075', 'mobilenetv2_075':
        cells = []
        for preset in 'coco', 'voc':
            counts = create_ssdlite(backbone, preset=preset).count()
            cells.append(f'{counts["params"] / 1e6:.2f}M, {counts["macs"] / 1e6:.0f}M')
        assert f'| `{backbone}` | {" | ".join(cells)} |' in page
