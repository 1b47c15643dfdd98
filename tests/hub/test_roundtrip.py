"""timm's own push_to_hf_hub and hf-hub:, unchanged: what a fresh process that imports only timm gets back."""
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import hub_env, ONE_WIDTH, timm_version, TOKEN
from hub_double import Hub

from timm_mobilenext.version import TIMM_OLDEST

# changed ones: model, arguments, and those of reset_classifier if it is called
CHANGED = {
    'classes-and-channels': ('mobilenext_035', dict(num_classes=7, in_chans=5), None),
    'arch-def': (
        'mobilenext_035',
        dict(arch_def=[['sg_r1_k3_s2_e2_c32'], ['ir_r2_k3_s2_e4_c48', 'sg_r1_k3_s1_e6_c48'], ['sg_r2_k3_s2_e6_c64']]),
        None),
    'multiplier': ('mobilenext_100', dict(channel_multiplier=0.6), None),
    'layers-by-name': ('mobilenext_035', dict(act_layer='silu', norm_layer='groupnorm1'), None),
    'global-pool': ('mobilenext_035', dict(global_pool='catavgmax'), None),
    'output-stride': ('mobilenext_035', dict(output_stride=16), None),
    'reset-classifier': ('mobilenext_035', dict(), (11, 'max')),
}
RECORDS_ARGUMENTS = timm_version() >= (1, 0, 31)

pytestmark = pytest.mark.slow  # it starts processes

PUSH = """
import sys
import torch
import timm
from helpers import randomize
from test_roundtrip import CHANGED, images, ONE_WIDTH, RECORDS_ARGUMENTS

torch.manual_seed(0)
cases = {**{name: (name, {}, None) for name in ONE_WIDTH}, **(CHANGED if RECORDS_ARGUMENTS else {})}
logits = {}
for repo, (name, arguments, reset) in cases.items():
    model = timm.create_model(name, **arguments)
    if reset:
        model.reset_classifier(*reset)
    randomize(model).eval()
    timm.models.push_to_hf_hub(model, 'alice/' + repo)
    with torch.inference_mode():
        logits[repo] = model(images(model.in_chans))
torch.save(logits, sys.argv[1])
"""
PULL = """
import sys
import timm
import torch

logits = {}
for repo in sys.argv[2:]:
    model = timm.create_model('hf-hub:alice/' + repo, pretrained=True).eval()
    x = torch.rand(2, getattr(model, 'in_chans', 3), 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        logits[repo] = model(x)
torch.save(logits, sys.argv[1])
"""


def images(in_chans):
    return torch.rand(2, in_chans, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope='module')
def logits(tmp_path_factory):
    """Of models that a process has put on a Hub by timm's function: there, and where a process imports only timm."""
    folder = tmp_path_factory.mktemp('roundtrip')
    hub = Hub(folder / 'hub', users={TOKEN: 'alice'})
    env = hub_env(hub, folder / 'home')
    folders = Path(__file__).parent, Path(__file__).parents[1]
    path = ':'.join(filter(None, (env.get('PYTHONPATH'), *map(str, folders))))
    run(dict(env, PYTHONPATH=path), PUSH, folder / 'pushed.pt')
    pushed = torch.load(folder / 'pushed.pt', weights_only=True)
    run(env, PULL, folder / 'pulled.pt', *pushed)
    hub.stop()
    return pushed, torch.load(folder / 'pulled.pt', weights_only=True)


def run(env, code, *arguments):
    result = subprocess.run(
        [sys.executable, '-c', code, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('repo', [*ONE_WIDTH, *CHANGED])
def test_same_logits_from_the_hub(repo, logits):
    if repo in CHANGED and not RECORDS_ARGUMENTS:
        pytest.skip(f'timm {TIMM_OLDEST} keeps no arguments in config.json; runs on one that records _model_args')
    pushed, pulled = logits
    torch.testing.assert_close(pulled[repo], pushed[repo], rtol=1e-6, atol=1e-6)
    assert pushed[repo].std() > 0.01
