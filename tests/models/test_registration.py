"""The models are registered with every timm that is imported, and one that is too old is told in a line."""
import os
import subprocess
import sys

import pytest

import timm

from timm_mobilenext.hub.folders import check_architecture
from timm_mobilenext.shared.errors import UserError
from timm_mobilenext.shared.names import check_model, list_ours
from timm_mobilenext.version import TIMM_NEWEST, TIMM_OLDEST

pytestmark = pytest.mark.slow

ANEW = """
import sys
{first}
for _ in range(2):
    for name in [name for name in sys.modules if name.split('.')[0] == 'timm']:
        del sys.modules[name]
    import timm
    assert timm.is_model('mobilenext_100')
    model = timm.create_model('mobilenext_035', device='meta')
    assert isinstance(model, timm.models.EfficientNet)
    import timm_mobilenext
    assert isinstance(model, timm_mobilenext.MobileNeXt)
"""

MODELS = 'import sys; sys.argv[1:] = ["models"]; from timm_mobilenext.cli.main import main; main()'


def run(code, **env):
    return subprocess.run([sys.executable, '-c', code], env={**os.environ, **env}, text=True, capture_output=True)


@pytest.mark.parametrize('first', ['import timm_mobilenext, timm', 'import timm, timm_mobilenext'])
def test_timm_taken_out_of_the_modules_and_imported_anew(first):
    """As people change timm in a notebook."""
    process = run(ANEW.format(first=first), TIMM_MOBILENEXT_AUTOLOAD='0')
    assert process.returncode == 0, process.stderr


# a module of timm, of the same name as ours, as a timm to come may have it
OF_TIMM = """
import torch
from timm.models import generate_default_cfgs, register_model
NAMES = 'mobilenext_100', 'mobilenext_050'
default_cfgs = generate_default_cfgs({f'{name}.timm_in1k': dict(url='https://timm.test/its') for name in NAMES})
@register_model
def mobilenext_100(pretrained=False, **kwargs):
    return torch.nn.Linear(1, 7)
@register_model
def mobilenext_050(pretrained=False, **kwargs):
    return torch.nn.Linear(1, 7)
"""
STANDS_ASIDE = """
import sys, types
import timm, torch
{order}
its = timm.create_model('mobilenext_100', pretrained=True)
assert type(its) is torch.nn.Linear
assert timm.get_pretrained_cfg('mobilenext_100').url == 'https://timm.test/its'

import timm_mobilenext
create = timm_mobilenext.create_mobilenext
ours = create('mobilenext_100', device='meta')
assert type(ours) is timm_mobilenext.MobileNeXt and ours.num_classes == 1000
assert ours.pretrained_cfg['tag'] == 'official_in1k'
assert create([['sg_r1_k3_s2_e2_c16']], device='meta').num_features == 16
shipped = create('mobilenext_050.cifar10', pretrained=True)
weights = timm.models.load_state_dict(shipped.pretrained_cfg['file'])
assert all(torch.equal(weights[key], value) for key, value in shipped.state_dict().items())
from timm_mobilenext.models.mobilenext import mobilenext_050
assert mobilenext_050(pretrained=True, pretrained_cfg='cifar10').num_classes == 10

for create in (timm.create_model, create):
    second = create('mobilenext_100_plugin.official_in1k', device='meta')
    assert type(second) is timm_mobilenext.MobileNeXt
assert type(timm.create_model('mobilenext_100_id050', device='meta')) is timm_mobilenext.MobileNeXt
assert timm.list_models('*_plugin') == ['mobilenext_050_plugin', 'mobilenext_100_plugin']
from timm_mobilenext.shared.names import is_ours
assert is_ours('mobilenext_100_plugin') and is_ours('mobilenext_075') and not is_ours('mobilenext_100')
if tuple(map(int, timm.__version__.split('.')[:3])) >= (1, 0, 31):  # an older one keeps tags that were overwritten
    assert timm.list_pretrained('mobilenext_100.*') == ['mobilenext_100.timm_in1k']
"""


@pytest.mark.parametrize('first', ['timm', 'ours'])
def test_a_timm_with_networks_of_the_same_names_keeps_them(first):
    its = (
        "module = sys.modules['timm.models.mobilenext'] = types.ModuleType('timm.models.mobilenext')\n"
        f'exec({OF_TIMM!r}, module.__dict__)')
    order = [its, 'import timm_mobilenext'] if first == 'timm' else ['import timm_mobilenext', its]
    process = run(STANDS_ASIDE.replace('{order}', '\n'.join(order)), TIMM_MOBILENEXT_AUTOLOAD='0')
    assert process.returncode == 0, process.stderr
    said = [line for line in process.stderr.splitlines() if 'UserWarning: timm has a mobilenext_' in line]
    assert len(said) == 1 and 'that of timm-mobilenext is mobilenext_' in said[0], process.stderr


def test_old_timm_in_front_of_the_path(tmp_path):
    (tmp_path / 'timm' / 'models').mkdir(parents=True)
    (tmp_path / 'timm' / '__init__.py').write_text('__version__ = "0.6.13"')
    # what is private is there, and timm.layers is not
    anything = 'def __getattr__(name): return object\nclass EfficientNetBuilder:\n  def __init__(self, device): pass\n'
    for name in ('__init__', '_builder', '_efficientnet_blocks', '_efficientnet_builder', '_features'):
        (tmp_path / 'timm' / 'models' / f'{name}.py').write_text(anything)
    path = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    process = run('import timm_mobilenext.models', PYTHONPATH=path, TIMM_MOBILENEXT_AUTOLOAD='0')
    last = process.stderr.splitlines()[-1]
    assert last.startswith('ImportError: timm-mobilenext does not work with the installed timm 0.6.13 (')
    assert 'timm.layers' in last
    assert f'Supported are timm {TIMM_OLDEST} to {TIMM_NEWEST}: pip install' in last


@pytest.mark.parametrize('failing', ['from torch._six import container_abcs', 'import sys; sys.no_such_name'])
@pytest.mark.parametrize('code', ['import timm_mobilenext.models', MODELS])
def test_old_timm_whose_own_import_fails(failing, code, tmp_path):
    """As that of timm 0.3.2 does under the torch of today."""
    (tmp_path / 'timm').mkdir()
    (tmp_path / 'timm' / '__init__.py').write_text(f'from .version import __version__\n{failing}\n')
    (tmp_path / 'timm' / 'version.py').write_text('__version__ = "0.3.2"')
    path = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    process = run(code, PYTHONPATH=path, TIMM_MOBILENEXT_AUTOLOAD='0')
    assert process.returncode == 1
    last = process.stderr.splitlines()[-1]
    assert 'timm-mobilenext does not work with the installed timm 0.3.2 (' in last and 'pip install "timm==' in last
    assert 'torch._six' in last or 'no_such_name' in last
    assert code != MODELS or process.stderr.startswith('Error: ') and len(process.stderr.splitlines()) == 1


def test_models_that_are_not_registered(monkeypatch):
    monkeypatch.setattr(timm, 'list_models', lambda **kwargs: [])
    monkeypatch.setattr(timm, 'is_model', lambda name: False)
    for ask in (list_ours, lambda: check_model('mobilenext_100'), lambda: check_architecture('mobilenext_100')):
        with pytest.raises(UserError, match='does not work with the installed timm'):
            ask()
