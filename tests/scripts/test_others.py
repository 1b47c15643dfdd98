"""timm's other scripts, on what train.py left."""
import csv
import json

import onnx
import pytest
import torch
from runs import epochs_of, load, run, TIMM_REPO

import timm

pytestmark = [pytest.mark.tools, pytest.mark.slow]

DATA = ['--img-size', 48, '--crop-pct', 1.0, '--workers', 1, '--device', 'cpu']
MODEL = ['--model', 'mobilenext_035', '--num-classes', 10]


def result_of(printed):
    return json.loads(printed.split('--result')[1])


def validate(digits, *arguments):
    return result_of(run('validate.py', '--data-dir', digits, *MODEL, *DATA, *arguments))['top1']


@pytest.fixture(scope='module')
def raw(trained, digits):
    """Top-1 of the last epoch's raw weights."""
    return validate(digits, '--checkpoint', trained / 'last.pth.tar')


def test_validate_measures_what_training_logged(trained, digits, raw):
    measured = validate(digits, '--checkpoint', trained / 'last.pth.tar', '--use-ema')
    assert measured == pytest.approx(epochs_of(trained)[-1]['eval_top1'], abs=1e-3)
    assert raw > 60
    state_dicts = load(trained / 'last.pth.tar')
    assert not torch.equal(state_dicts['state_dict']['bn1.bias'], state_dicts['state_dict_ema']['bn1.bias'])


def test_validate_reparameterized_measures_the_same(trained, digits, raw):
    printed = run(
        'validate.py', '--data-dir', digits, *MODEL, *DATA, '--checkpoint', trained / 'last.pth.tar', '--reparam')
    assert result_of(printed)['top1'] == pytest.approx(raw, abs=0.28)  # an image of 364, by rounding
    folded = sum(p.numel() for p in timm.utils.reparameterize_model(
        timm.create_model('mobilenext_035', num_classes=10)).parameters())
    assert f'param count: {folded}' in printed


def test_inference_names_as_many_images_right_as_validate(trained, digits, raw, tmp_path):
    run('inference.py', '--data-dir', digits, *MODEL, *DATA, '--checkpoint', trained / 'last.pth.tar',
        '--label-type', 'none', '--include-index', '--fullname', '--results-dir', tmp_path,
        '--results-file', 'out', '--no-console-results')
    with open(tmp_path / 'out.csv', newline='') as lines:
        rows = list(csv.DictReader(lines))
    ema = load(trained / 'last.pth.tar')['metric']  # weights of a checkpoint are the averaged ones, where there are any
    right = [row['filename'].split('/')[-2] == row['index'] for row in rows]
    assert len(rows) == 364 and 100 * sum(right) / 364 == pytest.approx(ema, abs=1e-3)


def test_benchmark_counts_parameters_and_images_a_second():
    printed = run('benchmark.py', '--model', 'mobilenext_035', '--bench', 'inference', '--device', 'cpu',
                  '--img-size', 64, '--batch-size', 4, '--num-warm-iter', 1, '--num-bench-iter', 5)
    result = result_of(printed)
    assert result['param_count'] == 1.91 and result['infer_samples_per_sec'] > 0


def test_onnx_export_validates_to_the_same_top1(trained, digits, tmp_path):
    file = tmp_path / 'model.onnx'
    run('onnx_export.py', file, *MODEL, '--img-size', 48, '--batch-size', 4, '--dynamic-size',
        '--checkpoint', trained / 'last.pth.tar')
    onnx.checker.check_model(str(file))
    printed = run('onnx_validate.py', digits / 'validation', '--onnx-input', file, '--img-size', 48,
                  '--crop-pct', 1.0, '--batch-size', 4, '--workers', 1)
    top1 = float(printed.split(' * Prec@1 ')[1].split()[0])
    assert top1 == pytest.approx(load(trained / 'last.pth.tar')['metric'], abs=0.3)


def test_avg_checkpoints_averages(trained, digits, tmp_path):
    run('avg_checkpoints.py', '--input', trained, '--filter', 'checkpoint-*.pth.tar', '--no-sort', '-n', 10,
        '--no-use-ema', '--output', tmp_path / 'average.pth')
    average = torch.load(tmp_path / 'average.pth', weights_only=True)
    files = sorted(trained.glob('checkpoint-*.pth.tar'))
    weights = [load(file)['state_dict']['classifier.weight'] for file in files]
    assert len(files) == 10
    assert torch.allclose(average['classifier.weight'], torch.stack(weights).mean(0), atol=1e-5)
    timm.create_model('mobilenext_035', num_classes=10, checkpoint_path=str(tmp_path / 'average.pth'))


@pytest.mark.parametrize('ema', [True, False])
def test_clean_checkpoint_keeps_the_weights_alone(trained, tmp_path, ema):
    run('clean_checkpoint.py', '--checkpoint', trained / 'last.pth.tar', '--output', tmp_path / 'clean.pth',
        *([] if ema else ['--no-use-ema']))
    file, = tmp_path.glob('clean*.pth')
    assert file.stem != 'clean'  # it holds the start of its digest
    cleaned, checkpoint = torch.load(file, weights_only=True), load(trained / 'last.pth.tar')
    expected = checkpoint['state_dict_ema' if ema else 'state_dict']
    assert cleaned.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in cleaned.items())
    timm.create_model('mobilenext_035', num_classes=10, checkpoint_path=str(file))


def test_bulk_runner_runs_a_script_for_each_of_our_models(tmp_path):
    run('bulk_runner.py', '--model-list', 'mobilenext_100_id*', '--results-file', tmp_path / 'all.csv',
        TIMM_REPO / 'benchmark.py', '--bench', 'inference', '--device', 'cpu', '--img-size', 64, '--batch-size', 2,
        '--num-warm-iter', 1, '--num-bench-iter', 5)
    with open(tmp_path / 'all.csv', newline='') as lines:
        rows = {row['model']: row['param_count'] for row in csv.DictReader(lines)}
    assert rows == dict.fromkeys(timm.list_models('mobilenext_100_id*'), '3.54')
