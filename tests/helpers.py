"""What several test files need."""
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from PIL import Image
from processes import start_cli
from torch import nn

import timm

try:
    from timm.models import reparameterize_model
except ImportError:  # timm before 1.0.31
    from timm.utils import reparameterize_model

__all__ = [
    'colour_folder', 'COORD', 'Evil', 'HAS_COORD', 'hub_env', 'MODELS', 'NORMS', 'OFFLINE', 'ONE_WIDTH', 'randomize',
    'RECIPES', 'rel_error', 'reparameterize_model', 'ROOT', 'run_cli', 'run_python', 'SHIPPED', 'timm_version', 'TINY',
    'TOKEN', 'TRANSFORMERS',
]


def timm_version() -> tuple:
    return tuple(int(part) for part in timm.__version__.split('.')[:3])


HAS_COORD = timm_version() >= (1, 0, 23)
COORD = pytest.mark.skipif(not HAS_COORD, reason='timm before 1.0.23 has no Coordinate Attention')
MODELS = [
    'mobilenext_035', 'mobilenext_050', 'mobilenext_075', 'mobilenext_100', 'mobilenext_140', 'mobilenext_100_id050',
    'mobilenext_100_id033', 'mobilenext_100_id017', 'mobilenext_s', 'mobilenext_l', 'mobilenext_l_ghost',
    'mobilenext_050_se', 'mobilenext_075_se', 'mobilenext_100_se',
    *(['mobilenext_050_ca', 'mobilenext_075_ca', 'mobilenext_100_ca'] if HAS_COORD else []),
]
# for what takes seconds a network: one width stands for all those with the same attention
ONE_WIDTH = [name for name in MODELS if not re.fullmatch(r'mobilenext_(075|100)_(se|ca)', name)]
SHIPPED = 'mobilenext_050.cifar10'  # its weights are in the wheel
# every kind of sandglass block: two and one and no depthwise convolution, with and without a shortcut, SE
TINY = [
    ['sg_r1_k3_s2_e2_c32'],
    ['sg_r1_k3_s1_e6_c48_keepdw'],
    ['sg_r2_k3_s2_e6_c64_se0.25'],
    ['sg_r2_k5_s1_e4_c96'],
]
TOKEN = 'hf_AliceSecretToken'
OFFLINE = {**os.environ, 'HF_HUB_OFFLINE': '1', 'OMP_NUM_THREADS': '1', 'NO_COLOR': '1', 'COLUMNS': '20'}
ROOT = Path(__file__).parents[1]
# what transformers makes of an image, held against timm: its source, the model's name in timm, and the image
TRANSFORMERS = """
import sys
import timm, torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

source, in_timm, image = sys.argv[1:]
image = Image.open(image)
ours = timm.create_model(in_timm, pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=ours))
model, processor = AutoModelForImageClassification.from_pretrained(source), AutoImageProcessor.from_pretrained(source)
with torch.inference_mode():
    expected = ours(transform(image)[None])
    logits = model(**processor(image, return_tensors='pt')).logits
assert expected.std() > 1e-3
torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
best = pipeline('image-classification', model=source)(image)[0]
assert best['label'] == ours.pretrained_cfg['label_names'][expected.argmax()], best
assert abs(best['score'] - expected.softmax(1).max().item()) < 1e-4
"""
RECIPES = sorted(str(file.relative_to(ROOT)) for file in ROOT.glob('hub_configs/*/train*.yaml'))
NORMS = (nn.modules.batchnorm._BatchNorm, timm.layers.FrozenBatchNormAct2d)


@torch.no_grad()
def randomize(model: nn.Module) -> nn.Module:
    """Weights and statistics under which every layer is felt in the output, which fresh ones are not."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.normal_(0, 1 / math.sqrt(module.weight[0].numel()))
            if module.bias is not None:
                module.bias.normal_(0, 0.1)
        elif getattr(module, 'running_mean', None) is not None:
            if module.weight is not None:
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    return model


def rel_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the largest value."""
    assert actual.shape == expected.shape
    return ((actual.double() - expected.double()).abs().max() / expected.double().abs().max()).item()


def colour_folder(root: Path, count: int) -> Path:
    """Image folder of two classes of different colours, with so many images of each to train and to validate."""
    generator = np.random.RandomState(0)
    for split in ('train', 'validation'):
        for number, name in enumerate(('dark', 'light')):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = generator.randint(0, 128, (12, 16, 3)) + 127 * number
                Image.fromarray(pixels.astype('uint8')).save(root / split / name / f'{i}.png')
    return root


class Evil:
    """What executes a command when it is unpickled: touch of the marker."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)


def hub_env(hub, home, **more: str) -> dict:
    """Environment of a process that knows the Hub's double and no other, with a home of its own."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(('HF_', 'HUGGING'))}
    env.update(
        HF_ENDPOINT=hub.url, HF_TOKEN=TOKEN, HF_HOME=str(home), HF_HUB_DISABLE_XET='1', NO_PROXY='127.0.0.1,localhost',
        OMP_NUM_THREADS='1', NO_COLOR='1')
    return {**env, **more}


def run_cli(env, *arguments, code: int = 0) -> str:
    """Run timm-mobilenext in a process of its own, and return its output, or its complaint if it should fail.

    No token and no traceback is shown.
    """
    with TemporaryDirectory() as folder:
        process = start_cli(env, [str(argument) for argument in arguments], Path(folder) / 'output')
        process.join(timeout=300)
        stdout, stderr = (Path(folder, f'output.{name}').read_text() for name in ('stdout', 'stderr'))
    output = stdout + stderr
    assert process.exitcode == code, output
    assert 'Traceback' not in output or 'HF_DEBUG' in env
    assert not env.get('HF_TOKEN') or env['HF_TOKEN'] not in output
    if code == 0:
        return stdout
    errors = [line for line in stderr.splitlines() if line.startswith('Error: ')]
    assert len(errors) == 1, output
    return errors[0]


def run_python(env, code, *arguments) -> str:
    """Run a script in a process of its own, and return its output."""
    result = subprocess.run(
        [sys.executable, '-c', code, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout
