"""timm-mobilenext push --onnx: what the files compute, who reads the repository, and what cannot be exported."""
import argparse
import json
import re
import resource
import shutil
import signal
import subprocess

import numpy as np
import pytest
import torch
from helpers import hub_env, randomize, ROOT, run_cli, run_python, SHIPPED, TINY, TOKEN, TRANSFORMERS
from hub_double import Hub
from PIL import Image
from rich.console import Console

import timm
from timm.data import create_transform, resolve_data_config
from timm.models import save_for_hf

from timm_mobilenext.cli.errors import explain
from timm_mobilenext.hub.folders import ONNX_FILES
from timm_mobilenext.hub.onnx import check_onnx, export_onnx, halve_onnx, quantize_onnx, write_onnx_folder
from timm_mobilenext.shared import extras
from timm_mobilenext.shared.errors import UserError

onnx = pytest.importorskip('onnx', reason='needs the extra onnx')
onnxruntime = pytest.importorskip('onnxruntime', reason='needs the extra onnx')
pytest.importorskip('onnxscript', reason='needs the extra onnx')
pytestmark = [pytest.mark.tools, pytest.mark.slow]  # it exports whole networks, in processes

PHOTOGRAPHS = ROOT / 'timm_mobilenext' / 'photographs'
JS = ROOT / 'tests' / 'js'
REPO = 'alice/cifar'


@pytest.fixture(scope='module')
def pushed(tmp_path_factory):
    """The shipped network on a Hub with its ONNX files: the Hub, an environment, a model, and what push printed."""
    folder = tmp_path_factory.mktemp('onnx')
    hub = Hub(folder / 'hub', users={TOKEN: 'alice'})
    env = hub_env(hub, folder / 'home')
    model = timm.create_model(SHIPPED, pretrained=True).eval()
    names = list(model.pretrained_cfg['label_names'])
    save_for_hf(model, str(folder / 'cifar'), model_config=dict(label_names=names), safe_serialization=True)
    printed = run_cli(env, 'push', folder / 'cifar', REPO, '--onnx', PHOTOGRAPHS)
    yield hub, env, model, printed
    hub.stop()


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Two photographs that a poor filter for resizing changes much, and one in the size of the network."""
    small = tmp_path_factory.mktemp('images') / 'small.png'
    Image.open(PHOTOGRAPHS / 'cat.jpg').convert('RGB').resize((64, 64), Image.Resampling.BICUBIC).save(small)
    return [PHOTOGRAPHS / 'kitten.jpg', PHOTOGRAPHS / 'macaw.jpg', small]


def files_of(hub, revision='main'):
    files = hub.repo(REPO).files(revision)
    files.pop('.gitattributes')
    return files


def logits_of(model, image):
    transform = create_transform(**resolve_data_config(model=model))
    with torch.inference_mode():
        return model(transform(Image.open(image).convert('RGB'))[None])


def test_each_file_computes_what_pytorch_does(pushed, images):
    hub, _, model, printed = pushed
    files = files_of(hub)
    assert sorted(files) == sorted(['README.md', 'config.json', 'model.safetensors', *ONNX_FILES])
    assert len(hub.repo(REPO).history()) == 2  # one commit after the first
    assert 'int8 calibrated on 8 images' in printed
    said = dict(re.findall(r'^onnx     (\S+) +logits within (\S+) of 3.7, 100.0% the same class$', printed, re.M))
    config = resolve_data_config(model=model)
    photographs = sorted(PHOTOGRAPHS.glob('*.jpg'))
    batch = torch.stack([create_transform(**config)(Image.open(file).convert('RGB')) for file in photographs])
    with torch.inference_mode():
        expected = model(batch)
    for name, limit, kind in (('model', 1e-4, 'FLOAT'), ('model_fp16', 0.02, 'FLOAT16'), ('model_int8', 0.5, 'INT8')):
        content = files[f'onnx/{name}.onnx']
        weights = [tensor for tensor in onnx.load_from_string(content).graph.initializer if len(tensor.dims) == 4]
        assert weights and {tensor.data_type for tensor in weights} == {getattr(onnx.TensorProto, kind)}
        session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
        assert [(put.name, put.type) for put in (*session.get_inputs(), *session.get_outputs())] == [
            ('pixel_values', 'tensor(float)'), ('logits', 'tensor(float)')]
        metadata = session.get_modelmeta().custom_metadata_map
        assert metadata['class_names'].split('\n') == list(model.pretrained_cfg['label_names'])
        assert json.loads(metadata['data_config']) == json.loads(json.dumps(config))
        one, all_of_them = (session.run(None, {'pixel_values': x.numpy()})[0] for x in (batch[:1], batch))
        difference = np.abs(all_of_them - expected.numpy()).max()
        assert difference < limit and np.abs(one - expected[:1].numpy()).max() < limit
        # the exporter's rounding may differ from one batch to another
        assert difference == pytest.approx(float(said[f'{name}.onnx']), rel=0.2, abs=1e-5)


def test_no_path_of_this_machine_is_pushed(pushed):
    """The exporter notes where in the code each operator comes from."""
    hub, _, _, _ = pushed
    for name, content in files_of(hub).items():
        assert b'timm/models' not in content and str(ROOT).encode() not in content, name


def test_timm_and_transformers_read_the_repository(pushed, images):
    pytest.importorskip('transformers', reason='needs transformers: pip install it on a Python that is new enough')
    _, env, _, _ = pushed
    run_python(env, TRANSFORMERS, REPO, f'hf-hub:{REPO}', images[0])


@pytest.mark.skipif(
    not (JS / 'node_modules').is_dir() or not shutil.which('node'),
    reason='needs Node and transformers.js: make test-js installs it')
@pytest.mark.parametrize('dtype, exact', [('default', 1e-5), ('fp32', 1e-5), ('fp16', 2e-3), ('int8', 0.1)])
def test_transformers_js(dtype, exact, pushed, images, tmp_path):
    """It gives photographs timm's classes, and an image that need not be resized timm's probabilities."""
    hub, env, model, _ = pushed
    if dtype != 'int8':  # which has another class for the owl
        images = [*sorted(PHOTOGRAPHS.glob('*.jpg')), images[-1]]
    result = subprocess.run(
        ['node', JS / 'classify.mjs', f'{hub.url}/', REPO, tmp_path, dtype, *images], env=env, capture_output=True,
        text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ''  # no warning either
    names = model.pretrained_cfg['label_names']
    for image, answer in zip(images, json.loads(result.stdout), strict=True):
        expected = logits_of(model, image)[0].softmax(0)
        probabilities = torch.tensor([answer[name] for name in names])
        assert probabilities.argmax() == expected.argmax()
        # sharp's filter for resizing is not PIL's
        limit = exact if image.suffix == '.png' else 0.08 + exact
        assert (probabilities - expected).abs().max() < limit


def test_push_without_it_removes_the_files_of_earlier_weights(pushed, tmp_path):
    hub, env, model, _ = pushed
    other = randomize(timm.create_model('mobilenext_050', num_classes=10))
    save_for_hf(other, str(tmp_path / 'other'), safe_serialization=True)
    printed = run_cli(env, 'push', tmp_path / 'other', REPO, '--revision', 'dev')
    for name in ONNX_FILES:
        assert f'removed  {name}, of an earlier push\n' in printed
    assert sorted(files_of(hub, 'dev')) == ['README.md', 'config.json', 'model.safetensors']
    assert set(ONNX_FILES) < set(files_of(hub))


def test_pull_replaces_the_files_of_earlier_weights(pushed, tmp_path):
    """And convert does."""
    hub, env, model, _ = pushed
    out = tmp_path / 'out'
    (out / 'onnx').mkdir(parents=True)
    (out / 'onnx' / 'model.onnx').write_bytes(b'of earlier weights')
    (out / 'onnx' / 'model_fp16.onnx').write_bytes(b'of earlier weights')
    run_cli(env, 'pull', REPO, '-o', out)
    files = {file.relative_to(out).as_posix(): file.read_bytes() for file in out.rglob('*') if file.is_file()}
    assert files == files_of(hub)

    torch.save(dict(arch='mobilenext_050', state_dict=model.state_dict()), tmp_path / 'checkpoint.pth')
    run_cli(env, 'convert', tmp_path / 'checkpoint.pth', '-o', out)
    assert sorted(file.name for file in out.iterdir()) == ['README.md', 'config.json', 'model.safetensors']


def test_checkpoint(pushed, tmp_path):
    hub, env, _, _ = pushed
    model = randomize(timm.create_model('mobilenext_035', num_classes=3, arch_def=TINY))
    args = argparse.Namespace(model='mobilenext_035', img_size=32, crop_pct=0.875, model_kwargs=dict(arch_def=TINY))
    torch.save(dict(args=args, state_dict=model.state_dict()), tmp_path / 'checkpoint.pth')
    (tmp_path / 'names.txt').write_text('cat\ndog\nhorse')
    (tmp_path / 'one').mkdir()
    shutil.copy(PHOTOGRAPHS / 'cat.jpg', tmp_path / 'one')
    printed = run_cli(
        env, 'push', tmp_path / 'checkpoint.pth', 'alice/tiny', '--onnx', tmp_path / 'one', '--label-names',
        tmp_path / 'names.txt')
    assert 'int8 calibrated on one image' in printed
    files = hub.repo('alice/tiny').files()
    card = files['README.md'].decode()
    assert '`pixel_values` (batch, 3, 32, 32)' in card and '"alice/tiny", { subfolder: "", dtype: "fp32" }' in card
    assert json.loads(files['onnx/config.json'])['id2label'] == {'0': 'cat', '1': 'dog', '2': 'horse'}
    processor = json.loads(files['onnx/preprocessor_config.json'])
    assert processor['size'] == {'shortest_edge': 36} and processor['crop_size'] == {'height': 32, 'width': 32}


@pytest.mark.parametrize('make, said', [
    (lambda folder: None, 'has no images to calibrate int8 on: Found 0 images'),
    (lambda folder: (folder / 'cat.jpg').write_bytes(b'\xff\xd8\xff'), 'cat.jpg cannot be read as an image'),
], ids=['no image', 'damaged image'])
def test_calibration_folder_that_is_of_no_use(make, said, pushed, tmp_path):
    hub, env, model, _ = pushed
    (tmp_path / 'images').mkdir()
    make(tmp_path / 'images')
    torch.save(dict(arch='mobilenext_050', state_dict=model.state_dict()), tmp_path / 'checkpoint.pth')
    message = run_cli(
        env, 'push', tmp_path / 'checkpoint.pth', 'alice/new', '--onnx', tmp_path / 'images', code=1)
    assert said in message
    assert not (hub.folder / 'alice' / 'new').exists()


def test_missing_package_is_told_with_its_extra(monkeypatch):
    monkeypatch.setattr(extras, 'find_spec', lambda module: None if module == 'onnxruntime' else module)
    with pytest.raises(UserError, match=r"^This needs onnxruntime: pip install 'timm-mobilenext\[onnx\]'$"):
        check_onnx(PHOTOGRAPHS)


class Small(torch.nn.Module):
    """The smallest classifier, described as a model of timm."""

    def __init__(self, num_classes=3, size=(3, 8, 8), scale=1., **cfg):
        super().__init__()
        self.num_classes, self.scale = num_classes, scale
        self.pretrained_cfg = dict(
            input_size=size, mean=(0.5,) * size[0], std=(0.5,) * size[0], interpolation='bicubic', crop_pct=0.8,
            crop_mode='center', **cfg)
        self.head = torch.nn.Linear(size[0] * size[1] * size[2], max(1, num_classes))

    def forward(self, x):
        return self.head(x.flatten(1)) * self.scale


class Bessel(Small):
    def forward(self, x):
        return torch.special.bessel_j0(super().forward(x))


class Changing(Small):
    """Another network in each call."""

    def forward(self, x):
        self.scale += 1
        return super().forward(x)


@pytest.mark.parametrize('model, said', [
    (Bessel(), 'The network cannot be written as ONNX: No ONNX function found for .*bessel_j0'),
    (Small(num_classes=0), 'The network has no classifier'),
    (Small(size=(5, 8, 8)), 'The network takes images of 5 channels'),
    (Small(scale=1e6), 'onnx/model_fp16.onnx is not the same network: its logits differ by'),  # 16 bits end at 65,504
    (Changing(), 'onnx/model.onnx is not the same network: its logits differ by'),
], ids=lambda value: '' if isinstance(value, str) else type(value).__name__)
def test_network_that_cannot_be_exported(model, said, tmp_path):
    with pytest.raises(UserError, match=said) as e:
        write_onnx_folder(tmp_path, model.eval(), PHOTOGRAPHS, Console())
    assert '\n' not in str(e.value)


def test_network_whose_shapes_onnx_runtime_does_not_find(tmp_path, capsys):
    model = timm.create_model('convnextv2_atto', depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), num_classes=3).eval()
    model.pretrained_cfg['input_size'] = (3, 32, 32)
    write_onnx_folder(tmp_path, model, PHOTOGRAPHS, Console(width=200))
    assert len(re.findall('logits within', capsys.readouterr().out)) == 3


@pytest.mark.parametrize('lowest, is_warned', [(-1000., True), (-1., False)], ids=['rough', 'fine'])
def test_int8_that_changes_many_classes_is_warned_of(lowest, is_warned, tmp_path, capsys):
    """The lowest logit sets the step of 8 bits, and the other two say whether an image is bright."""
    model = Small().eval()
    with torch.no_grad():
        model.head.bias[:] = torch.tensor([lowest, 0., 0.])
        model.head.weight[:] = torch.tensor([0., 1., -1.])[:, None] / model.head.in_features
    write_onnx_folder(tmp_path, model, PHOTOGRAPHS, Console(width=200))
    warning = re.search(
        r'^warning  model_int8.onnx changes the class of 75.0%: measure it', capsys.readouterr().out, re.M)
    assert bool(warning) is is_warned


@pytest.mark.parametrize('size, crop_mode, expected, said', [
    ((3, 8, 8), 'center', {'shortest_edge': 10}, ''),
    ((3, 8, 16), 'squash', {'height': 10, 'width': 20}, ''),
    ((1, 8, 8), 'center', {'shortest_edge': 10}, 'transformers.js takes images that are grey already'),
    ((3, 8, 8), 'border', {'height': 10, 'width': 10}, 'transformers.js squashes an image where timm pads it'),
    ((3, 8, 16), 'center', {'shortest_edge': 20}, 'transformers.js crops another part'),
])
def test_where_transformers_js_differs_is_said(size, crop_mode, expected, said, tmp_path, capsys):
    model = Small(size=size).eval()
    model.pretrained_cfg['crop_mode'] = crop_mode
    write_onnx_folder(tmp_path, model, PHOTOGRAPHS, Console(width=200))
    printed = capsys.readouterr().out
    assert said in printed and ('transformers.js' in printed) is bool(said)
    assert json.loads((tmp_path / 'onnx' / 'preprocessor_config.json').read_text())['size'] == expected
    config = json.loads((tmp_path / 'onnx' / 'config.json').read_text())
    assert config['id2label'] == {'0': 'class 0', '1': 'class 1', '2': 'class 2'}


def test_full_disk(tmp_path):
    """The system lets no file grow beyond some bytes: each step tells it in a line."""
    model, exported = Small(size=(3, 32, 32)).eval(), tmp_path / 'model.onnx'
    export_onnx(model, exported)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for step in (
        lambda file: export_onnx(model, file),
        lambda file: halve_onnx(exported, file),
        lambda file: quantize_onnx(exported, file, [torch.rand(1, 3, 32, 32)]),
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            with pytest.raises(OSError) as e:
                step(tmp_path / 'out.onnx')
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert explain(e.value) == ('Error: File too large', 1)
    signal.signal(signal.SIGXFSZ, ignored)
