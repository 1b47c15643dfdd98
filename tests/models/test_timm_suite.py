"""timm's own model tests, of the release that is installed, over all of our models, and its contract over one."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import MODELS

import timm

pytestmark = pytest.mark.slow  # it starts processes, or exports whole networks

ROOT = Path(__file__).parents[2]
TIMM_TESTS = ROOT / '.cache' / f'timm-{timm.__version__}' / 'tests'
PLUGINS = Path(__file__).parent / 'timm_suite'
# files of timm whose tests name models of other families, where ours can stand in
CONTRACT = [
    'test_models.py', 'test_task.py', 'test_model_input.py', 'test_input_conv.py', 'test_utils.py', 'test_hub.py']
# tests that must fail with our model in the place of theirs, and why: one that passes has to leave this list
LEFT_OUT = {
    'test_catavgmax_unsupported[mobilenext_035_0]': 'is of heads that cannot join two poolings; ours can',
    'test_export_does_not_inherit_training_regularization[False]': 'gives a drop_block_rate, which is of ResNet',
    'test_export_tracks_reset_pool_and_omits_in_memory_weight_source': 'reads fc, the classifier of ResNet',
    'test_extract_spp_stats': 'names layer1.0.conv1 of ResNet',
    'test_feature_wrapper_retains_input_contract': 'names conv1, the first convolution of ResNet',
    'test_freeze_unfreeze': 'gives the number of layers in each stage of ResNet',
    'test_freeze_unfreeze_string_input': 'names layer1, a stage of ResNet',
}


def run_timm_tests(plugin, tests, folder, **env):
    command = [
        sys.executable, '-m', 'pytest', *tests, '-q', '-p', plugin, '-p', 'no:cacheprovider',
        '-c', os.devnull, '--rootdir', folder, '-W', 'ignore::pytest.PytestUnknownMarkWarning',
    ]
    paths = [str(PLUGINS), os.environ.get('PYTHONPATH', '')]
    # GITHUB_ACTIONS leaves out the tests that download weights
    env = dict(
        os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths)), GITHUB_ACTIONS='1', HF_HUB_OFFLINE='1', **env)
    run = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True)
    print(run.stdout)
    passed = re.search(r'(\d+) passed', run.stdout)
    assert run.returncode == 0 and ' failed' not in run.stdout.splitlines()[-1], run.stdout[-5000:]
    return int(passed[1]) if passed else 0


@pytest.mark.skipif(not TIMM_TESTS.exists(), reason=f'no {TIMM_TESTS}: `make setup` fetches the tests of timm')
def test_timm_model_tests_pass():
    passed = run_timm_tests('plugin', [TIMM_TESTS / 'test_models.py'], TIMM_TESTS.parent)
    # nine tests over each model, ten from timm 1.0.31 on: fewer means that timm selects models in a new way
    assert passed >= 9 * len(MODELS)


@pytest.mark.skipif(
    not all((TIMM_TESTS / file).exists() for file in CONTRACT),
    reason=f'{TIMM_TESTS} has no {", ".join(CONTRACT)}: timm has tests of its contract from 1.0.31 on')
def test_timm_contract_holds_for_a_model_of_ours(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(PLUGINS)
    from stand_in import stand_in

    for file in CONTRACT:
        (tmp_path / file).write_text(stand_in((TIMM_TESTS / file).read_text()))
    passed = run_timm_tests('stand_in', CONTRACT, tmp_path, LEFT_OUT=json.dumps(LEFT_OUT))
    assert passed >= 32  # with timm 1.0.31: fewer means that the tests name models in a new way
