"""Pictures of docs/why.md and results/why/README.md, and the figures in them that no report has, from rows alone.

    python -m experiments.why             # draws docs/why-*.png, and prints the figures
    python -m experiments.why --detail    # also draws again what `timm-mobilenext analyze` measured, in results/why

Colors are those of the networks: MobileNeXt, which has wide shortcuts, is blue everywhere.
"""
import argparse
import math
import statistics
from pathlib import Path
from typing import Dict, Iterator, Tuple

from matplotlib.figure import Figure

from experiments.blocks import draw_depthwise, draw_shortcut
from experiments.measured import read, redraw, select
from experiments.report import dress, NARROW, NONE, OURS, plot_effect, plot_means, save, THEIRS
from experiments.runs import read_rows
from experiments.statistics import Effect, pool, POWER, power, smallest_effect, stratified_effect, unpaired_effect
from timm_mobilenext.analysis.tables import mean_and_spread
from timm_mobilenext.shared.style import FAINT, INK

ROOT = Path(__file__).parent.parent
RESULTS, WHY = ROOT / 'results', ROOT / 'results' / 'why'
MODELS = dict(mobilenext_075=OURS, mobilenetv2_075=THEIRS)
PLANNED = 16  # runs of the headline
SECOND = 3, 4, 5, 6  # seeds of wide and narrow that ran on the second machine, the third of wide there once more
ENDS = (  # what to change, the arm with it and the arm without it
    ('ReLU6 in the bottleneck', 'nonlinear', 'wide'),
    ('ReLU6 at the end, depthwise in the bottleneck', 'bottleneck-relu6', 'bottleneck'),
    ('ReLU6 at the end, depthwise before', 'before-strided-relu6', 'before-strided'),
    ('no shortcut', 'none', 'wide'),
    ('shortcut on a sixth of the channels', 'identity-1/6', 'wide'),
    ('no least width of the bottleneck', 'reduction-6', 'wide'),
    ('both depthwise in the bottleneck', 'bottleneck', 'wide'),
    ('shortcut on half of the channels', 'identity-1/2', 'wide'),
)


def read_arms(again: bool = False) -> Dict[str, Dict[int, float]]:
    """Top-1 by seed of each arm of the ablations, with the run that was trained again in place of the first."""
    arms: Dict[str, Dict[int, float]] = {}
    for row in read_rows(WHY / 'ablations.csv') + (read_rows(WHY / 'again' / 'ablations.csv') if again else []):
        arms.setdefault(row['arm'], {})[int(row['seed'])] = float(row['top1'])
    return arms


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


def headline() -> Tuple[Effect, int]:
    """The networks trained on Tiny ImageNet, and how many runs have ended."""
    rows = select(read_rows(RESULTS / 'tin100' / 'runs.csv'), stage='final', repeat='0')
    ours, theirs = ([float(row['top1']) for row in select(rows, model=model)] for model in MODELS)
    pooled = pool([ours, theirs])
    assert pooled
    return unpaired_effect(ours, theirs, pooled), len(ours) + len(theirs)


def show(effect: Effect) -> str:
    return f'{effect.mean:+.2f} points, {effect.low:+.2f} to {effect.high:+.2f}'


def figures() -> Iterator[Tuple[str, str]]:
    """What the page says and no report has."""
    first, second, place = read_arms(), read_arms(again=True), lead(read_arms(), ('before', 'after'))
    widths = ('wide', 'narrow'), ('wide-050', 'narrow-050')
    yield 'wide less narrow at width 0.35, on the second machine', show(lead(second, widths[0], seeds=SECOND))
    yield 'the same by all six pairs, with the run that was repeated', show(lead(second, widths[0]))
    yield 'both widths, with the run that was repeated', show(lead(second, *widths))
    yield 'one network and seed on two machines', f'{first["wide"][3]:.2f} and {second["wide"][3]:.2f}'
    yield 'power of before less after, of 0.6 points', f'{power(0.6, place.error, place.freedom):.2f}'
    spread = place.error * math.sqrt(6)  # the deviation of a pair, of six
    yield 'pairs that show 0.6 points with a power of 80 %', str(next(
        pairs for pairs in range(6, 1000) if power(0.6, spread / math.sqrt(pairs), pairs - 1) >= POWER))
    lead_of_wide = lead(first, *widths)
    for what, effect in (
            ('before less after', place), ('CIFAR-10, three pairs', cifar10()), ('wide less narrow', lead_of_wide)):
        yield f'smallest effect with a power of 80 %, {what}', f'{smallest_effect(effect.error, effect.freedom):.1f}'


def draw_equal(figure: Figure) -> str:
    axes = figure.subplots()
    effect, ended = headline()
    for place, claimed in enumerate((2.0, 1.7)):
        axes.plot(claimed, place, 'D', color=INK, mfc='white', mew=2, ms=9)
    plot_effect(axes, 2, cifar10(), OURS)
    plot_effect(axes, 3, effect, OURS, hollow=ended < PLANNED)
    axes.axvline(0, color=INK, lw=1)
    axes.set_yticks(range(4), [
        'claimed by the summary', 'claimed by the paper', 'CIFAR-10, 3 pairs',
        f'Tiny ImageNet, {ended} of {PLANNED} runs'])
    axes.set(ylim=(3.5, -0.5), xlabel='MobileNeXt less MobileNetV2, points of top-1, 95 % interval')
    dress(axes, 'x')
    decided = ended == PLANNED and effect.low > 0
    return f'MobileNeXt against MobileNetV2 at equal MACs: {"a lead" if decided else "no lead is shown"}'


def draw_places(figure: Figure) -> str:
    return draw_depthwise(figure, {arm: list(top1.values()) for arm, top1 in read_arms().items()})


def draw_ends(figure: Figure) -> str:
    axes, arms = figure.subplots(), read_arms()
    apart = abs(arms['wide'][3] - read_arms(again=True)['wide'][3])
    axes.axvspan(-apart, apart, color=FAINT, alpha=0.25, lw=0)
    for place, (_, arm, without) in enumerate(ENDS):
        if len(arms[arm]) > 1:
            plot_effect(axes, place, lead(arms, (arm, without), (f'{arm}-050', f'{without}-050')), NONE)
        else:
            axes.plot(arms[arm][1] - arms[without][1], place, 'o', color=INK, mfc='white', mew=2, ms=8)
    axes.axvline(0, color=INK, lw=1)
    axes.set_yticks(range(len(ENDS)), [what for what, *_ in ENDS])
    axes.set(ylim=(len(ENDS) - 0.5, -0.5), xlabel=(
        'points of top-1 against the block without the change; hollow: one run;'
        f'\ngrey: two runs of one network were {apart:.1f} points apart'))
    dress(axes, 'x')
    return 'An activation where the paper has none costs ten points'


def draw_slopes(figure: Figure) -> str:
    rows, strides, sides = read(WHY / 'gradients' / 'blocks.csv'), (4, 8, 16, 32), figure.subplots(1, 2, sharey=True)
    for axes, state, when in zip(sides, ('initial', 'after epoch 8'), ('before training', 'after it'), strict=True):
        lines = {}
        for model, color in MODELS.items():
            own = [mean_and_spread(select(rows, model=model, state=state, stride=s), 'norm_out', True) for s in strides]
            lines[model] = color, [(mean, mean / spread, mean * spread) for mean, spread in own]
        plot_means(axes, strides, lines)
        axes.set(yscale='log', xlabel='stride of the blocks', title=when)
        axes.set_yticks((0.01, 0.1, 1), ('0.01', '0.1', '1'))
    sides[0].set_ylabel('norm of the gradient at blocks')
    sides[0].legend(frameon=False)
    return 'MobileNeXt\'s gradients are larger before training, not after it'


def draw_passed(figure: Figure) -> str:
    axes, lines = figure.subplots(), {}
    rows = read_rows(WHY / 'arms-information-64' / 'ranking.csv')
    for name, model, tensor, color in (
            ('wide: MobileNeXt', 'wide', '0', OURS), ('narrow', 'narrow', '1', NARROW),
            ('MobileNetV2\'s block', 'inverted', '0', THEIRS)):
        own = select(rows, model=model, tensor=tensor, state='after epoch 8', noise='0.3', estimator='kernel')
        values = {row['stride']: (float(row['nats']), float(row['deviation'])) for row in own}
        lines[name] = color, [
            (nats, nats - deviation, nats + deviation)
            for nats, deviation in map(values.__getitem__, ('8', '16', '32', 'all'))]
    plot_means(axes, ('stride 8', 'stride 16', 'stride 32', 'mean'), lines, style='o')
    axes.set(ylabel='information, nats', ylim=(40, 70))
    axes.legend(frameon=False, ncols=3, loc='upper center')
    return 'In the mean, less information passes a wide block'


def draw_machines(figure: Figure) -> str:
    axes, first, second = figure.subplots(), read_arms(), read_arms(again=True)
    groups = (
        ('wide, first machine', (1, 2, 3), first['wide'], OURS),
        ('narrow, first machine', (1, 2), first['narrow'], NARROW),
        ('wide, second machine', SECOND, second['wide'], OURS),
        ('narrow, second machine', SECOND, second['narrow'], NARROW))
    for place, (_, seeds, arm, color) in enumerate(groups):
        top1 = [arm[seed] for seed in seeds]
        axes.plot(top1, [place] * len(top1), 'o', color=color, alpha=0.6, ms=9, mew=0)
        axes.plot([statistics.mean(top1)] * 2, [place - 0.3, place + 0.3], color=color, lw=2.5)
    arrow = dict(arrowstyle='-|>', color=INK)
    axes.annotate('', (second['wide'][3] + 0.03, 1.9), (first['wide'][3], 0.15), arrowprops=arrow)
    axes.text(73.4, 1.4, 'the same network and seed, trained again', color=INK)
    axes.set_yticks(range(4), [name for name, *_ in groups])
    axes.set(ylim=(3.5, -0.5), xlabel='top-1 at width 0.35 in percent, each run and the mean')
    dress(axes, 'x')
    return 'At width 0.35 the lead of wide is that of one machine'


PICTURES = dict(
    equal=(2.6, draw_equal), shortcut=(5.6, draw_shortcut), depthwise=(3.6, draw_places), linear=(4.0, draw_ends),
    gradients=(3.4, draw_slopes), information=(3.4, draw_passed), machines=(3.2, draw_machines))


def draw(name: str, folder: Path) -> None:
    """Draw a picture of the page, with its one message as title."""
    height, plot = PICTURES[name]
    figure = Figure(figsize=(8.8, height), dpi=200, layout='constrained')
    figure.suptitle(plot(figure), x=0.01, ha='left', fontsize=14, fontweight='bold', color=INK)
    save(figure, folder / f'why-{name}.png')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--detail', action='store_true', help='also draw again what the instruments measured')
    parser.add_argument('-o', '--output', type=Path, default=ROOT / 'docs', metavar='DIR', help='folder to draw to')
    args = parser.parse_args()
    for what, value in figures():
        print(f'{what}: {value}')
    for name in PICTURES:
        draw(name, args.output)
    if args.detail:
        for file in sorted(WHY.glob('*/args.json')):
            redraw(file.parent)


if __name__ == '__main__':
    main()
