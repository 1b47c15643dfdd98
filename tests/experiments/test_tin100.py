"""The plan on Tiny ImageNet is the one that was written down, and the report says what its rows say."""
import argparse
import math
import shlex
import sys

import pytest

import timm

from experiments.runs import read_rows, write_rows

tin100 = pytest.importorskip('experiments.tin100', reason='needs scipy and matplotlib, of the extra demo')
stats = pytest.importorskip('scipy.stats')
pytestmark = pytest.mark.tools
RATES = tin100.LEARNING_RATES


def parabola(peak):
    return [60 - (math.log(rate) - math.log(peak)) ** 2 for rate in RATES]


@pytest.mark.parametrize('scores, rate', [
    (parabola(0.3), 0.3),
    (parabola(0.2345), 0.23),  # two digits
    (parabola(0.05), 0.1),  # concave with its peak below all rates
    (parabola(2), 0.8),
    ([3, 1, 1, 2], 0.1),  # convex
    ([1, 1, 2, 4], 0.8),
    ([50, 53, 53, 44], 0.23),  # none passes through all four; by least squares at 0.1 * 2 ** 1.2
])
def test_peak(scores, rate):
    assert tin100.peak(RATES, scores) == rate


def row(run, top1, **more):
    """What a run leaves, as strings."""
    figures = dict(epoch=16, top1=top1, loss=5 - top1 / 20, ema_top1=top1 + 1, ema_loss=1, minutes=40.4)
    machine = dict(machine='a machine', torch='2', timm='1')
    given = dict(
        name=run.name, stage=run.stage, model=run.model, scheme=run.scheme, lr=run.lr, seed=run.seed, repeat=run.repeat)
    return {key: str(value) for key, value in dict(
        given, **{**figures, **more}, **machine, arguments=shlex.join(run.arguments)).items()}


def pilot_rows(name, **peaks):
    """Pilots of a table, by the peak of each network, with the authors' scheme above timm's if nothing else is said."""
    rows = []
    for arm in tin100.TABLES[name].arms:
        scores = dict(zip(RATES, parabola(peaks.get(arm.model, 0.3)), strict=True))
        rows += [row(run, scores[run.lr] - 5 * (run.scheme == 'timm')) for run in tin100.pilots(arm)]
    return rows


def final_rows(name, rows, top1):
    """Finals of a table whose pilots are among the rows, each with the top-1 that a function gives it."""
    return [row(run, top1(run)) for run in tin100.plan(name, rows) if run.stage == 'final']


def headline_top1(run):
    means = dict(mobilenext_075=52, mobilenetv2_075=50)
    return means[run.model] + (run.seed % 3) * 0.5 + 0.2 * run.repeat


def cells(text, start, column=0):
    """Cells of the first line of a table that has a text in a column."""
    lines = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines() if line[:1] == '|']
    return next(line for line in lines if len(line) > column and line[column].startswith(start))


def test_every_sixth_run_repeats_an_earlier_one():
    rows = pilot_rows('headline', mobilenext_075=0.4)
    plan = tin100.plan('headline', rows)
    assert [run.stage for run in plan] == ['pilot'] * 8 + ['final'] * 19
    finals = plan[8:]
    assert [place for place, run in enumerate(finals, 1) if run.repeat] == [6, 12, 18]
    for place in (5, 11, 17):
        repeated = [run for run in finals[:place] if (run.model, run.seed) == (finals[place].model, finals[place].seed)]
        assert [run.arguments for run in repeated] == [finals[place].arguments]
        assert finals[place].name == f'{repeated[0].name}-repeat'
    runs = [run for run in finals if not run.repeat]
    rates = dict(mobilenetv2_075=0.3, mobilenext_075=0.4)
    assert sorted((run.model, run.lr, run.seed) for run in runs) == [
        (model, rate, seed) for model, rate in rates.items() for seed in range(1, 9)]
    assert {run.model for run in runs[:5]} == {'mobilenext_075', 'mobilenetv2_075'}  # in no order of the arms
    assert tin100.plan('headline', rows) == plan


def test_no_final_before_the_last_pilot():
    rows = pilot_rows('headline')
    for number in (0, 7):
        assert {run.stage for run in tin100.plan('headline', rows[:number])} == {'pilot'}
    rows[-1]['arguments'] = rows[-1]['arguments'].replace('--batch-size 128', '--batch-size 64')
    assert {run.stage for run in tin100.plan('headline', rows)} == {'pilot'}  # a row of other arguments is none


def test_better_scheme_is_taken():
    arm = tin100.TABLES['today'].arms[1]
    rows = pilot_rows('today', mnasnet_050=0.4)
    assert tin100.choose(arm, rows) == ('authors', 0.4)
    for other in rows:
        other['top1'] = str(float(other['top1']) + 20 * (other['scheme'] == 'timm'))
    assert tin100.choose(arm, rows) == ('timm', 0.4)


def test_report_of_pilots_alone(tmp_path, call):
    rows = pilot_rows('headline')[1:]
    write_rows(tmp_path / 'runs.csv', rows)
    text = call(tin100, 'report', '--results', tmp_path)
    assert text == (tmp_path / 'README.md').read_text() + '\n'
    assert cells(text, '`mobilenext_075`') == ['`mobilenext_075`', '1,613,268', '17.00M', '0.50M']
    assert cells(text, 'authors', 1) == [
        '`mobilenext_075`', 'authors', '-', '59.84', '59.92', '59.04', 'pilots are missing']
    assert '| `mobilenetv2_075` | authors | 58.79 | 59.84 | 59.92 | 59.04 | 0.3 |' in text
    assert '## headline' in text and '## attention' not in text and '### Claims' not in text


def test_report_of_the_headline(tmp_path, call):
    rows = pilot_rows('headline')
    finals = final_rows('headline', rows, headline_top1)
    write_rows(tmp_path / 'runs.csv', rows + finals)
    text = call(tin100, 'report', '--results', tmp_path)
    ours, theirs = (
        [float(final['top1']) for final in finals if final['model'] == model and final['repeat'] == '0']
        for model in ('mobilenext_075', 'mobilenetv2_075'))
    known = stats.ttest_ind(ours, theirs)
    low, high = known.confidence_interval(0.95)
    assert known.pvalue < 0.001
    claim = cells(text, '`mobilenext_075` less `mobilenetv2_075`')
    assert claim[1:5] == [
        '+2.00', f'{low:+.2f} to {high:+.2f}', '< 0.001', '**`mobilenext_075` is better**']
    deviation = math.sqrt((stats.tvar(ours) + stats.tvar(theirs)) / 2)
    assert float(claim[5]) == pytest.approx(1.507 * deviation, abs=0.01)  # of eight runs each, by tables of power
    assert claim[6] == '-0.100'
    assert [line for line in text.splitlines() if '8 of 8' in line][0].split(' | ')[1:3] == ['authors', '0.3']
    assert '52.56 ± 0.42 | 2.372 | 53.56 ± 0.42 | 40 |' in text  # repeats are not runs
    assert text.count('| +0.20 |') == 3
    on_same = 'With the same seed on the same kind of machine, the deviation of a run is 0.14 points.'
    assert on_same in text and 'on another kind' not in text  # 0.2 by the root of 2


def test_repeats_on_another_machine_stand_apart(tmp_path, call):
    rows = pilot_rows('headline')
    finals = final_rows('headline', rows, headline_top1)
    repeated = next(final for final in finals if final['repeat'] == '1')
    repeated.update(machine='another processor', top1=str(float(repeated['top1']) + 0.8))
    write_rows(tmp_path / 'runs.csv', rows + finals)
    text = call(tin100, 'report', '--results', tmp_path)
    assert [text.count(f'| {change} |') for change in ('+0.20 | the same', '+1.00 | another')] == [2, 1]
    assert 'With the same seed on the same kind of machine, the deviation of a run is 0.14 points.' in text
    assert 'With the same seed on another kind of machine, the deviation of a run is 0.71 points.' in text
    apart = 'These runs are of more than one kind of machine, so their minutes do not compare.'
    assert apart not in text  # of the runs themselves
    finals[0].update(machine='another processor')
    write_rows(tmp_path / 'runs.csv', rows + finals)
    assert apart in call(tin100, 'report', '--results', tmp_path)


def test_no_verdict_before_the_last_run(tmp_path, call):
    rows = pilot_rows('headline')
    finals = final_rows('headline', rows, headline_top1)
    write_rows(tmp_path / 'runs.csv', rows + finals[:-1])
    claim = cells(call(tin100, 'report', '--results', tmp_path), '`mobilenext_075` less')
    assert claim[3:6] == ['-', 'not decided, 15 of 16 runs have ended', '-'] and claim[1] > '+1'
    write_rows(tmp_path / 'runs.csv', rows + finals[:1])
    claim = cells(call(tin100, 'report', '--results', tmp_path), '`mobilenext_075` less')
    assert claim[1:] == ['-', '-', '-', 'too few runs have ended', '-', '-', '-']


def test_claims_of_a_table_are_corrected_together(tmp_path, call, monkeypatch):
    monkeypatch.setitem(tin100.TABLES, 'attention', tin100.Table([tin100.Arm('mobilenext_050', 6)], []))
    rows = pilot_rows('attention') + pilot_rows('today')
    means = dict(mobilenext_050=52, lcnet_075=51.2, repghostnet_080=50.4, mnasnet_050=53.5)
    for name in ('attention', 'today'):
        rows += final_rows(name, rows, lambda run: means.get(run.model, 52) + 0.5 * (run.seed % 3) - 0.5)
    write_rows(tmp_path / 'runs.csv', rows)
    text = call(tin100, 'report', '--results', tmp_path)

    def claim(model):
        return cells(text, f'`mobilenext_050` less `{model}`')

    # squares 2 * 0.5 and 0.5 within arms, 1 + 5 * 0.5 of 5 + 5 * 2 degrees of freedom; six runs against three
    error = math.sqrt((1 + 5 * 0.5) / 15 * (1 / 6 + 1 / 3))
    p = {model: 2 * stats.t.sf(abs(52 - means.get(model, 52)) / error, 15) for model in tin100.TABLES['today'].models}
    assert claim('repghostnet_080')[3] == f'{5 * p["repghostnet_080"]:.3f}'
    assert claim('mnasnet_050')[3] == f'{4 * p["mnasnet_050"]:.3f}'
    assert claim('lcnet_075')[3:5] == [f'{3 * p["lcnet_075"]:.3f}', 'no difference is shown'] and p['lcnet_075'] < 0.05
    assert claim('mnasnet_050')[4] == '**`mnasnet_050` is better**'
    assert claim('repghostnet_080')[4] == '**`mobilenext_050` is better**'
    assert claim('mobilenetv2_050')[1:5] == ['+0.00', claim('mobilenetv2_050')[2], '1.000', 'no difference is shown']


def test_rows_of_another_plan_are_named(tmp_path, call):
    rows = pilot_rows('headline')
    rows[0]['arguments'] += ' --more'
    write_rows(tmp_path / 'runs.csv', rows)
    text = call(tin100, 'report', '--results', tmp_path)
    assert f'Left out, as the plan has no such run: `{rows[0]["name"]}`.' in text
    with pytest.raises(SystemExit, match='empty holds no runs: train some first.'):
        call(tin100, 'report', '--results', tmp_path / 'empty')


TRAIN = """
import pathlib, sys
with open(pathlib.Path(__file__).parent / 'started', 'a') as started:
    print(sys.argv[sys.argv.index('--output') + 1].rsplit('/', 1)[1], file=started)
print('Train: 15 [   0/312 (  0%)]')
print('Test: [  39/39]  Time: 0.037 (0.247)  Loss:   4.270 ( 3.359)  Acc@1:   0.000 ( 20.360)  Acc@5: 1 (1)')
print('Test (EMA): [  39/39]  Time: 0.037 (0.247)  Loss:   4.270 ( 3.1)  Acc@1:   0.000 ( 21.5)  Acc@5: 1 (1)')
"""


@pytest.mark.skipif(sys.version_info < (3, 11), reason='python -P needs Python 3.11')
def test_run_continues_where_it_was(tmp_path, call, monkeypatch):
    monkeypatch.setitem(tin100.TABLES, 'headline', tin100.Table([tin100.Arm('mobilenext_035', 2)], []))
    (tmp_path / 'train.py').write_text(TRAIN)
    results = '--results', tmp_path / 'results'
    run = 'run', 'headline', '--timm', tmp_path, '--data-dir', tmp_path, '--output', tmp_path / 'output', *results
    call(tin100, *run)
    printed = [line.split() for line in call(tin100, 'plan', 'headline', *results).splitlines()]
    names = [name for name, _ in printed]
    assert len(names) == 6 and [top1 for _, top1 in printed] == ['20.36'] * 6
    assert (tmp_path / 'started').read_text().split() == names
    kept = (tmp_path / 'results' / 'runs.csv').read_text()
    rows = kept.splitlines()
    (tmp_path / 'results' / 'runs.csv').write_text(kept.removesuffix(f'{rows[-1]}\n'))
    assert call(tin100, 'plan', 'headline', *results).split()[-2:] == [names[-1], '-']
    call(tin100, *run)
    assert (tmp_path / 'started').read_text().split() == [*names, names[-1]]  # nothing else is repeated
    assert rows[0] == (
        'name,stage,model,scheme,lr,seed,repeat,epoch,top1,loss,ema_top1,ema_loss,minutes,machine,torch,timm,arguments')
    assert rows[-1].startswith(f'{names[-1]},final,mobilenext_035,authors,')
    assert ',16,20.36,3.359,21.5,3.1,' in rows[-1]
    epochs = (tmp_path / 'results' / 'epochs' / f'{names[-1]}.csv').read_text()
    assert epochs == 'epoch,loss,top1,ema_loss,ema_top1\n16,3.359,20.36,3.1,21.5\n'


def count_adds(arguments):
    """Adds in each stage of the network that train.py makes of arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--model')
    parser.add_argument('--model-kwargs', nargs='*', default={}, action=timm.utils.ParseKwargs)
    given, _ = parser.parse_known_args(arguments)
    network = timm.create_model(given.model, **given.model_kwargs)
    return [sum(block.has_skip for block in stage) for stage in network.blocks], list(network.state_dict())


def test_place_and_number_of_adds_are_told_apart():
    table = tin100.TABLES['shortcut']
    adds, keys = zip(*(count_adds(tin100.Run('pilot', model, 'authors', 0.1, 0).arguments) for model in table.models),
                     strict=True)
    assert [*zip(table.models, map(sum, adds), strict=True)] == [
        ('mobilenext_050', 12), ('narrow_050', 10), ('wide_050_10', 10)]
    assert adds[1] == adds[2]  # in each stage
    assert keys[0] == keys[1] == keys[2]


def test_report_on_changed_networks(tmp_path, call):
    rows = pilot_rows('attention') + pilot_rows('shortcut')
    write_rows(tmp_path / 'runs.csv', rows + final_rows('shortcut', rows, lambda run: 40 + run.seed % 3))
    text = call(tin100, 'report', '--results', tmp_path)
    costs = {tuple(cells(text, f'`{model}`')[1:3]) for model in tin100.TABLES['shortcut'].models}
    assert len(costs) == 1
    assert cells(text, '`narrow_050` less `wide_050_10`')[1] == '+0.00'


def test_page_of_models_has_what_attention_came_to():
    rows = read_rows(tin100.RESULTS / 'runs.csv')
    report = tin100.describe(rows).partition('## attention')[2]
    page = (tin100.RESULTS.parent.parent / 'docs' / 'models.md').read_text(encoding='utf-8')
    for arm in tin100.TABLES['attention'].arms:
        start = f'| `{arm.model}` | authors'
        run = next(line for line in report.splitlines() if line.startswith(start) and '6 of 6' in line)
        top1, minutes = (run.split(' | ')[column] for column in (4, 7))
        shown = next(line for line in page.splitlines() if line.startswith(f'| `{arm.model}` | {top1} |'))
        assert shown.endswith(f' | {minutes}')
        if arm.model != 'mobilenext_050':
            _, difference, interval, *_ = cells(report, f'`{arm.model}` less')
            assert f' | {difference} ({interval}) | ' in shown


def test_page_to_choose_by_has_what_todays_networks_came_to():
    report = tin100.describe(read_rows(tin100.RESULTS / 'runs.csv')).partition('## today')[2].replace('*', '')
    costs, _, runs, claims = report.split('### ')[:4]
    root = tin100.RESULTS.parent.parent
    page, readme = ((root / name).read_text(encoding='utf-8') for name in ('docs/choose.md', 'README.md'))
    page = page.partition('## Trained alike')[2]
    for arm in tin100.TABLES['today'].arms:
        _, parameters, macs, _ = cells(costs, f'`{arm.model}`')
        _, _, _, ended, top1, *_ = cells(runs, f'`{arm.model}`')
        claim = ['', '']
        if arm.model != 'mobilenext_050':
            _, difference, interval, _, verdict, smallest, *_ = cells(claims, f'`mobilenext_050` less `{arm.model}`')
            claim = [f'{difference} ({interval})', verdict]
        assert cells(page, f'`{arm.model}`') == [
            f'`{arm.model}`', f'{int(parameters.replace(",", "")) / 1e6:.2f}M', macs, ended.partition(' of ')[0], top1,
            *claim]
    assert f'The runs could have shown {smallest} points' in page
    lead = cells(claims, '`mobilenext_050` less `repghostnet_080`')[1]
    assert f'`repghostnet_080` leads `mobilenext_050` by {lead.strip("-")} points' in ' '.join(readme.split())
