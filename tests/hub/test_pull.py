"""timm-mobilenext pull, and others who read what was pushed, in processes as a user's, from a double of the Hub."""
import json
import shutil

import pytest
import torch
from helpers import Evil, hub_env, randomize, run_cli, run_python, TRANSFORMERS
from hub_double import cut, status
from safetensors.torch import save

import timm
from timm.models import save_for_hf

pytestmark = [pytest.mark.tools, pytest.mark.slow]

NAMES = ['cat', 'dog', 'horse']


@pytest.fixture
def env(hub, tmp_path):
    return hub_env(hub, tmp_path / 'home')


@pytest.fixture
def model(hub, tmp_path):
    """A model that alice has on the Hub, pushed by timm's own function, as far as the files go."""
    model = randomize(timm.create_model('mobilenext_035', num_classes=3)).eval()
    save_for_hf(model, str(tmp_path / 'pushed'), model_config=dict(label_names=NAMES), safe_serialization=True)
    hub.create('alice/model')
    hub.put('alice/model', {file.name: file.read_bytes() for file in (tmp_path / 'pushed').iterdir()})
    return model


def same(folder, model):
    loaded = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
    return all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_pull_by_branch_and_commit_and_offline(hub, env, model, tmp_path):
    first = hub.repo('alice/model').history()[0]
    shown = run_cli(env, 'pull', 'alice/model', '-o', tmp_path / 'out')
    assert f'commit {first[:7]}' in shown and 'mobilenext_035, 3 classes; loaded by timm' in shown
    assert sorted(file.name for file in (tmp_path / 'out').iterdir()) == ['config.json', 'model.safetensors']
    assert same(tmp_path / 'out', model)

    other = randomize(timm.create_model('mobilenext_035', num_classes=3))
    hub.put('alice/model', {'model.safetensors': save(other.state_dict()), 'notes/of.txt': b'notes'})
    for _ in range(2):
        run_cli(env, 'pull', 'alice/model', '-o', tmp_path / 'out')  # in place of the old one
    assert same(tmp_path / 'out', other) and (tmp_path / 'out' / 'notes' / 'of.txt').read_bytes() == b'notes'
    run_cli(env, 'pull', f'alice/model@{first}', '-o', tmp_path / 'first')
    assert same(tmp_path / 'first', model)

    asked = len(hub.requests)
    run_cli(dict(env, HF_HUB_OFFLINE='1'), 'pull', 'alice/model', '-o', tmp_path / 'offline')
    assert same(tmp_path / 'offline', other) and len(hub.requests) == asked


def test_snapshot_download_gives_a_local_dir(hub, env, model, tmp_path):
    run_python(env, """
import sys, timm
from huggingface_hub import snapshot_download
folder = snapshot_download('alice/model', local_dir=sys.argv[1])
timm.create_model('local-dir:' + folder, pretrained=True)
""", tmp_path / 'out')
    assert same(tmp_path / 'out', model)


def test_replaces_nothing_but_its_own(hub, env, model, tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'thesis.txt').write_text('mine')
    assert 'thesis.txt' in run_cli(env, 'pull', 'alice/model', '-o', tmp_path / 'out', code=1)
    assert [file.name for file in (tmp_path / 'out').iterdir()] == ['thesis.txt']


@pytest.mark.parametrize('file', ['thesis.txt', 'notes/thesis.txt', 'notes/of.txt'])
def test_replaces_no_file_of_the_same_folder_or_name(file, hub, env, model, tmp_path):
    hub.put('alice/model', {'notes/of.txt': b'notes', 'thesis.txt': b'not yours'})
    (tmp_path / 'out' / 'notes').mkdir(parents=True)
    (tmp_path / 'out' / file).write_text('mine')
    assert file in run_cli(env, 'pull', 'alice/model', '-o', tmp_path / 'out', code=1)
    assert (tmp_path / 'out' / file).read_text() == 'mine'


@pytest.mark.parametrize('more, fault', [
    ({}, status(503, 'maintenance')), (dict(HF_TOKEN='hf_wrong'), None), (dict(HF_ENDPOINT='http://127.0.0.1:9'), None),
], ids=['503', 'token', 'no server'])
def test_cache_is_not_taken_for_the_hub(more, fault, hub, env, model, tmp_path):
    """huggingface_hub falls back to it without a word."""
    run_cli(env, 'pull', 'alice/model', '-o', tmp_path / 'out')
    if fault:
        hub.fail('GET /api/models', fault)
    run_cli(dict(env, **more), 'pull', 'alice/model', '-o', tmp_path / 'again', code=1)
    assert not (tmp_path / 'again').exists()


def test_pickles_beside_safetensors_stay_there(hub, env, model, tmp_path):
    torch.save(Evil(tmp_path / 'executed'), tmp_path / 'evil.bin')
    hub.put('alice/model', {name: (tmp_path / 'evil.bin').read_bytes() for name in ('pytorch_model.bin', 'args.bin')})
    run_cli(env, 'pull', 'alice/model', '-o', tmp_path / 'out')
    assert sorted(file.name for file in (tmp_path / 'out').iterdir()) == ['config.json', 'model.safetensors']
    (tmp_path / 'out' / 'pytorch_model.bin').write_bytes((tmp_path / 'evil.bin').read_bytes())
    run_cli(env, 'push', tmp_path / 'out', 'alice/other')
    assert 'pytorch_model.bin' not in hub.repo('alice/other').files()
    assert not (tmp_path / 'executed').exists()


def test_broken_download_continues(hub, env, model, tmp_path):
    hub.fail('GET /cdn/', cut(0.3), cut(0.5))
    run_cli(env, 'pull', 'alice/model', '-o', tmp_path / 'out')
    assert same(tmp_path / 'out', model)


def test_waits_when_there_are_too_many_requests(hub, env, model, tmp_path):
    hub.fail('GET /cdn/', status(429, retry_after=0))
    run_cli(env, 'pull', 'alice/model', '-o', tmp_path / 'out')
    assert same(tmp_path / 'out', model)


def config_of(hub, **changes):
    return json.dumps({**json.loads(hub.repo('alice/model').files()['config.json']), **changes}).encode()


def truncated(hub, tmp_path):
    return {'model.safetensors': hub.repo('alice/model').files()['model.safetensors'][:10000]}


def other_shape(hub, tmp_path):
    return {'model.safetensors': save(timm.create_model('mobilenext_050', num_classes=3).state_dict())}


def other_classes(hub, tmp_path):
    return {'model.safetensors': save(timm.create_model('mobilenext_035', num_classes=4).state_dict())}


def not_finite(hub, tmp_path):
    state_dict = timm.create_model('mobilenext_035', num_classes=3).state_dict()
    state_dict['conv_stem.weight'][0] = torch.nan
    return {'model.safetensors': save(state_dict)}


def evil(hub, tmp_path):
    torch.save(Evil(tmp_path / 'executed'), tmp_path / 'evil.bin')
    repo = hub.repo('alice/model')
    tree = {name: entry for name, entry in repo.tree('main').items() if name != 'model.safetensors'}
    repo.commit('refs/heads/main', repo.resolve('main'), tree, 'no safetensors')
    return {'pytorch_model.bin': (tmp_path / 'evil.bin').read_bytes()}


@pytest.mark.parametrize('change, words', [
    (lambda hub, _: {'config.json': config_of(hub, architecture='mobilenext_999')},
     ['mobilenext_999', 'pip install --upgrade git+https://']),
    (lambda hub, _: {'config.json': config_of(hub, architecture='resnet_of_mars')},
     ['resnet_of_mars', 'pip install --upgrade timm,']),
    (lambda hub, _: {'config.json': config_of(hub, model_args=dict(foo=1))}, ['can be used', 'foo']),
    (lambda hub, _: {'config.json': config_of(hub, label_names=['cat'])}, ['names 1 classes of 3']),
    (lambda hub, _: {'config.json': config_of(hub, label_names=5)}, ['names no classes of 3']),
    (lambda hub, _: {'config.json': config_of(hub, pretrained_cfg=dict(input_size='abc'))}, ['input_size']),
    (lambda hub, _: {'config.json': config_of(hub, pretrained_cfg=dict(input_size=[3, 10 ** 6, 10 ** 6]))},
     ['input_size']),
    (lambda hub, _: {'config.json': b'{'}, ['config.json', 'not JSON']),
    (lambda hub, _: {'config.json': b'[1]'}, ['names no architecture']),
    (truncated, ['model.safetensors', 'cannot be read']),
    (other_shape, ['another network', 'of another shape']),
    (other_classes, ['4 classes', 'one of 3']),
    (not_finite, ['NaN', 'conv_stem.weight']),
    (evil, ['refused', 'nothing is executed']),
], ids=[
    'ours', 'others', 'argument', 'names', 'no names', 'size', 'vast', 'no JSON', 'no object', 'truncated', 'shape',
    'classes', 'NaN', 'evil',
])
def test_bad_folder_is_reported_and_not_kept(change, words, hub, env, model, tmp_path):
    shutil.copytree(tmp_path / 'pushed', tmp_path / 'out')
    hub.put('alice/model', change(hub, tmp_path))
    error = run_cli(env, 'pull', 'alice/model', '-o', tmp_path / 'out', code=1)
    assert all(word in error for word in words), error
    assert same(tmp_path / 'out', model)  # as it was
    assert not (tmp_path / 'executed').exists()
    assert not [file for file in tmp_path.iterdir() if file.name.startswith('.')]


@pytest.mark.parametrize('arguments, more, words', [
    (['alice/nothing'], {}, ['has no alice/nothing']),
    (['alice/nothing'], dict(HF_TOKEN=''), ['has no alice/nothing', 'hf auth login']),
    (['alice/model@nope'], {}, ["no revision 'nope'"]),
    (['alice/mo del'], {}, ['alice/mo del']),
    (['model'], {}, ['give user/name']),
    (['alice/model@'], {}, None),
    (['alice/model@../main'], {}, ['no revision']),
    (['bob/gated'], {}, ['bob/gated is gated', 'ask for access']),
    (['bob/private'], {}, ['has no bob/private, or it is private']),
    (['alice/model'], dict(HF_TOKEN='hf_wrong'), ['refuses the token (401)']),
    (['alice/model'], dict(HF_ENDPOINT='http://127.0.0.1:9'), ['connection to http://127.0.0.1:9 failed']),
    (['alice/model'], dict(HF_HUB_OFFLINE='1'), ['not in the cache', 'HF_HUB_OFFLINE']),
])
def test_refusals(arguments, more, words, hub, env, model, tmp_path):
    hub.create('bob/private', private=True)
    hub.create('bob/gated', gated=True)
    hub.put('bob/gated', hub.repo('alice/model').files())
    if words is None:  # an empty revision is none
        run_cli(env, 'pull', *arguments, '-o', tmp_path / 'out')
        return
    error = run_cli(dict(env, **more), 'pull', *arguments, '-o', tmp_path / 'out', code=1)
    assert all(word in error for word in words), error
    assert not (tmp_path / 'out').exists()


MEND = """
import json, pathlib; f = pathlib.Path('{folder}/config.json'); c = json.loads(f.read_text()); \
c['model_args'].pop('num_classes', None); f.write_text(json.dumps(c))
"""

@pytest.mark.parametrize('how', ['pushed by us', 'pushed by timm, pulled and pushed', 'by timm, mended in one line'])
def test_transformers(how, hub, env, model, tmp_path):
    pytest.importorskip('transformers', reason='needs transformers: pip install it on a Python that is new enough')
    from PIL import Image

    Image.effect_noise((300, 260), 80).convert('RGB').save(tmp_path / 'image.png')
    source = 'alice/model'
    if how == 'pushed by us':
        torch.save(dict(arch='mobilenext_035', state_dict=model.state_dict()), tmp_path / 'checkpoint.pth.tar')
        (tmp_path / 'names.txt').write_text('\n'.join(NAMES))
        source = 'alice/ours'
        run_cli(env, 'push', tmp_path / 'checkpoint.pth.tar', source, '--label-names', tmp_path / 'names.txt')
    elif how == 'by timm, mended in one line':
        run_python(env, MEND.format(folder=tmp_path / 'pushed'))
        source = str(tmp_path / 'pushed')
    else:
        run_cli(env, 'pull', source, '-o', tmp_path / 'out')
        run_cli(env, 'push', tmp_path / 'out', source)
    in_timm = f'local-dir:{source}' if source.startswith('/') else f'hf-hub:{source}'
    run_python(env, TRANSFORMERS, source, in_timm, tmp_path / 'image.png')
