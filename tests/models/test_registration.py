"""The models are registered with every timm that is imported, and one that is too old is told in a line."""
import os
import subprocess
import sys

import pytest

import timm

from timm_mobilenext.shared.errors import UserError
from timm_mobilenext.shared.names import list_ours
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


def run(code, **env):
    return subprocess.run([sys.executable, '-c', code], env={**os.environ, **env}, text=True, capture_output=True)


@pytest.mark.parametrize('first', ['import timm_mobilenext, timm', 'import timm, timm_mobilenext'])
def test_timm_taken_out_of_the_modules_and_imported_anew(first):
    """As people change timm in a notebook."""
    process = run(ANEW.format(first=first), TIMM_MOBILENEXT_AUTOLOAD='0')
    assert process.returncode == 0, process.stderr


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


def test_models_that_are_not_registered(monkeypatch):
    monkeypatch.setattr(timm, 'list_models', lambda **kwargs: [])
    with pytest.raises(UserError, match='does not work with the installed timm'):
        list_ours()
