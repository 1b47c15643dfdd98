"""What pages say of time and size is what the rows of benchmarks/ say."""
import csv
import re
import statistics
from decimal import Decimal, ROUND_HALF_UP
from pathlib import Path
from typing import Dict, List, Tuple

import pytest
import torch
from torch import nn

import timm

pytestmark = pytest.mark.tools

ROOT = Path(__file__).parents[1]
BENCHMARKS, DEPLOYMENT = ((ROOT / page).read_text(encoding='utf-8') for page in (
    'benchmarks/README.md', 'docs/deployment.md'))
MODELS = 'mobilenetv2_100', 'mobilenext_100', 'mobilenext_100_id050', 'mobilenext_s', 'mobilenext_050.cifar10'


def read(name: str) -> List[Dict[str, str]]:
    with (ROOT / 'benchmarks' / f'{name}.csv').open(encoding='utf-8') as f:
        return list(csv.DictReader(f))


def read_page(path: str) -> str:
    """A page in one line."""
    return ' '.join((ROOT / path).read_text(encoding='utf-8').split())


def section(page: str, heading: str) -> List[str]:
    """Lines below a heading, up to the next one."""
    return page.partition(f'\n## {heading}\n')[2].partition('\n## ')[0].splitlines()


def table_rows(lines: List[str]) -> List[List[str]]:
    """Cells of all lines of tables, without their headings."""
    rows = [[cell.strip(' *`') for cell in line.strip('|').split('|')] for line in lines if line.startswith('|')]
    rules = [number for number, row in enumerate(rows) if set(row[0]) == {'-'}]
    return [row for number, row in enumerate(rows) if not {number, number + 1} & set(rules)]


def two_digits(figure: str) -> str:
    return str(Decimal(figure).quantize(Decimal('0.01'), ROUND_HALF_UP)) if figure else ''


def deployment_rows() -> Dict[str, Dict[str, Dict[str, str]]]:
    """Rows by the name that a page gives to the runtime, and by network."""
    rows: Dict[str, Dict[str, Dict[str, str]]] = {}
    for row in read('deployment'):
        runtime = row['engine'] + (', int8' if row['precision'] == 'int8' else '')
        rows.setdefault(runtime, {})[row['network']] = row
    return rows


def test_deployment():
    lines = section(BENCHMARKS, 'Deployment')
    shown = []
    for runtime, networks in deployment_rows().items():
        theirs, ours, partial, small, shipped = (networks.get(name) for name in MODELS)
        assert theirs and ours
        size = f'{int(ours["bytes"]) / 1e6:.1f}' if ours['bytes'] else ''
        shown.append([
            runtime, theirs['median_ms'], ours['median_ms'],
            *(two_digits(row['ratio']) if row else '' for row in (ours, partial, small)),
            shipped['median_ms'] if shipped else '', ours['start_s'], size])
    assert [row for row in table_rows(lines) if len(row) == len(shown[0])] == shown


def test_size_and_accuracy_of_the_shipped_network():
    shown = []
    for runtime, networks in deployment_rows().items():
        row = networks.get(MODELS[-1])
        if row and row['top1']:
            size = f'{int(row["bytes"]):,}' if row['bytes'] else ''
            shown.append([runtime, size, row['difference'], row['top1'], row['agreement']])
    found = [row for row in table_rows(section(BENCHMARKS, 'Deployment')) if len(row) == len(shown[0])]
    assert found == shown


def test_deployment_page():
    rows, page = deployment_rows(), ' '.join(DEPLOYMENT.split())
    found = [row for row in table_rows(section(DEPLOYMENT, 'How fast, and which to take')) if len(row) == 5]
    assert len(found) == 6
    for runtime, *figures in found:
        runtime = runtime.replace('ONNX Runtime Web', 'WebAssembly')
        expected = []
        for name in runtime, f'{runtime}, int8':
            row = rows[name][MODELS[1]] if name in rows else {'median_ms': '', 'ratio': ''}
            expected += [row['median_ms'], two_digits(row['ratio'])]
        assert figures == expected
    for runtime, words in ('ONNX Runtime', '({} and {} ms)'), *(
            (name, '({} and {})') for name in ('ExecuTorch', 'OpenVINO', 'LiteRT')):
        small = (rows[name]['mobilenext_s']['median_ms'] for name in (f'{runtime}, int8', runtime))
        assert words.format(*small) in page


@pytest.mark.parametrize('path, words', [
    ('README.md', '{} of the time of `mobilenetv2_100` in float32, and {} in int8'),
    ('docs/choose.md', '`mobilenext_100` takes {} and {} of MobileNetV2\'s time')])
def test_ratios_elsewhere(path, words):
    rows = deployment_rows()
    ratios = (two_digits(rows[runtime][MODELS[1]]['ratio']) for runtime in ('ONNX Runtime', 'ONNX Runtime, int8'))
    assert words.format(*ratios) in read_page(path)


def count_depthwise(name: str) -> int:
    """MACs of the depthwise convolutions of a network at 224 px."""
    macs = []

    def add(module, args, out):
        macs.append(out.numel() * module.weight[0].numel())

    model = timm.create_model(name, device='meta').eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.register_forward_hook(add)
    model(torch.zeros(1, 3, 224, 224, device='meta'))
    return sum(macs)


@pytest.mark.parametrize('path', ['benchmarks/README.md', 'docs/deployment.md'])
def test_depthwise_multiplications(path):
    ratio = count_depthwise('mobilenext_100') / count_depthwise('mobilenetv2_100')
    assert f'MobileNeXt has {ratio:.2f} times MobileNetV2\'s depthwise MACs' in read_page(path)


def test_speed():
    rows = {(row['engine'], row['model']): (row['median_ms'], row['ratio_to_mobilenetv2_100']) for row in read('speed')}
    found = table_rows(section(BENCHMARKS, 'Speed'))
    assert len(found) == 14
    engine = ''
    for first, model, *figures in found:
        engine = re.sub('^the same', 'eager', first).replace('exported ', '') or engine
        model = model.replace('`', '').replace('reparameterize_model', 'reparameterized')
        assert tuple(figures) == rows[engine, model], (engine, model)


def test_partial_shortcut():
    shown: Dict[str, List[str]] = {}
    for row in read('shortcut'):
        shown.setdefault(row['engine'], []).append(two_digits(row['ratio_to_full']))
    found = table_rows(section(BENCHMARKS, 'The partial shortcut'))
    assert found == [[engine, *ratios] for engine, ratios in shown.items()]


def test_untrained_networks():
    assert table_rows(section(BENCHMARKS, 'Untrained networks')) == [list(row.values()) for row in read('untrained')]


def test_creation():
    shown = [
        [row['model'], row['convolutions'], f'{row["median_ms"]} ms', row['ratio']] for row in read('creation')]
    assert table_rows(section(BENCHMARKS, 'Creation')) == shown


def test_weight_initialization():
    schemes: Dict[str, List[str]] = {}
    for row in read('initialization'):
        schemes.setdefault(row['scheme'], []).append(row['top1'])
    shown = [
        [f'{statistics.mean(map(float, seeds)):.2f} %', ', '.join(seeds)] for seeds in schemes.values()]
    assert [row[1:] for row in table_rows(section(BENCHMARKS, 'Weight initialization'))] == shown


def test_start_up():
    for row, found in zip(read('startup'), table_rows(section(BENCHMARKS, 'Start-up')), strict=True):
        without, more, percent = (
            float(row[key]) for key in ('median_without_ms', 'median_difference_ms', 'percent'))
        digits = 2 if without < 100 else 0
        assert found == [
            row['command'], row['pairs'], f'{without:.{digits}f} ms', f'{more:.{digits}f} ms', f'{percent:.1f} %']


def test_traps():
    rows = {(row['what'], row['figure']): (row['trap'], row['way_out']) for row in read('traps')}
    page = ' '.join(f'{seen} {way_out}' for _, seen, way_out in table_rows(section(DEPLOYMENT, 'Traps')))

    def percent(what: str) -> Tuple[str, ...]:
        return tuple(cell.rpartition(' ')[2].replace('%', ' %') for cell in rows[what, 'cat'])

    trap, way_out = rows['OpenVINO, precision', 'difference of a probability']
    assert f'off by up to {trap}, with float32 by {way_out}; no class changed' in page
    assert set(rows['OpenVINO, precision', 'photographs with another class']) == {'0'}
    sizes = (f'{int(size) / 1e6:.1f}' for size in rows['OpenVINO, weights', 'bytes'])
    assert 'of {} MB instead of {}'.format(*sizes) in page
    trap, way_out = rows['ncnn, weights', 'difference of a logit']
    assert f'off by {trap} instead of {float(way_out):.4f}' in page
    assert 'a deer of {} in ExecuTorch'.format(percent('ExecuTorch, not copied')[0]) in page
    assert 'of {} in ncnn'.format(percent('ncnn, not copied')[0]) in page
    assert 'it gave {} instead of {}'.format(*percent('ncnn, temporary')) in page
    activations = 'ONNX Runtime, activations'
    (kept, none), (slow, fast), (exact, _) = (
        rows[activations, figure] for figure in ('convolutions in float32', 'ms', 'ms in float32'))
    assert f'{kept} convolutions' in page and none.startswith('0 of')
    assert f'{float(slow):.1f} ms, where float32 alone took {float(exact):.1f}' in page
    assert f'all in int8, {float(fast):.1f} ms' in page
    same, other = rows['ONNX Runtime, Entropy', 'digest'], rows['ONNX Runtime, Percentile', 'digest']
    assert same[0] == same[1] and other[0] != other[1]


def test_table_to_choose_by_is_that_of_the_rows():
    peers = pytest.importorskip('benchmarks.peers', reason='needs onnxruntime, of the extra onnx')
    table = peers.tabulate(read('peers'))
    page = (ROOT / 'docs' / 'choose.md').read_text(encoding='utf-8')
    assert [row for row in table.splitlines() if row not in page] == []
    assert page.partition('## Trained alike')[0].count('\n| `') == table.count('\n| `')


def test_times_in_a_browser_are_those_of_the_rows():
    rounds: Dict[str, List[Tuple[float, ...]]] = {}
    for row in read('web'):
        rounds.setdefault(row['network'], []).append(tuple(
            float(row[key]) for key in ('first_answer_ms', 'loading_ms', 'first_run_ms', 'later_run_ms')))
    page = (ROOT / 'web' / 'README.md').read_text(encoding='utf-8')
    for network, times in rounds.items():
        first, loading, ran, later = map(statistics.median, zip(*times, strict=True))
        assert f'| {network} | {first:.0f} | {loading:.0f} | {ran:.0f} | {later:.1f} |\n' in page


def test_precisions_of_the_shipped_network():
    lines = section((ROOT / 'docs' / 'weights.md').read_text(encoding='utf-8'), 'A small trained network, in the wheel')
    shown = [cells for cells in table_rows(lines) if cells[-1].endswith('.csv')]
    assert {file for *_, file in shown} == {file.name for file in (ROOT / 'results' / 'precision').glob('*.csv')}
    for *_, top1, file in shown:
        with (ROOT / 'results' / 'precision' / file).open(encoding='utf-8') as f:
            row, = csv.DictReader(f)
        assert row['model'] == 'mobilenext_050.cifar10' and top1 == f'{float(row["top1"]):.2f} %'
