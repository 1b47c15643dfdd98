"""timm-mobilenext convert, run as a user does: the authors' checkpoints and timm's own made Hub folders."""
import argparse
import json
import os
import re
import signal
import subprocess
import sys

import pytest
import torch
from authors import authors_checkpoint, is_golden, load_golden, OFFICIAL
from helpers import Evil, randomize, SHIPPED
from typer.testing import CliRunner

import timm
from timm.utils import ModelEmaV3

from timm_mobilenext.checkpoints import official
from timm_mobilenext.checkpoints.official import blob_id_of
from timm_mobilenext.cli.main import app
from timm_mobilenext.hub.convert import run_convert
from timm_mobilenext.hub.folders import load_hub_folder, save_hub_folder
from timm_mobilenext.hub.settings import ConvertSettings
from timm_mobilenext.shared import files

pytestmark = [pytest.mark.tools, pytest.mark.slow]

ENV = {**os.environ, 'HF_HUB_OFFLINE': '1', 'OMP_NUM_THREADS': '1'}


def convert(*arguments):
    result = CliRunner().invoke(app, ['convert', *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def load(folder, **kwargs):
    return timm.create_model(f'local-dir:{folder}', pretrained=True, **kwargs).eval()


def save(folder, checkpoint):
    torch.save(checkpoint, folder / 'checkpoint.pth.tar')
    return folder / 'checkpoint.pth.tar'


@pytest.mark.parametrize('name', OFFICIAL)
def test_official_file(name, tmp_path, monkeypatch, capsys):
    directory, golden_name, ema = OFFICIAL[name]
    file = tmp_path / 'model_best.pth.tar'
    file.write_bytes(authors_checkpoint(name))
    blob_id = blob_id_of(file.read_bytes())
    monkeypatch.setitem(official.BLOB_IDS, directory, blob_id)
    run_convert(ConvertSettings(file, tmp_path / 'out'))
    shown = capsys.readouterr().out
    assert f"git blob id {blob_id}, the authors' {directory}" in shown
    assert f'{name}, by digest; 1000 classes' in shown
    assert 'epoch 207, metric 74.022' in shown
    assert f'weights  {"EMA" if ema else "raw"}\n' in shown

    assert {path.name for path in (tmp_path / 'out').iterdir()} >= {'config.json', 'model.safetensors', 'README.md'}
    assert is_golden(load(tmp_path / 'out'), golden_name)
    config = json.loads((tmp_path / 'out' / 'config.json').read_text())
    assert config['architecture'] == name
    assert config['pretrained_cfg']['license'] == 'bsd-3-clause-clear'
    assert 'num_classes' not in config.get('model_args', {})  # transformers would pass it twice
    card = (tmp_path / 'out' / 'README.md').read_text()
    assert 'license: bsd-3-clause-clear' in card and blob_id in card and 'top-1 7' in card


@pytest.mark.parametrize('name', ['mobilenext_s', 'mobilenext_l_ghost'])
def test_unknown_file_is_identified(name, tmp_path):
    """The same networks, from files with an unknown digest."""
    file = tmp_path / 'model_best.pth.tar'
    file.write_bytes(authors_checkpoint(name))
    code, stdout, stderr = convert(file, '-o', tmp_path / 'out')
    assert code == 0, stderr
    assert 'no known file' in stdout and f'{name}, by keys and shapes; 1000' in stdout
    assert is_golden(load(tmp_path / 'out'), OFFICIAL[name][1])
    config = json.loads((tmp_path / 'out' / 'config.json').read_text())
    assert not {'license', 'tag', 'notes', 'origin_url'} & set(config['pretrained_cfg'])


def test_multipliers_leave_no_trace_so_the_model_is_asked_for(tmp_path):
    file = save(tmp_path, load_golden('mnext_w100_id2').state_dict)
    code, stdout, stderr = convert(file, '-o', tmp_path / 'out')
    assert code == 1 and not (tmp_path / 'out').exists()
    assert 'fits mobilenext_100, mobilenext_100_id017, mobilenext_100_id033, mobilenext_100_id050 alike' in stderr
    assert '--model' in stderr
    code, stdout, stderr = convert(file, '-o', tmp_path / 'out', '--model', 'mobilenext_100_id050')
    assert code == 0, stderr
    assert 'mobilenext_100_id050, as given' in stdout and 'trained  not recorded' in stdout
    assert is_golden(load(tmp_path / 'out'), 'mnext_w100_id2')


def test_plain_state_dict_for_detection(tmp_path, monkeypatch):
    file = save(tmp_path, load_golden('mnext_w100').state_dict)
    monkeypatch.setattr('timm_mobilenext.hub.convert._DETECTION', blob_id_of(file.read_bytes()))
    code, stdout, stderr = convert(file, '-o', tmp_path / 'out')
    assert code == 0, stderr
    assert "the authors' for detection" in stdout and 'mobilenext_100, by digest' in stdout
    assert is_golden(load(tmp_path / 'out'), 'mnext_w100')


@pytest.mark.parametrize('ema', [True, False])
def test_ema_or_raw(tmp_path, ema):
    golden = load_golden('efficient_b0')
    other = {key: value + 1 for key, value in golden.state_dict.items()}
    file = save(tmp_path, dict(
        state_dict=other if ema else golden.state_dict, state_dict_ema=golden.state_dict if ema else other))
    code, stdout, stderr = convert(file, '-o', tmp_path / 'out', '--ema' if ema else '--no-ema')
    assert code == 0, stderr
    assert f'weights  {"EMA" if ema else "raw"}' in stdout
    assert is_golden(load(tmp_path / 'out'), 'efficient_b0')


def test_half(tmp_path):
    file = save(tmp_path, load_golden('mnext_w035').state_dict)
    sizes = []
    for option in ([], ['--half']):
        code, stdout, stderr = convert(file, '-o', tmp_path / 'out', *option)
        assert code == 0, stderr
        sizes.append((tmp_path / 'out' / 'model.safetensors').stat().st_size)
    assert re.search(r'saved in 16 bits, which changes the logits by \d.* of \d', stdout) and sizes[1] < 0.51 * sizes[0]
    expected = timm.create_model('mobilenext_035')
    expected.load_state_dict(load_golden('mnext_w035').state_dict)
    expected = expected.half().float().state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in load(tmp_path / 'out').state_dict().items())


def test_training_checkpoint_of_timm(tmp_path):
    """With other classes, channels and size than a model's default, as timm's train.py saves it."""
    model = timm.create_model('mobilenext_050', num_classes=7, in_chans=1)
    ema = ModelEmaV3(model)
    for p in ema.module.parameters():
        torch.nn.init.normal_(p, std=0.05)
    args = argparse.Namespace(
        model='mobilenext_050', img_size=96, input_size=None, mean=(0.1,), std=(0.2,), interpolation='bilinear',
        crop_pct=0.9, model_kwargs={})
    file = save(tmp_path, dict(
        epoch=3, arch='mobilenext_050', state_dict=model.state_dict(), state_dict_ema=ema.module.state_dict(),
        optimizer={}, version=2, args=args, metric=12.5))
    code, stdout, stderr = convert(file, '-o', tmp_path / 'out')
    assert code == 0, stderr
    assert 'mobilenext_050, by its arch; 7 classes' in stdout and 'epoch 3, metric 12.5' in stdout
    loaded = load(tmp_path / 'out')
    x = torch.randn(2, 1, 96, 96)
    torch.testing.assert_close(loaded(x), ema.module.eval()(x))
    cfg = loaded.pretrained_cfg
    assert tuple(cfg['input_size']) == (1, 96, 96) and cfg['crop_pct'] == 0.9 and cfg['interpolation'] == 'bilinear'
    assert tuple(cfg['mean']) == (0.1,) and tuple(cfg['std']) == (0.2,)


@pytest.mark.parametrize('arch', ['mobilenext_100_id050', 'mobilenext_100_id050.official_in1k'])
@pytest.mark.parametrize('arguments', [
    dict(gp='max'), dict(bn_eps=1e-2), dict(model_kwargs=dict(dw_position='before', act_layer='silu')),
    dict(model_kwargs=dict(arch_def=[['sg_r1_k3_s2_e2_c32'], ['ir_r2_k3_s2_e4_c48']])),
], ids=str)
def test_training_of_a_changed_network(tmp_path, arguments, arch):
    """What train.py hands to create_model decides on the outputs, whatever the state dict shows of it."""
    kwargs = {dict(gp='global_pool').get(k, k): v for k, v in arguments.items() if k != 'model_kwargs'}
    model = randomize(timm.create_model(
        'mobilenext_100_id050', num_classes=4, in_chans=4, **kwargs, **arguments.get('model_kwargs', {}))).eval()
    args = argparse.Namespace(**dict(dict(model=arch, gp=None, img_size=None, model_kwargs={}), **arguments))
    file = save(tmp_path, dict(arch=arch, state_dict=model.state_dict(), args=args))
    code, stdout, stderr = convert(file, '-o', tmp_path / 'out')
    assert code == 0, stderr
    x = torch.randn(2, 4, 64, 64)
    loaded = load(tmp_path / 'out')
    torch.testing.assert_close(loaded(x), model(x))
    assert loaded.pretrained_cfg['input_size'][0] == len(loaded.pretrained_cfg['mean']) == 4


@pytest.mark.parametrize('told', ['arguments', 'option'])
def test_training_from_shipped_weights_keeps_their_image_size_and_none_of_their_names(tmp_path, told):
    state_dict = timm.create_model(SHIPPED, num_classes=10).state_dict()
    args = argparse.Namespace(model=SHIPPED, img_size=None, crop_pct=None) if told == 'arguments' else None
    file = save(tmp_path, dict(state_dict=state_dict, **(dict(arch=SHIPPED, args=args) if args else {})))
    code, _, stderr = convert(file, '-o', tmp_path / 'out', *(['--model', SHIPPED] if told == 'option' else []))
    assert code == 0, stderr
    config = json.loads((tmp_path / 'out' / 'config.json').read_text())
    assert config['architecture'] == 'mobilenext_050' and config['num_classes'] == 10
    assert config['pretrained_cfg']['input_size'] == [3, 64, 64] and config['pretrained_cfg']['crop_pct'] == 1.0
    assert 'airplane' not in json.dumps(config) and SHIPPED not in json.dumps(config)


def test_arguments_of_a_stranger(tmp_path):
    """They say what the network is. They do not make anything be fetched or read."""
    evil = dict(
        pretrained=True, checkpoint_path=str(tmp_path / 'evil.pth'), cache_dir=str(tmp_path / 'evil'),
        pretrained_cfg_overlay=dict(url='http://127.0.0.1:9/model_best.pth.tar'))
    state_dict = timm.create_model('mobilenext_050').state_dict()
    file = save(tmp_path, dict(
        arch='mobilenext_050', state_dict=state_dict, args=argparse.Namespace(model_kwargs=evil)))
    code, stdout, stderr = convert(file, '-o', tmp_path / 'out')
    assert code == 0, stderr
    assert {path.name for path in tmp_path.iterdir()} == {'checkpoint.pth.tar', 'out'}


def test_safetensors(tmp_path):
    assert convert(save(tmp_path, load_golden('mnext_w035').state_dict), '-o', tmp_path / 'first')[0] == 0
    code, stdout, stderr = convert(tmp_path / 'first' / 'model.safetensors', '-o', tmp_path / 'second')
    assert code == 0, stderr
    assert is_golden(load(tmp_path / 'second'), 'mnext_w035')


def test_names_that_are_not_utf8(tmp_path):
    """Of the file, and of classes, as folders have them."""
    name = os.fsdecode(b'caf\xe9')
    model = timm.create_model('mobilenext_035', num_classes=2)
    file = save(tmp_path, model.state_dict()).rename(tmp_path / f'{name}.pth')
    run_convert(ConvertSettings(file, tmp_path / 'out'))
    assert r'`caf\udce9.pth`' in (tmp_path / 'out' / 'README.md').read_text()
    card = f'A card of {name}'
    save_hub_folder(tmp_path / 'classes', load_hub_folder(tmp_path / 'out'), card, label_names=[name, 'tea'])
    assert load(tmp_path / 'classes').pretrained_cfg['label_names'] == [name, 'tea']
    assert (tmp_path / 'classes' / 'README.md').read_text() == r'A card of caf\udce9'


def test_layers_that_share_memory(tmp_path):
    model = timm.create_model('coat_tiny', num_classes=7).eval()
    file = save(tmp_path, dict(arch='coat_tiny', state_dict=model.state_dict()))
    code, stdout, stderr = convert(file, '-o', tmp_path / 'out')
    assert code == 0, stderr
    loaded = load(tmp_path / 'out').state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in model.state_dict().items())
    folder = load_hub_folder(tmp_path / 'out')  # as `push` and `pull` read it
    assert folder.num_classes == 7


def test_link_as_output(tmp_path):
    """What the link leads to is replaced, and the link stays."""
    (tmp_path / 'real').mkdir()
    (tmp_path / 'link').symlink_to('real')
    for _ in range(2):
        code, stdout, stderr = convert(save(tmp_path, load_golden('mnext_w035').state_dict), '-o', tmp_path / 'link')
        assert code == 0, stderr
    assert (tmp_path / 'link').is_symlink() and is_golden(load(tmp_path / 'real'), 'mnext_w035')
    assert {path.name for path in tmp_path.iterdir()} == {'real', 'link', 'checkpoint.pth.tar'}


def test_current_folder_as_output(tmp_path, monkeypatch):
    file = save(tmp_path, load_golden('mnext_w035').state_dict)
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    code, stdout, stderr = convert(file, '-o', '.')
    assert code == 1 and 'is the current folder' in stderr and len(stderr.splitlines()) == 1


def test_backbone_without_classifier(tmp_path):
    weights = {k: v for k, v in load_golden('mnext_w035').state_dict.items() if k.startswith('features.')}
    code, stdout, stderr = convert(save(tmp_path, weights), '-o', tmp_path / 'out')
    assert code == 0, stderr
    assert '0 classes' in stdout and load(tmp_path / 'out')(torch.randn(1, 3, 64, 64)).shape == (1, 1280)


def test_adapts_as_timms_own(tmp_path):
    file = save(tmp_path, load_golden('mnext_w035').state_dict)
    assert convert(file, '-o', tmp_path / 'out')[0] == 0
    assert load(tmp_path / 'out', num_classes=3, in_chans=1)(torch.randn(1, 1, 64, 64)).shape == (1, 3)
    assert len(load(tmp_path / 'out', features_only=True)(torch.randn(1, 3, 64, 64))) == 5
    weights = dict(file=str(tmp_path / 'out' / 'model.safetensors'))
    model = timm.create_model('mobilenext_035', pretrained=True, pretrained_cfg_overlay=weights, num_classes=3)
    assert torch.equal(model.conv_stem.weight, load_golden('mnext_w035').state_dict['features.0.0.weight'])


# bad input

def evil(folder):
    return save(folder, dict(state_dict={}, args=Evil(folder / 'executed')))


def truncated(folder):
    file = save(folder, load_golden('mnext_w035').state_dict)
    file.write_bytes(file.read_bytes()[:-5000])
    return file


def text(folder):
    (folder / 'notes.txt').write_text('three years of work')
    return folder / 'notes.txt'


def damaged(folder):
    weights = {key: value.clone() for key, value in load_golden('mnext_w035').state_dict.items()}
    weights['classifier.1.weight'][0, 0] = float('nan')
    return save(folder, weights)


def overflow(folder):
    weights = {key: value.clone() for key, value in load_golden('mnext_w035').state_dict.items()}
    weights['features.0.1.running_var'][0] = 1e5
    return save(folder, weights)


def impossible(folder, **args):
    state_dict = timm.create_model('mobilenext_050').state_dict()
    return save(folder, dict(arch='mobilenext_050', state_dict=state_dict, args=argparse.Namespace(**args)))


def segmentation(folder):
    """As segmentation_models.pytorch names its parts."""
    encoder = timm.create_model('mobilenext_050', features_only=True).state_dict()
    return save(folder, {
        **{f'encoder.model.{key}': value for key, value in encoder.items()}, 'decoder.conv.weight': torch.zeros(2)})


@pytest.mark.parametrize('make, options, words', [
    (evil, [], ['is refused', 'system', 'nothing is executed']),
    (truncated, [], ['cannot be read']),
    (text, [], ['notes.txt', 'checkpoint']),
    (damaged, [], ['damaged', 'classifier.1.weight']),
    (lambda folder: save(folder, {'weight': torch.zeros(2)}), [], ['fits no MobileNeXt model', '--model']),
    (lambda folder: save(folder, timm.create_model('resnet18').state_dict()), [], ['fits no MobileNeXt model']),
    (segmentation, [],
     ['larger network', 'its part encoder.model is a mobilenext_050.', 'save encoder.model.state_dict()']),
    (lambda folder: save(folder, load_golden('mnext_w035').state_dict), ['--model', 'mobilenext_050'],
     ['of another network', 'of another shape']),
    (lambda folder: save(folder, load_golden('mnext_w035').state_dict), ['--model', 'resnet18'],
     ['another network than this ResNet']),
    (lambda folder: save(folder, load_golden('mnext_w035').state_dict), ['--model', 'mobilenext_35'],
     ['did you mean mobilenext_035']),
    (lambda folder: save(folder, load_golden('mnext_w035').state_dict), ['--ema'], ['no EMA weights']),
    (overflow, ['--half'], ['infinite', 'bn1.running_var']),
    (lambda folder: impossible(folder, model_kwargs=dict(foo=1)), [], ["with {'foo': 1}, which does not work"]),
    (lambda folder: impossible(folder, mean=(0.1, 0.2)), [], ["with {'mean': (0.1, 0.2)}, which does not work"]),
    (lambda folder: impossible(folder, input_size=[3, None, 64]), [], ['input_size', 'which does not work']),
    (lambda folder: save(folder, {'state_dict_ema': torch.ones(2)}), [], ['fits no MobileNeXt model']),
    (lambda folder: save(folder, {'state_dict': {3: torch.zeros(2)}}), [], ['not plain tensors: 3']),
], ids=[
    'evil', 'truncated', 'text', 'NaN', 'other', 'resnet', 'segmentation', '--model', 'not ours', 'near miss',
    'no EMA', 'overflow', 'foo', 'mean', 'size', 'no dict', 'keys',
])
def test_bad_checkpoint_is_reported_in_one_line(make, options, words, tmp_path):
    code, stdout, stderr = convert(make(tmp_path), '-o', tmp_path / 'out', *options)
    assert code == 1 and stdout == ''
    assert len(stderr.splitlines()) == 1 and stderr.startswith('Error: '), stderr
    assert all(word in stderr for word in words), stderr
    assert not (tmp_path / 'out').exists() and not (tmp_path / 'executed').exists()


@pytest.mark.parametrize('args, wrong', [
    (dict(gp='', bn_eps=1e-5), dict(global_pool='')),
    (dict(gp='catavgmax'), dict(global_pool='catavgmax')),
    (dict(bn_eps=-1, bn_momentum=0.1), dict(bn_eps=-1)),
    (dict(bn_momentum='0.1'), dict(bn_momentum='0.1')),
    (dict(model_kwargs=dict(drop_rate=2, act_layer='relu6')), dict(drop_rate=2)),
    (dict(model_kwargs=dict(drop_rate='0.1'), img_size=64), dict(drop_rate='0.1')),
    (dict(model_kwargs=dict(drop_rate=2), gp='', img_size=64), dict(drop_rate=2, global_pool='', img_size=64)),
    (dict(model_kwargs=dict(drop_path_rate={0.1})), dict(drop_path_rate={0.1})),
])
def test_arguments_of_a_network_that_does_not_work_are_named(args, wrong, tmp_path):
    """Those of a training that cannot have been: torch fails when such a network is created, or on its first images."""
    code, stdout, stderr = convert(impossible(tmp_path, **args), '-o', tmp_path / 'out')
    assert code == 1 and stdout == '' and not (tmp_path / 'out').exists()
    assert len(stderr.splitlines()) == 1
    assert stderr.startswith(f'Error: The checkpoint asks for a mobilenext_050 with {wrong}, which does not work (')
    assert 'save its state dict alone' in stderr
    alone = tmp_path / 'alone'
    alone.mkdir()
    weights = save(alone, timm.create_model('mobilenext_050').state_dict())
    assert convert(weights, '-o', tmp_path / 'out', '--model', 'mobilenext_050')[0] == 0


def test_bug_is_not_taken_for_a_fault_of_the_arguments(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise KeyError('a bug')

    monkeypatch.setattr('timm_mobilenext.hub.convert.load_into', fail)
    code, _, stderr = convert(impossible(tmp_path, bn_eps=1e-5, img_size=64), '-o', tmp_path / 'out')
    assert code == 70 and 'a bug' in stderr


def test_folder_that_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'thesis.txt').write_text('three years of work')
    code, _, stderr = convert(save(tmp_path, load_golden('mnext_w035').state_dict), '-o', tmp_path / 'out')
    assert code == 1 and 'thesis.txt' in stderr
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['thesis.txt']


def test_checkpoint_in_the_output_is_left_alone(tmp_path):
    folder = tmp_path / 'out'
    folder.mkdir()
    file = save(tmp_path, load_golden('mnext_w035').state_dict).rename(folder / 'pytorch_model.bin')
    (tmp_path / 'link').symlink_to(folder)
    for output in (folder, tmp_path / 'link'):
        code, _, stderr = convert(file, '-o', output, '--half')
        assert code == 1 and f'pytorch_model.bin is in {output}, which would be replaced' in stderr
    assert [path.name for path in folder.iterdir()] == ['pytorch_model.bin']


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_killed_at_any_moment_leaves_the_old_or_the_new(tmp_path):
    """Killed before each thing that it changes on the disk, as the interpreter's audit events tell them."""
    output = tmp_path / 'out'
    first = load_golden('mnext_w035').state_dict
    run_convert(ConvertSettings(save(tmp_path, first), output))
    old = contents(output)
    second = {k: v * 0.9 if v.is_floating_point() else v for k, v in first.items()}
    file = save(tmp_path, second)
    run_convert(ConvertSettings(file, tmp_path / 'new'))
    new = contents(tmp_path / 'new')
    assert old['model.safetensors'] != new['model.safetensors']
    left = []
    with subprocess.Popen(
            [sys.executable, '-c', KILL_AT, str(file), str(output)], env=ENV, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for line in process.stdout:
            status = int(line)
            if status == 0:
                break
            assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
            left.append(contents(output))
            assert left[-1] in (old, new)
            process.stdin.write('next\n')
            process.stdin.flush()
    assert process.returncode == 0
    assert len(left) >= 10 and left[0] == old and contents(output) == new
    assert {path.name for path in tmp_path.iterdir()} == {'out', 'new', 'checkpoint.pth.tar'}


@pytest.mark.parametrize('killed', ['before the renames', 'between them'])
def test_interrupted_where_folders_cannot_be_exchanged(tmp_path, monkeypatch, killed):
    """The folder is gone between two renames then, and the next run puts it back."""
    monkeypatch.setattr(files, '_exchange', lambda a, b: False)
    folder = tmp_path / 'out'
    folder.mkdir()
    (folder / 'old').touch()
    (tmp_path / '.out.new').mkdir()
    if killed == 'between them':
        folder.rename(tmp_path / '.out.old')
    files.tidy(folder)
    assert [path.name for path in tmp_path.rglob('*')] == ['out', 'old']
    with files.replacing(folder) as new:
        new.mkdir()
        (new / 'new').touch()
    assert [path.name for path in tmp_path.rglob('*')] == ['out', 'new']


# forks a process that kills itself before the n-th thing that it would change on the disk, for n = 0, 1, ... until
# there is nothing left to change
KILL_AT = """
import itertools, os, signal, sys
from pathlib import Path
from timm_mobilenext.hub.convert import run_convert
from timm_mobilenext.hub.settings import ConvertSettings

settings = ConvertSettings(*map(Path, sys.argv[1:]))
count = 0

def watch(event, args):
    global count
    paths = [str(a) for a in args if isinstance(a, (str, os.PathLike))]
    writes = event == 'open' and isinstance(args[1], str) and args[1][:1] in ('w', 'a')
    changes = writes or event in ('os.rename', 'os.mkdir', 'os.remove', 'os.rmdir')
    exchanges = event == 'ctypes.dlsym' and args[1] == 'renameat2'
    if exchanges or changes and any('.out.' in path or path.endswith('out') for path in paths):
        if count == n:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

def convert():
    sys.stdout = sys.stderr
    sys.addaudithook(watch)
    run_convert(settings)

for n in itertools.count():
    child = os.fork()
    if child == 0:
        try:
            convert()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    print(status, flush=True)
    if status == 0:
        break
    sys.stdin.readline()
"""


def test_names_of_classes(tmp_path):
    file = save(tmp_path, timm.create_model('mobilenext_035', num_classes=3).state_dict())
    (tmp_path / 'names.txt').write_text('cat\ndog\nhorse\n')
    code, _, error = convert(file, '-o', tmp_path / 'out', '--label-names', tmp_path / 'names.txt')
    assert code == 0, error
    assert load(tmp_path / 'out').pretrained_cfg['label_names'] == ['cat', 'dog', 'horse']
    assert 'cat, dog, horse' in (tmp_path / 'out' / 'README.md').read_text()
    (tmp_path / 'names.txt').write_text('cat\ndog\n')
    code, _, error = convert(file, '-o', tmp_path / 'other', '--label-names', tmp_path / 'names.txt')
    assert code == 1 and 'There are 2 class names for 3 classes' in error and not (tmp_path / 'other').exists()
