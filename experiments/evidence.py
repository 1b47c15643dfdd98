"""What the runs came to, from rows alone: the differences in docs/why.md, and figures that no report has."""
import math
import statistics
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np

import timm

from experiments.measured import read, select
from experiments.runs import describe_place, read_rows, Row
from experiments.statistics import (
    deviation_bounds,
    Effect,
    LEVEL,
    pool,
    POWER,
    power,
    smallest_effect,
    stratified_effect,
    unpaired_effect,
)
from timm_mobilenext.analysis.tables import mean_and_spread, Rows
from timm_mobilenext.shared.counts import count

RESULTS = Path(__file__).parent.parent / 'results'
WHY = RESULTS / 'why'
MODELS = 'mobilenext_075', 'mobilenetv2_075'
PLANNED = 16  # runs of the headline
ARMS = 'mobilenext_050', 'wide_050_10', 'narrow_050'  # with twelve and ten wide adds, and ten narrow ones
SHORTCUTS = {  # the first less the second
    'wide less narrow, twelve and ten adds': (ARMS[0], ARMS[2]),
    'wide less narrow, ten adds in both': (ARMS[1], ARMS[2]),
    'twelve wide adds less ten': (ARMS[0], ARMS[1]),
}
STRIDES, STATES = (4, 8, 16, 32), ('initial', 'after epoch 8')  # in the picture of gradients
SECOND = 3, 4, 5, 6  # seeds of wide and narrow that ran on the second machine, the third of wide there once more


def read_arms(again: bool = False) -> Dict[str, Dict[int, float]]:
    """Top-1 by seed of each arm of the ablations, with the run that was trained again in place of the first."""
    arms: Dict[str, Dict[int, float]] = {}
    for row in read_rows(WHY / 'ablations.csv') + (read_rows(WHY / 'again' / 'ablations.csv') if again else []):
        arms.setdefault(row['arm'], {})[int(row['seed'])] = float(row['top1'])
    return arms


def wide_on_second() -> List[float]:
    """Top-1 of the four wide networks of the second machine, of which all single runs are."""
    arms = read_arms(again=True)
    return [arms['wide'][seed] for seed in SECOND]


def lead(arms: Dict[str, Dict[int, float]], *pairs: Tuple[str, str], seeds: Tuple[int, ...] = ()) -> Effect:
    """The first arm less the second, by pairs of one seed, as the mean of all widths."""
    return stratified_effect([
        [arms[first][seed] - arms[second][seed] for seed in sorted(arms[first].keys() & arms[second].keys())
         if not seeds or seed in seeds] for first, second in pairs])


def cifar10() -> Effect:
    """The networks trained on CIFAR-10, by pairs of one seed."""
    files = {model: sorted((RESULTS / 'training').glob(f'final-{model}-*.csv')) for model in MODELS}
    ours, theirs = ([float(read_rows(file)[-1]['eval_top1']) for file in files[model]] for model in MODELS)
    return stratified_effect([[first - second for first, second in zip(ours, theirs, strict=True)]])


def best_rate(model: str) -> float:
    """The peak of the parabola through top-1 over the logarithm of the rate, of the pilots on CIFAR-10."""
    files = {rate: RESULTS / 'training' / f'pilot-{model}-authors-lr{rate:g}-seed0.csv' for rate in (0.1, 0.4, 1.0)}
    top1 = [float(read_rows(file)[-1]['eval_top1']) for file in files.values()]
    square, line, _ = np.polyfit(np.log(list(files)), top1, 2)
    return float(np.exp(-line / (2 * square)))


def finals(repeat: int = 0) -> List[Row]:
    """Rows of the runs on Tiny ImageNet, or of those with the seed of an earlier one."""
    rows = read_rows(RESULTS / 'tin100' / 'runs.csv')
    return [row for row in rows if (row['stage'], row['repeat']) == ('final', str(repeat))]


def repeats() -> Dict[str, List[Tuple[float, float]]]:
    """Top-1 of the runs on Tiny ImageNet whose seed was trained twice, by the kind of machine of the second time."""
    firsts = {(row['model'], row['seed']): row for row in finals()}
    pairs: Dict[str, List[Tuple[float, float]]] = {'the same': [], 'another': []}
    for second in finals(repeat=1):
        first = firsts[second['model'], second['seed']]
        pairs[describe_place((first, second))].append((float(first['top1']), float(second['top1'])))
    return pairs


def by_model(key: str, *models: str) -> List[List[float]]:
    """A figure of each run on Tiny ImageNet, network by network."""
    return [[float(row[key]) for row in finals() if row['model'] == model] for model in models]


def lead_of_runs(first: str, second: str, arms: Sequence[str]) -> Tuple[Effect, int]:
    """Top-1 of one network less that of another on Tiny ImageNet, and how many runs of both have ended.

    The variance is pooled over all arms.
    """
    top1 = dict(zip(arms, by_model('top1', *arms), strict=True))
    pooled = pool(top1.values())
    assert pooled
    return unpaired_effect(top1[first], top1[second], pooled), len(top1[first]) + len(top1[second])


def headline() -> Tuple[Effect, int]:
    """The networks trained on Tiny ImageNet, and how many runs have ended."""
    return lead_of_runs(*MODELS, MODELS)


def smallest_of_headline() -> float:
    """The smallest effect that the headline could have shown with a power of 80 %."""
    effect, _ = headline()
    return smallest_effect(effect.error, effect.freedom)


def smallest_of_place() -> float:
    """The smallest effect of ten adds in both that its table could have shown, as one of three claims."""
    effect, _ = lead_of_runs(ARMS[1], ARMS[2], ARMS)
    return smallest_effect(effect.error, effect.freedom, LEVEL / len(SHORTCUTS))


def transfer(task: str) -> Tuple[Effect, int]:
    """The networks of the headline fine-tuned on a task, in points of its measure, and how many fine-tunings ended."""
    rows = [row for row in read_rows(RESULTS / 'transfer' / f'{task}.csv') if row['stage'] == 'final']
    ours, theirs = ([float(row['score']) for row in rows if row['model'] == model] for model in MODELS)
    pooled = pool([ours, theirs])
    assert pooled
    return unpaired_effect(ours, theirs, pooled), len(rows)


def costs() -> Dict[str, float]:
    """What MobileNeXt costs on Tiny ImageNet, divided by what MobileNetV2 does."""
    ours, theirs = (
        count(timm.create_model(model, num_classes=100, device='meta'), (3, 64, 64)) for model in MODELS)
    minutes = [statistics.mean(minutes) for minutes in by_model('minutes', *MODELS)]
    ratios = {what: ours[key] / theirs[key] for what, key in (
        ('MACs', 'macs'), ('parameters', 'params'), ('activations', 'activations'))}
    return {**ratios, 'minutes': minutes[0] / minutes[1]}


def gradient_norms() -> Dict[Tuple[str, str], List[Tuple[float, float]]]:
    """Norms at blocks by network and state of its weights: at each stride the mean, and the factor of a deviation."""
    rows = read(WHY / 'gradients' / 'blocks.csv')
    return {
        (model, state): [
            mean_and_spread(select(rows, model=model, state=state, stride=stride), 'norm_out', True)
            for stride in STRIDES]
        for model in MODELS for state in STATES}


def numbers(blocks: Rows, model: str, stride: float) -> float:
    """How many numbers a batch has between two blocks at a stride, in the geometric mean of the blocks."""
    norm, number = (
        mean_and_spread(select(blocks, model=model, state=STATES[0], stride=stride), key, True)[0]
        for key in ('norm_out', 'rms_out'))
    return (norm / number) ** 2


def show(effect: Effect) -> str:
    return f'{effect.mean:+.2f} points, {effect.low:+.2f} to {effect.high:+.2f}'


def figures() -> Iterator[Tuple[str, str]]:
    """What docs/why.md says and no report has."""
    effect, _ = headline()
    yield 'the headline on Tiny ImageNet', show(effect)
    yield 'top-1 of its networks', ' and '.join(f'{statistics.mean(top1):.2f} %' for top1 in by_model('top1', *MODELS))
    yield 'smallest effect with a power of 80 %, the headline', f'{smallest_of_headline():.2f}'
    macs, *others = ((what, 100 * (ratio - 1)) for what, ratio in costs().items())
    yield 'its MACs are equal, to', f'{abs(macs[1]):.0f} %'
    yield 'what MobileNeXt costs more there', ', '.join(f'{percent:.0f} % {what}' for what, percent in others)
    for what, pair in SHORTCUTS.items():
        yield f'{what}, on Tiny ImageNet', show(lead_of_runs(*pair, ARMS)[0])
    yield 'what ten adds in both could have shown', f'{smallest_of_place():.2f}'
    for where, pairs in repeats().items():
        yield f'runs repeated on {where} kind of machine, and their largest difference', (
            f'{len(pairs)}, {max(abs(first - second) for first, second in pairs):.2f} points')
    widest = max(factor for norms in gradient_norms().values() for _, factor in norms)
    yield 'deviations in the picture of gradients, at most', f'{math.ceil(100 * (widest - 1))} %'
    first, second, place = read_arms(), read_arms(again=True), lead(read_arms(), ('before', 'after'))
    yield 'wide less narrow at width 0.35, on the second machine', show(
        lead(second, ('wide', 'narrow'), seeds=SECOND))
    yield 'one network and seed on two machines', f'{first["wide"][3]:.2f} and {second["wide"][3]:.2f}'
    yield 'wide on the second machine less a shortcut on a sixth of the channels', (
        f'{statistics.mean(wide_on_second()) - first["identity-1/6"][1]:.1f}')
    yield 'after less both depthwise convolutions, on the second machine', show(
        lead(second, ('after', 'wide'), seeds=SECOND))
    yield 'power of before less after, of 0.6 points', f'{power(0.6, place.error, place.freedom):.2f}'
    spread = place.error * math.sqrt(6)  # the deviation of a pair, of six
    yield 'pairs that show 0.6 points with a power of 80 %', str(next(
        pairs for pairs in range(6, 1000) if power(0.6, spread / math.sqrt(pairs), pairs - 1) >= POWER))
    for model in MODELS:
        yield f'best learning rate of {model} on CIFAR-10, by its pilots', f'{best_rate(model):.2f}'


def details() -> Iterator[Tuple[str, str]]:
    """What results/why/README.md says beyond that."""
    effect, _ = headline()
    low, high = (bound * smallest_of_headline() for bound in deviation_bounds(effect.freedom))
    yield 'what the headline could have shown, by the uncertainty of its deviation', f'{low:.2f} to {high:.2f}'
    first, second = read_arms(), read_arms(again=True)
    place = lead(first, ('before', 'after'))
    yield 'what before less after could have shown', f'{smallest_effect(place.error, place.freedom):.1f} points'
    yield 'wide less narrow at width 0.35, with the run that was repeated', show(lead(second, ('wide', 'narrow')))
    yield 'both widths, with the run that was repeated', show(
        lead(second, ('wide', 'narrow'), ('wide-050', 'narrow-050')))
    wide = wide_on_second()
    yield 'wide on the second machine, four runs', f'{statistics.mean(wide):.2f} ± {statistics.stdev(wide):.2f}'
    yield 'after less both depthwise convolutions, by all six pairs', show(lead(first, ('after', 'wide')))
    yield 'before less both, by all six pairs', show(lead(first, ('before', 'wide')))
    yield 'before less both, on the second machine', show(lead(second, ('before', 'wide'), seeds=SECOND))
    yield 'wide less narrow at width 0.35, three seeds', show(lead(first, ('wide', 'narrow'), seeds=(1, 2, 3)))
    blocks, confusion = (read(WHY / 'gradients' / f'{name}.csv') for name in ('blocks', 'confusion'))
    ours, theirs = ([numbers(blocks, model, stride) for stride in STRIDES] for model in MODELS)
    ratios = [first / second for first, second in zip(ours, theirs, strict=True)]
    yield 'numbers between blocks, MobileNeXt by MobileNetV2', f'{min(ratios):.1f} to {max(ratios):.1f}'
    for model in MODELS:
        losses = mean_and_spread(select(blocks, model=model, state=STATES[1]), 'loss')
        yield f'loss of {model} after training', '{:.3f} ± {:.3f}'.format(*losses)
        for state in STATES:
            least = mean_and_spread(select(confusion, model=model, state=state, group='all'), 'confusion')
            yield f'confusion of {model}, {state}', '{:.3f} ± {:.3f}'.format(*least)
