"""The ablations compare what they say. Nothing is trained here."""
import shlex
from functools import cache
from pathlib import Path

import pytest

ablations = pytest.importorskip('experiments.ablations', reason='needs scipy and matplotlib, of the extra demo')

pytestmark = pytest.mark.tools


@cache
def describe(arm):
    return ablations.describe(arm, 10)


def macs(arm):
    return float(describe(arm)[2][:-1])


def row(arm, seed, top1, **more):
    arguments = shlex.join(ablations.Run(arm, seed).arguments(10))
    return dict(arm=arm, seed=str(seed), top1=str(top1), data='cifar10', arguments=arguments, **more)


def test_arms_that_are_compared_have_equal_macs():
    for arm in ('narrow', 'none', 'nonlinear', 'identity-1/2', 'wide-lr0.1', 'narrow-lr0.1'):
        assert describe(arm)[1:3] == describe('wide')[1:3]
    for arm in ('narrow-050', 'none-050'):
        assert describe(arm)[1:3] == describe('wide-050')[1:3]
    for arm in ('before', 'after', 'bottleneck'):
        assert macs(arm) == pytest.approx(macs('wide'), rel=0.01)
        assert not macs(f'{arm}-035') == pytest.approx(macs('wide'), rel=0.01)
    for arm in ('before-strided', 'bottleneck'):
        assert macs(arm) == pytest.approx(macs('wide'), rel=0.01)
        assert describe(arm)[1:3] == describe(f'{arm}-relu6')[1:3]
    assert macs('inverted') == pytest.approx(macs('wide'), rel=0.03)


def network(arm):
    """Depthwise convolutions of an arm at width 0.35, and the blocks whose expansion has no activation."""
    kwargs = {**ablations.ARMS[arm].model_kwargs, 'channel_multiplier': 0.35}
    model = ablations.timm.create_model(ablations.MODEL, device='meta', **kwargs)
    depthwise = [(name, module.stride) for name, module in model.named_modules() if getattr(module, 'groups', 1) > 1]
    linear = [
        f'blocks.{i}.{j}' for i, stage in enumerate(model.blocks) for j, block in enumerate(stage)
        if not isinstance(block.bn3.act, ablations.torch.nn.ReLU6)]
    return depthwise, linear


def test_before_and_after_differ_in_the_place():
    (before, linear), (after, none) = network('before'), network('after')
    assert [(name.replace('dw1', 'dw2'), stride) for name, stride in before] == after
    assert [conv for conv in before if conv[1] == (2, 2)] == [conv for conv in after if conv[1] == (2, 2)]
    # a block that ends with its expansion ends linear, like one that ends with a depthwise convolution
    assert linear == [name.removesuffix('.conv_dw1') for name, _ in before if 'dw1' in name] and not none


def test_adds():
    # 12 of 12 blocks, and a narrow tensor is smaller than a wide one
    assert [describe(arm)[3] for arm in ('wide', 'narrow', 'none')] == ['12', '11', '0']
    numbers = [int(describe(arm)[4].replace(',', '')) for arm in ('wide', 'identity-1/2', 'narrow')]
    assert numbers[0] == 2 * numbers[1] > 2 * numbers[2]


def test_runs():
    runs = ablations.RUNS
    assert len(set(runs)) == len(runs) == sum(arm.seeds for arm in ablations.ARMS.values())
    assert [run.arm for run in runs[:6]] == list(ablations.TABLES['The shortcut'])
    assert {run.seed for run in runs if run.arm == 'before'} == set(range(1, 7))


@pytest.mark.parametrize('none, verdict', [
    ([70, 71, 72], '**seen** at this scale and learning rate. +2.00 points in the mean of 3 paired runs'),
    ([74, 75, 76], '**not seen, the reverse is** at this scale and learning rate. -2.00 points'),
    ([70, 75, 70], '**not decided** at this scale and learning rate. +1.33 points'),
    ([70], 'not decided, fewer than 3 seeds: +2.00 points.'),
    ([], 'not run yet.'),
])
def test_sentences(none, verdict):
    rows = [row('wide', seed, 71 + seed + 0.1 * (seed == 2)) for seed in (1, 2, 3)]
    rows += [row('none', seed, top1 + 0.2 * (seed == 2)) for seed, top1 in enumerate(none, 1)]
    text = ablations.judge(rows, 'a wide shortcut', 1.5, (('wide', 'none'),))
    assert text.startswith('- A wide shortcut (claimed: +1.5 points): ')
    assert verdict[:40] in text


def test_widths_are_not_repeats():
    pairs = ('wide', 'none'), ('wide-050', 'narrow-050')
    rows = [row('wide', 1, 75), row('none', 1, 74), row('wide-050', 1, 77), row('narrow-050', 1, 76)]
    assert 'not decided, fewer than 3 seeds: +1.00, +1.00 points.' in ablations.judge(rows, 'it', 1.5, pairs)
    assert 'not run at all widths yet.' in ablations.judge(rows[:3], 'it', 1.5, pairs)
    # differences 0, 1, 2 and 4, 5, 6: within widths a variance of 1, an error of (2/3)^(1/2) / 2, t of 4 degrees 2.776
    rows = [
        row(arm, seed, 70 + more + (seed if arm.startswith('wide') else 0)) for seed in (1, 2, 3)
        for arm, more in (('wide', -1), ('none', 0), ('wide-050', 3), ('narrow-050', 0))]
    text = ablations.judge(rows, 'it', 1.5, pairs)
    assert '**seen**' in text
    assert '+3.00 points in the mean of 2 widths, 6 paired runs in all, 95 % interval +1.87 to +4.13' in text
    assert text.endswith("the claimed figure outside of it.")
    # one more of 5: a variance of 4/5, an error of (7/15)^(1/2) / 2, t of 5 degrees 2.571
    rows += [row('wide-050', 4, 75), row('narrow-050', 4, 70)]
    text = ablations.judge(rows, 'it', 1.5, pairs)
    assert '+3.00 points in the mean of 2 widths, 7 paired runs in all, 95 % interval +2.12 to +3.88' in text


def test_costs_that_differ_are_reported():
    rows = [row('before', 1, 70), row('after', 1, 71)]
    assert ablations.judge(rows, 'it', 0.6, (('before', 'after'),)).endswith(
        '-1.00 points. The first has 671,394 parameters and 6.05M MACs, the second 662,362 and 6.04M.')


def test_interval_by_hand():
    # differences 1, 2 and 3: mean 2, deviation 1, t of 2 degrees 4.303
    rows = [row('wide', seed, 70 + seed) for seed in (1, 2, 3)] + [row('none', seed, 70) for seed in (1, 2, 3)]
    text = ablations.judge(rows, 'it', 1.5, (('wide', 'none'),))
    assert '+2.00 points in the mean of 3 paired runs, 95 % interval -0.48 to +4.48' in text
    assert text.endswith("which holds the claimed figure, and 0 too.")


def test_no_verdict_before_all_planned_seeds():
    rows = [row(arm, seed, 70 + seed * (arm == 'wide')) for arm in ('wide', 'narrow') for seed in range(1, 7)]
    assert '**seen**' in ablations.judge(rows, 'it', 1.5, (('wide', 'narrow'),))
    assert 'not decided, fewer than 6 seeds: +1.00, ' in ablations.judge(rows[:-1], 'it', 1.5, (('wide', 'narrow'),))


def test_rows_of_other_arguments_are_refused():
    rows = [row('wide', 1, 70), row('narrow', 1, 70)]
    ablations.check_rows(Path('ablations.csv'), rows)
    rows[1]['arguments'] = rows[1]['arguments'].replace('--lr 0.4', '--lr 0.2')
    with pytest.raises(SystemExit, match='ablations.csv holds a run of narrow, seed 1, with other arguments'):
        ablations.check_rows(Path('ablations.csv'), rows)
    rows[1] = dict(row('narrow', 1, 70), data='digits')
    with pytest.raises(SystemExit, match='ablations.csv holds runs on digits and on cifar10'):
        ablations.check_rows(Path('ablations.csv'), rows)


def test_committed_rows_are_of_the_arms():
    rows = ablations.read_rows(ablations.RESULTS / 'ablations.csv')
    ablations.check_rows(ablations.RESULTS / 'ablations.csv', rows)
    assert {ablations.Run(row['arm'], int(row['seed'])) for row in rows} == set(ablations.RUNS)


@pytest.mark.parametrize('seeds', [1, 3])
def test_report_of_what_has_ended(tmp_path, capsys, seeds):
    for arm in ('wide-050', 'none-050'):
        for seed in range(1, seeds + 1):
            ablations.add_row(
                tmp_path / 'ablations.csv', row(arm, seed, 70 + seed, machine='a machine', torch='2', timm='1'))
    ablations.report(tmp_path)
    assert (tmp_path / 'ablations.png').read_bytes().startswith(b'\x89PNG')
    text = (tmp_path / 'ablations.md').read_text()
    assert text == capsys.readouterr().out.removesuffix('\n')
    top1 = {1: '1 | 71.00 | 71.00', 3: '3 | 72.00 ± 1.00 | 71.00, 72.00, 73.00'}[seeds]
    assert f'| no shortcut | 0.5 | 884,114 | 8.34M | 0 | 0 | {top1} |' in text
    assert 'A wide shortcut rather than a narrow one (claimed: +1.5 points): not run yet.' in text
