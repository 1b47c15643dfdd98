"""Fine-tuning starts from the headline's trainings, and the report says what the rows say."""
import json
import math
import shlex
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import timm

from experiments.runs import write_rows

transfer = pytest.importorskip('experiments.transfer', reason='needs scipy and matplotlib, of the extra demo')
stats = pytest.importorskip('scipy.stats')
pytestmark = pytest.mark.tools
OURS, THEIRS = transfer.MODELS
COSTS = dict(params=2_000_000, macs=900_000_000, activations=15_000_000)


def row(run, score, **more):
    """What a run leaves, as strings."""
    given = dict(
        name=run.name, stage=run.stage, model=run.model, lr=run.lr, seed=run.seed, score=score, loss=1.5, **more,
        minutes=2.4, machine='a machine', torch='2', timm='1', arguments=shlex.join(run.arguments))
    return {key: str(value) for key, value in given.items()}


def make_rows(task, score, number=None, **more):
    """Rows of all pilots, which peak in the middle of the rates, and of the first finals."""
    rates = transfer.TASKS[task].rates
    middle = math.log(rates[1] * rates[2]) / 2
    rows = [
        row(run, 50 - (math.log(run.lr) - middle) ** 2, **more)
        for model in transfer.MODELS for run in transfer.pilots(task, model)]
    finals = [run for run in transfer.plan(task, rows) if run.stage == 'final']
    return rows + [row(run, score(run), **more) for run in finals[:number]]


def score(run):
    return 90 + (run.model == OURS) + run.seed % 3 / 2


def test_finals_have_the_rate_of_the_pilots_and_take_turns():
    rows = make_rows('signs', score)
    plan = transfer.plan('signs', rows)
    runs = [run for run in plan if run.stage == 'final']
    turns = [(model, seed) for seed in range(1, 9) for model in (OURS, THEIRS)]
    assert [(run.model, run.seed) for run in runs] == turns
    assert {run.lr for run in runs} == {0.055}  # of 0.03 and 0.1
    assert {run.stage for run in transfer.plan('signs', rows[:7])} == {'pilot'}
    splits = {(run.stage, run.arguments[run.arguments.index('--val-split') + 1]) for run in plan}
    assert splits == {('pilot', 'tune'), ('final', 'validation')}


def test_report(tmp_path, call):
    rows = make_rows('signs', score)
    write_rows(tmp_path / 'signs.csv', rows)
    text = call(transfer, 'report', '--results', tmp_path)
    assert text == (tmp_path / 'README.md').read_text() + '\n'
    ours, theirs = (
        [float(final['score']) for final in rows if (final['stage'], final['model']) == ('final', model)]
        for model in transfer.MODELS)
    low, high = stats.ttest_ind(ours, theirs).confidence_interval(0.95)
    assert f'+1.00 points of top-1, 95 % interval {low:+.2f} to {high:+.2f}. **`{OURS}` is better**' in text
    assert f'| `{OURS}` | 8 of 8 | 91.56 ± 0.42 | 1.500 | 2 |' in text
    assert '## Scenes' not in text


def test_no_verdict_before_the_last_run(tmp_path, call):
    write_rows(tmp_path / 'signs.csv', make_rows('signs', score, number=15))
    text = call(transfer, 'report', '--results', tmp_path)
    assert 'Not decided: 15 of 16 runs have ended.' in text and 'better' not in text


def test_report_of_scenes_has_each_class(tmp_path, call):
    write_rows(tmp_path / 'scenes.csv', make_rows('scenes', score, **COSTS, sky=90, sign_symbol=12.5))
    text = call(transfer, 'report', '--results', tmp_path)
    assert f'| DeepLabV3+ on `{OURS}` | 2,000,000 | 900.0M | 15.0M |' in text
    assert '| sign symbol | 12.5 | 12.5 | +0.0 |' in text
    assert 'scenes.png' not in text


def test_report_names_the_machine_of_each_task(tmp_path, call):
    write_rows(tmp_path / 'signs.csv', make_rows('signs', score))
    write_rows(tmp_path / 'scenes.csv', [{**row, 'machine': 'another'} for row in make_rows('scenes', score, **COSTS)])
    signs, scenes = call(transfer, 'report', '--results', tmp_path).split('## Scenes')
    machine = 'Machine of the fine-tunings:'
    assert f'{machine} a machine, torch 2, timm 1.' in signs and f'{machine} another, torch 2, timm 1.' in scenes


@pytest.mark.parametrize('lr, taken', [
    (0.0005, '0.0005, the lowest tried'), (0.002, '0.002'), (0.004, '0.004, the highest tried')])
def test_report_says_whether_the_best_rate_is_an_edge(tmp_path, call, lr, taken):
    pilots = [run for model in transfer.MODELS for run in transfer.pilots('scenes', model)]
    write_rows(tmp_path / 'scenes.csv', [row(run, 50 - math.log(run.lr / lr) ** 2, **COSTS) for run in pilots])
    assert call(transfer, 'report', '--results', tmp_path).count(f' | {taken} |\n') == 2


def test_report_shows_what_was_trained_again(tmp_path, call):
    write_rows(tmp_path / 'scenes.csv', make_rows('scenes', score, **COSTS))
    first = next(row for row in transfer.read_rows(transfer.HEADLINE) if row['name'].startswith(f'final-{OURS}'))
    write_rows(tmp_path / 'pretrained' / 'runs.csv', [{**first, 'top1': '12.34'}])
    text = call(transfer, 'report', '--results', tmp_path)
    assert f'| `{OURS}` | {first["seed"]} | 12.34 | {float(first["top1"]):.2f} |' in text


def make_photographs(folder, split, names):
    for name in names:
        file = folder / split / '3' / f'{name}.jpg'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8)).save(file)


def test_last_photographs_choose_the_rate(tmp_path):
    make_photographs(tmp_path, 'train', [f'IMG_{number}' for number in (1007, 998, 1001, 999, 1003)])
    make_photographs(tmp_path, 'validation', ['IMG_2000'])
    transfer.split_signs(tmp_path, tmp_path / 'signs')
    found = {split: sorted(file.stem for file in (tmp_path / 'signs' / split / '3').iterdir())
             for split in ('train', 'tune', 'validation')}
    assert found == dict(
        train=['IMG_1001', 'IMG_1003', 'IMG_998', 'IMG_999'], tune=['IMG_1007'], validation=['IMG_2000'])
    assert Image.open(tmp_path / 'signs' / 'tune' / '3' / 'IMG_1007.jpg').size == (8, 8)


@pytest.mark.skipif(sys.version_info < (3, 11), reason='train.py runs by `python -P`, which Python 3.11 brought')
def test_signs_start_from_the_last_weights_of_the_training(tmp_path, call):
    """train.py is a stand-in that says what it was given."""
    script = tmp_path / 'timm' / 'train.py'
    script.parent.mkdir()
    script.write_text('''
import pathlib, shutil, sys
initial, output = (sys.argv[sys.argv.index(option) + 1] for option in ('--initial-checkpoint', '--output'))
shutil.copy(initial, pathlib.Path(output).parent / 'given.pth')
print('Train: 9 [ 1/1 ]')
print('Test: [   0/0]  Time: 1.0  Loss:  0.2 ( 0.2500)  Acc@1: 90.0 ( 91.2500)  Acc@5: 99.0 ( 99.0000)')
''')
    make_photographs(tmp_path / 'data', 'train', ['IMG_1'])
    make_photographs(tmp_path / 'data', 'validation', ['IMG_2'])
    network = timm.create_model(OURS, num_classes=100)
    file = tmp_path / 'pretrained' / f'final-{OURS}-authors-lr0.23-seed2' / 'train' / 'last.pth.tar'
    file.parent.mkdir(parents=True)
    averaged = {key: value + 1 for key, value in network.state_dict().items()}
    weights = dict(state_dict=network.state_dict(), state_dict_ema=averaged)
    torch.save(dict(weights, epoch=14, args=Namespace(epochs=16)), file)
    arguments = [
        'run', 'signs', '--timm', script.parent, '--data-dir', tmp_path / 'data', '--pretrained',
        tmp_path / 'pretrained', '--output', tmp_path / 'output', '--results', tmp_path / 'results']
    assert '8 runs wait for their training.' in call(transfer, *arguments)  # it has not ended
    torch.save(dict(weights, epoch=15, args=Namespace(epochs=16)), file)
    assert '4 runs wait for their training.' in call(transfer, *arguments)  # the pilots of the other network
    rows = (tmp_path / 'results' / 'signs.csv').read_text().splitlines()
    assert len(rows) == 5 and all(',91.25,0.25,' in line for line in rows[1:])
    given = torch.load(next((tmp_path / 'output' / 'signs').glob('*/given.pth')), weights_only=True)
    assert torch.equal(given['conv_stem.weight'], network.conv_stem.weight)
    assert given['classifier.weight'].shape[0] == 10


def test_scenes_are_drawn_beside_the_truth(tmp_path, call):
    names = [f'scene{number}' for number in range(58)]
    (tmp_path / 'data' / 'masks' / 'test').mkdir(parents=True)
    (tmp_path / 'data' / 'classes.txt').write_text('\n'.join('abcdefghijk'))
    for name in names[::29]:
        Image.new('L', (4, 3), 2).save(tmp_path / 'data' / 'masks' / 'test' / f'{name}.png')
    write_rows(tmp_path / 'scenes.csv', make_rows('scenes', score, a=1))
    for model in transfer.MODELS:
        rate = transfer.choose_rate('scenes', model, transfer.read_rows(tmp_path / 'scenes.csv'))
        folder = tmp_path / 'output' / 'scenes' / transfer.Run('scenes', 'final', model, rate, 1).name
        folder.mkdir(parents=True)
        np.savez(folder / 'masks.npz', names=names, masks=np.full((58, 3, 4), 2, np.uint8))
    call(transfer, 'draw', '--data-dir', tmp_path / 'data', '--output', tmp_path / 'output', '--results', tmp_path)
    with Image.open(tmp_path / 'scenes.png') as picture:
        assert picture.size == (880, 540)


def make_camvid(folder: Path) -> None:
    """Scenes of two classes: the left half is dark, and a column is of no class."""
    (folder / 'classes.txt').parent.mkdir(parents=True)
    (folder / 'classes.txt').write_text('dark\nlight\n')
    mask = np.zeros((240, 320), np.uint8)
    mask[:, 160:] = 1
    mask[:, 159] = 11
    image = np.stack([20 + 200 * (mask == 1)] * 3, -1).astype(np.uint8)
    for split, number in dict(train=2, val=1).items():
        for kind, array, end in (('images', image, 'jpg'), ('masks', mask, 'png')):
            (folder / kind / split).mkdir(parents=True)
            for index in range(number):
                Image.fromarray(array).save(folder / kind / split / f'{index}.{end}')


@pytest.mark.slow
def test_segmentation_learns_and_is_measured(tmp_path, call):
    pytest.importorskip('segmentation_models_pytorch', reason='needs segmentation-models-pytorch and torchmetrics')
    segmentation = pytest.importorskip('experiments.segmentation', reason='needs torchmetrics')
    make_camvid(tmp_path / 'data')
    torch.save(timm.create_model('mobilenext_035', num_classes=7).state_dict(), tmp_path / 'weights.pth')
    arguments = [
        '--model', 'mobilenext_035', '--checkpoint', tmp_path / 'weights.pth', '--data-dir', tmp_path / 'data', '--lr',
        '0.01', '--epochs', '6', '--batch-size', '2', '--output', tmp_path / 'output']
    text = call(segmentation, *arguments)
    metrics = json.loads((tmp_path / 'output' / 'metrics.json').read_text())
    found = np.load(tmp_path / 'output' / 'masks.npz')
    assert f'mean IoU {metrics["miou"]:.2f} %' in text and list(metrics['iou']) == ['dark', 'light']
    truth = np.arange(320) > 159
    said = found['masks'][0]
    by_hand = [
        ((said == number) & (truth == number))[:, np.arange(320) != 159].sum()
        / ((said == number) | (truth == number))[:, np.arange(320) != 159].sum() for number in (0, 1)]
    assert list(metrics['iou'].values()) == pytest.approx([100 * value for value in by_hand], abs=1e-3)
    with pytest.raises(SystemExit, match='is not a checkpoint of this encoder, whose '):
        call(segmentation, *['mobilenetv2_050' if argument == 'mobilenext_035' else argument for argument in arguments])
