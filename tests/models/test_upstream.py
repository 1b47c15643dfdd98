"""examples/upstream/mobilenext.py, as a file of timm: it equals our networks, which stand aside."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.tools]

ROOT = Path(__file__).parents[2]
# in a process of its own, whose timm has the file among its models before this package comes
EQUALS = """
import importlib.util, shutil, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
import timm

root, folder = map(Path, sys.argv[1:])
spec = importlib.util.spec_from_file_location('timm.models.mobilenext', root / 'examples/upstream/mobilenext.py')
its = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(its)
names = timm.list_models(module='mobilenext')
assert len(names) == 11

import timm_mobilenext
from timm_mobilenext import create_mobilenext
from timm_mobilenext.classify.load import load_model
from timm_mobilenext.detection import create_ssdlite
sys.path.insert(0, str(root / 'tests'))
from authors import load_golden, OFFICIAL
from helpers import randomize

x = torch.randn(2, 3, 64, 64)
for name in names:
    native, ours = timm.create_model(name), randomize(create_mobilenext(name))
    assert type(native) is its.MobileNeXt and type(ours) is timm_mobilenext.MobileNeXt
    assert list(native.state_dict()) == list(ours.state_dict())
    native.load_state_dict(ours.state_dict())
    results = []
    for model in (native, ours):
        torch.manual_seed(1)  # of dropout and drop path
        logits = model(x)
        gradients = torch.autograd.grad(logits.sum(), list(model.parameters()))
        with torch.no_grad():
            results.append([logits, *gradients, model.eval()(x), *model.forward_intermediates(x)[1]])
    assert all(map(torch.equal, *results)), name
    keys = 'num_chs', 'reduction'
    assert [[info[key] for key in keys] for info in native.feature_info] == [
        [info[key] for key in keys] for info in ours.feature_info], name

# another stem
native.conv_stem = torch.nn.Sequential(torch.nn.Conv2d(4, 3, 1), native.conv_stem)
native.reset_classifier(4)
assert native(torch.randn(2, 4, 64, 64)).shape == (2, 4)

# dilated
a, b = (create('mobilenext_100', features_only=True, output_stride=8).eval()
        for create in (timm.create_model, create_mobilenext))
a.load_state_dict(dict(zip(a.state_dict(), randomize(b).state_dict().values(), strict=True)))
with torch.no_grad():
    assert all(map(torch.equal, a(x), b(x)))

# the authors' checkpoints
for name, golden in dict(mobilenext_035='mnext_w035', **{name: of[1] for name, of in OFFICIAL.items()}).items():
    weights = load_golden(golden).state_dict
    native, ours = timm.create_model(name), create_mobilenext(name)
    checkpoint = dict(state_dict={f'module.{key}': value for key, value in weights.items()})
    native.load_state_dict(its.checkpoint_filter_fn(checkpoint, native))
    ours.load_state_dict(weights)
    assert all(map(torch.equal, native.state_dict().values(), ours.state_dict().values())), name

# the weights that only this package has, which predict takes by default
assert type(load_model('mobilenext_050.cifar10')) is timm_mobilenext.MobileNeXt

# a folder of the Hub, and a detector, which this package made before timm had the networks
shutil.copy(root / 'hub_configs/mobilenext_100/config.json', folder)
ours = randomize(create_mobilenext('mobilenext_100')).eval()
save_file(ours.state_dict(), folder / 'model.safetensors')
native = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
assert type(native) is its.MobileNeXt
with torch.no_grad():
    assert torch.equal(native(x), ours(x))
a, b = (create_ssdlite(name, img_size=64).eval() for name in ('mobilenext_100', 'mobilenext_100_plugin'))
assert type(a.backbone.body) is its.MobileNeXt and type(b.backbone.body) is timm_mobilenext.MobileNeXt
a.load_state_dict(randomize(b).state_dict())
with torch.no_grad():
    assert all(map(torch.equal, a.backbone(x).values(), b.backbone(x).values()))
"""


def test_native_form_equals_ours_bit_by_bit(tmp_path):
    # the warning that ours stand aside has a test of its own
    env = dict(os.environ, TIMM_MOBILENEXT_AUTOLOAD='0', PYTHONWARNINGS='ignore')
    run = subprocess.run([sys.executable, '-c', EQUALS, ROOT, tmp_path], capture_output=True, text=True, env=env)
    assert run.returncode == 0, run.stderr
