"""timm-mobilenext push, in processes as a user's, to a double of the Hub."""
import argparse
import csv
import json

import pytest
import torch
import yaml
from helpers import hub_env, randomize, run_cli
from huggingface_hub import ModelCard
from safetensors.torch import load as load_safetensors
from safetensors.torch import save_file

import timm
from timm.models import save_for_hf

pytestmark = [pytest.mark.tools, pytest.mark.slow]

NAMES = ['cat', 'dog', 'horse']


@pytest.fixture
def env(hub, tmp_path):
    return hub_env(hub, tmp_path / 'home')


@pytest.fixture
def run_folder(tmp_path):
    """What timm's train.py leaves of a short training with EMA."""
    folder = tmp_path / 'train' / '20260101-mobilenext_035-64'
    folder.mkdir(parents=True)
    args = dict(
        model='mobilenext_035', data_dir='/home/alice/secret/animals', dataset='', img_size=64, num_classes=3,
        opt='lamb', lr=0.005, epochs=3, batch_size=32, model_ema=True, model_ema_decay=0.99, eval_metric='top1',
        model_kwargs={}, val_split='validation', smoothing=0.1, mixup=0.0, log_wandb=False)
    raw, ema = (randomize(timm.create_model('mobilenext_035', num_classes=3)).state_dict() for _ in range(2))
    torch.save(dict(
        epoch=1, arch='mobilenext_035', state_dict=raw, state_dict_ema=ema, optimizer={}, version=2,
        args=argparse.Namespace(**args), metric=76.25), folder / 'model_best.pth.tar')
    (folder / 'args.yaml').write_text(yaml.safe_dump(args))
    with open(folder / 'summary.csv', 'w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(['epoch', 'train_loss', 'eval_loss', 'eval_top1', 'eval_top5', 'lr'])
        rows.writerows([[0, 2.0, 1.0, 55.5, 100.0, 0.1], [1, 1.5, 0.9, 76.25, 100.0, 0.1], [2, 1, 0.9, 70, 100.0, 0.1]])
    (folder.parent / 'names.txt').write_text('\n'.join(NAMES) + '\n')
    return folder


@pytest.fixture
def checkpoint(tmp_path):
    file = tmp_path / 'checkpoint.pth.tar'
    model = randomize(timm.create_model('mobilenext_035', num_classes=3))
    torch.save(dict(arch='mobilenext_035', state_dict=model.state_dict()), file)
    return file


def files_of(hub, repo_id, revision='main'):
    files = hub.repo(repo_id).files(revision)
    files.pop('.gitattributes')
    return files


@pytest.mark.parametrize('ema', [True, False])
def test_training_run(hub, env, run_folder, ema):
    options = ['--label-names', run_folder.parent / 'names.txt'] + ([] if ema else ['--no-ema'])
    shown = run_cli(env, 'push', run_folder, 'alice/animals', *options)
    files = files_of(hub, 'alice/animals')
    assert sorted(files) == ['README.md', 'config.json', 'model.safetensors']
    assert f'weights  {"EMA" if ema else "raw"}\n' in shown
    for name, content in files.items():  # what it uploads and how large
        assert f'{name} ' in shown and f' {len(content):,} bytes' in shown

    saved = torch.load(run_folder / 'model_best.pth.tar', weights_only=False)
    expected = saved['state_dict_ema' if ema else 'state_dict']
    weights = load_safetensors(files['model.safetensors'])
    assert weights.keys() == expected.keys() and all(torch.equal(weights[key], expected[key]) for key in weights)
    config = json.loads(files['config.json'])
    assert config['label_names'] == NAMES and config['pretrained_cfg']['input_size'] == [3, 64, 64]
    assert 'num_classes' not in config['model_args']

    card = ModelCard(files['README.md'].decode())
    assert card.data.library_name == 'timm' and card.data.license == 'unknown'
    assert 'hf-hub:alice/animals' in card.content and 'cat, dog, horse' in card.content
    assert '| Data set | animals |' in card.content and '| `opt` | lamb |' in card.content
    assert '/home/alice' not in card.content
    # the log tells of the averaged weights, so nothing is known of the raw ones
    results = card.data.eval_results or []
    assert [(r.metric_name, r.metric_value, r.dataset_name) for r in results] == (
        [('Top-1', 76.25, 'animals'), ('Top-5', 100., 'animals')] if ema else [])
    assert ('76.25, 100.00 (EMA weights in epoch 1' in card.content) is ema


def test_log_of_another_run_is_not_evidence(hub, env, run_folder):
    saved = torch.load(run_folder / 'model_best.pth.tar', weights_only=False)
    torch.save(dict(saved, metric=12.5), run_folder / 'model_best.pth.tar')
    run_cli(env, 'push', run_folder, 'alice/animals')
    card = ModelCard(files_of(hub, 'alice/animals')['README.md'].decode())
    assert card.data.eval_results is None and '76.25' not in card.content


def test_safetensors_with_args_beside(hub, env, run_folder):
    """The network is the one that the training's arguments describe."""
    model = randomize(timm.create_model('mobilenext_035', num_classes=3, act_layer='silu'))
    for file in run_folder.glob('*.tar'):
        file.unlink()
    save_file(model.state_dict(), run_folder / 'model.safetensors')
    args = yaml.safe_load((run_folder / 'args.yaml').read_text())
    (run_folder / 'args.yaml').write_text(yaml.safe_dump(dict(args, model_kwargs=dict(act_layer='silu'))))
    run_cli(env, 'push', run_folder / 'model.safetensors', 'alice/animals', '--license', 'mit')
    files = files_of(hub, 'alice/animals')
    assert json.loads(files['config.json'])['model_args']['act_layer'] == 'silu'
    assert ModelCard(files['README.md'].decode()).data.license == 'mit'


def test_other_models_of_timm(hub, env, tmp_path):
    model = timm.create_model('resnet10t', num_classes=4, in_chans=1)
    torch.save(dict(arch='resnet10t', state_dict=model.state_dict()), tmp_path / 'checkpoint.pth.tar')
    run_cli(env, 'push', tmp_path / 'checkpoint.pth.tar', 'alice/resnet')
    assert 'MobileNeXt' not in files_of(hub, 'alice/resnet')['README.md'].decode()
    run_cli(env, 'pull', 'alice/resnet', '-o', tmp_path / 'out')
    loaded = timm.create_model(f'local-dir:{tmp_path / "out"}', pretrained=True)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_hub_folder(hub, env, tmp_path):
    """A folder of timm's own, with what transformers stumbles over, and a card of its user's."""
    model = randomize(timm.create_model('mobilenext_035', num_classes=3, global_pool='max'))
    save_for_hf(model, str(tmp_path / 'folder'), model_config=dict(label_names=NAMES), safe_serialization='both')
    card = '---\nlicense: mit\n---\n# Mine\n'
    (tmp_path / 'folder' / 'README.md').write_text(card)
    run_cli(env, 'push', tmp_path / 'folder', 'alice/folder')
    files = files_of(hub, 'alice/folder')
    assert sorted(files) == ['README.md', 'config.json', 'model.safetensors']  # the pickle stays at home
    assert files['README.md'].decode() == card
    assert files['model.safetensors'] == (tmp_path / 'folder' / 'model.safetensors').read_bytes()
    config, mended = json.loads((tmp_path / 'folder' / 'config.json').read_text()), json.loads(files['config.json'])
    assert config['model_args'].pop('num_classes') == 3
    assert mended == config


def test_license_of_a_folder_leaves_the_card(hub, env, checkpoint, tmp_path):
    run_cli(env, 'convert', checkpoint, '-o', tmp_path / 'converted')
    with open(tmp_path / 'converted' / 'README.md', 'a') as card:
        card.write('My own words.\n')
    run_cli(env, 'push', tmp_path / 'converted', 'alice/converted', '--license', 'mit')
    card = ModelCard(files_of(hub, 'alice/converted')['README.md'].decode())
    assert card.data.license == 'mit' and 'My own words.' in card.content


@pytest.mark.parametrize('more, name', [
    (dict(data_dir='C:\\Users\\alice\\secret\\animals'), 'animals'),
    (dict(dataset='hfds//home/alice/secret/animals'), 'animals'),
    (dict(dataset='hfds/alice/animals'), 'alice/animals'),
    (dict(dataset='torch/cifar10'), 'cifar10'),
    (dict(data_dir='/home/alice/secret/Données à moi'), 'Données à moi'),
])
def test_data_set_without_a_path(more, name, hub, env, run_folder):
    saved = torch.load(run_folder / 'model_best.pth.tar', weights_only=False)
    saved['args'] = argparse.Namespace(**{**vars(saved['args']), **more})
    torch.save(saved, run_folder / 'model_best.pth.tar')
    run_cli(env, 'push', run_folder, 'alice/animals')
    text = files_of(hub, 'alice/animals')['README.md'].decode()
    assert f'| Data set | {name} |' in text and 'secret' not in text and '/home/alice' not in text
    assert ModelCard(text).data.datasets == (['alice/animals'] if name == 'alice/animals' else None)


def test_converted_folder_gets_its_address(hub, env, checkpoint, tmp_path):
    run_cli(env, 'convert', checkpoint, '-o', tmp_path / 'converted')
    assert 'local-dir:' in (tmp_path / 'converted' / 'README.md').read_text()
    run_cli(env, 'push', tmp_path / 'converted', 'alice/converted')
    card = files_of(hub, 'alice/converted')['README.md'].decode()
    assert 'local-dir:' not in card and 'hf-hub:alice/converted' in card


def test_dry_run_changes_nothing(hub, env, checkpoint):
    shown = run_cli(env, 'push', checkpoint, 'alice/new', '--dry-run', '--private')
    assert 'alice/new, new, private' in shown and 'model.safetensors' in shown and 'nothing was pushed' in shown
    assert not (hub.folder / 'alice').exists()
    assert [line for line in hub.requests if not line.startswith('GET')] == ['POST /api/validate-yaml']


def test_repeat_makes_no_commit_and_keeps_the_card(hub, env, checkpoint):
    run_cli(env, 'push', checkpoint, 'alice/model', '--private')
    repo = hub.repo('alice/model')
    assert repo.data['private'] and len(repo.history()) == 2
    assert 'nothing, all of it was there' in run_cli(env, 'push', checkpoint, 'alice/model')
    assert len(repo.history()) == 2

    hub.put('alice/model', {'README.md': b'# Mine\n', 'other.txt': b'mine too'})
    assert 'kept     README.md' in run_cli(env, 'push', checkpoint, 'alice/model')
    assert files_of(hub, 'alice/model')['README.md'] == b'# Mine\n'
    run_cli(env, 'push', checkpoint, 'alice/model', '--overwrite-card')
    files = files_of(hub, 'alice/model')
    assert b'Model card for alice/model' in files['README.md'] and files['other.txt'] == b'mine too'


def test_pickle_is_pushed_only_if_asked_and_a_stale_one_is_removed(hub, env, checkpoint):
    run_cli(env, 'push', checkpoint, 'alice/model', '--pickle')
    assert 'pytorch_model.bin' in files_of(hub, 'alice/model')
    other = randomize(timm.create_model('mobilenext_035', num_classes=3))
    torch.save(dict(arch='mobilenext_035', state_dict=other.state_dict()), checkpoint)
    assert 'removed  pytorch_model.bin' in run_cli(env, 'push', checkpoint, 'alice/model')
    assert 'pytorch_model.bin' not in files_of(hub, 'alice/model')


def test_branch_and_pull_request(hub, env, checkpoint):
    run_cli(env, 'push', checkpoint, 'alice/model')
    other = randomize(timm.create_model('mobilenext_035', num_classes=3))
    torch.save(dict(arch='mobilenext_035', state_dict=other.state_dict()), checkpoint)
    before = files_of(hub, 'alice/model')
    assert "'hf-hub:alice/model@dev'" in run_cli(env, 'push', checkpoint, 'alice/model', '--revision', 'dev')
    shown = run_cli(env, 'push', checkpoint, 'alice/model', '--create-pr')
    assert '/alice/model/discussions/1' in shown and "'hf-hub:alice/model@refs/pr/1'" in shown
    assert files_of(hub, 'alice/model') == before
    for revision in ('dev', 'refs/pr/1'):
        assert files_of(hub, 'alice/model', revision)['model.safetensors'] != before['model.safetensors']

    # to a stranger's repository, too
    hub.create('bob/model')
    run_cli(env, 'push', checkpoint, 'bob/model', '--create-pr')
    assert 'model.safetensors' in files_of(hub, 'bob/model', 'refs/pr/1')
    assert files_of(hub, 'bob/model') == {}


def test_large_file_in_parts(hub, env, checkpoint):
    hub.part_size = 1 << 20
    run_cli(env, 'push', checkpoint, 'alice/model')
    assert len([line for line in hub.requests if '?part=' in line]) == 3
    expected = torch.load(checkpoint, weights_only=True)['state_dict']
    weights = load_safetensors(files_of(hub, 'alice/model')['model.safetensors'])
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


def test_token_of_hf_auth_login(hub, env, checkpoint, tmp_path):
    token = env.pop('HF_TOKEN')
    (tmp_path / 'home').mkdir(exist_ok=True)
    (tmp_path / 'home' / 'token').write_text(token + '\n')  # where `hf auth login` keeps it
    assert 'by alice' in run_cli(env, 'push', checkpoint, 'alice/model')


def test_renamed_repository(hub, env, checkpoint):
    """It goes to the new name, in the card too, by an address as it is pasted."""
    hub.create('alice/old')
    hub.rename('alice/old', 'alice/new')
    shown = run_cli(env, 'push', checkpoint, f'{hub.url}/alice/old')
    assert 'renamed  alice/old is alice/new on the Hub' in shown and f'to       {hub.url}/alice/new, there' in shown
    assert "timm.create_model('hf-hub:alice/new'" in shown
    card = files_of(hub, 'alice/new')['README.md'].decode()
    assert 'hf-hub:alice/new' in card and 'alice/old' not in card
    assert not [line for line in hub.requests if line.startswith('POST') and 'alice/old' in line]
