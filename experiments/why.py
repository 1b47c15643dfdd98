"""Pictures of docs/why.md and results/why/README.md, and the figures in them that no report has, from rows alone.

    python -m experiments.why             # draws docs/why-*.png, and prints the figures
    python -m experiments.why --detail    # also draws again what `timm-mobilenext analyze` measured, in results/why

Colors are those of the networks: MobileNeXt, which has wide shortcuts, is blue everywhere.
"""
import argparse
import statistics
from pathlib import Path

from matplotlib.figure import Figure

from experiments.blocks import draw_depthwise, draw_shortcut
from experiments.evidence import (
    cifar10,
    details,
    figures,
    gradient_norms,
    headline,
    lead,
    MODELS,
    PLANNED,
    read_arms,
    SECOND,
    STATES,
    STRIDES,
    WHY,
    wide_on_second,
)
from experiments.measured import read, redraw, select
from experiments.report import dress, NARROW, NONE, OURS, plot_effect, plot_means, save, THEIRS
from timm_mobilenext.shared.style import FAINT, INK

DOCS = Path(__file__).parent.parent / 'docs'
ENDS = (  # what to change, the arm with it and the arm without it
    ('ReLU6 in the bottleneck', 'nonlinear', 'wide'),
    ('ReLU6 at the end, depthwise in the bottleneck', 'bottleneck-relu6', 'bottleneck'),
    ('ReLU6 at the end, depthwise before', 'before-strided-relu6', 'before-strided'),
    ('no shortcut (6 pairs)', 'none', 'wide'),
    ('shortcut on a sixth of the channels', 'identity-1/6', 'wide'),
    ('shortcut on half of the channels', 'identity-1/2', 'wide'),
)


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
        f'Tiny ImageNet, {ended} runs' + (f' of {PLANNED}' if ended < PLANNED else '')])
    axes.set(ylim=(3.5, -0.5), xlabel='MobileNeXt less MobileNetV2, points of top-1, 95 % interval')
    dress(axes, 'x')
    decided = ended == PLANNED and effect.low > 0
    return f'MobileNeXt against MobileNetV2 at equal MACs: {"a lead" if decided else "no lead is shown"}'


def draw_places(figure: Figure) -> str:
    top1 = {arm: list(runs.values()) for arm, runs in read_arms().items()}
    return draw_depthwise(figure, {**top1, 'wide': wide_on_second()})  # the machine of the other two


def draw_ends(figure: Figure) -> str:
    axes, arms, wide = figure.subplots(), read_arms(), statistics.mean(wide_on_second())
    apart = abs(arms['wide'][3] - read_arms(again=True)['wide'][3])
    axes.axvspan(-apart, apart, color=FAINT, alpha=0.25, lw=0)
    for place, (_, arm, without) in enumerate(ENDS):
        if len(arms[arm]) > 1:
            plot_effect(axes, place, lead(arms, (arm, without), (f'{arm}-050', f'{without}-050')), NONE)
        else:
            base = wide if without == 'wide' else arms[without][1]
            axes.plot(arms[arm][1] - base, place, 'o', color=INK, mfc='white', mew=2, ms=8)
    axes.axvline(0, color=INK, lw=1)
    axes.set_yticks(range(len(ENDS)), [what for what, *_ in ENDS])
    axes.set(ylim=(len(ENDS) - 0.5, -0.5), xlabel=(
        'points of top-1 against the block without the change; hollow: one run;'
        f'\ngray: two runs of one network were {apart:.1f} points apart'))
    dress(axes, 'x')
    return 'An activation where the paper has none costs about ten points'


def draw_slopes(figure: Figure) -> str:
    norms, sides = gradient_norms(), figure.subplots(1, 2, sharey=True)
    for axes, state, when in zip(sides, STATES, ('before training', 'after 8 epochs'), strict=True):
        plot_means(axes, STRIDES, {
            model: (color, [(mean, mean / factor, mean * factor) for mean, factor in norms[model, state]])
            for model, color in zip(MODELS, (OURS, THEIRS), strict=True)})
        axes.set(yscale='log', xlabel='stride of the blocks', title=when)
        axes.set_yticks((0.01, 0.1, 1), ('0.01', '0.1', '1'))
    sides[0].set_ylabel('norm of the gradient (no unit, log scale)')
    sides[0].legend(frameon=False)
    return 'MobileNeXt\'s gradients are larger before training, not after it'


def draw_passed(figure: Figure) -> str:
    axes, lines = figure.subplots(), {}
    rows = read(WHY / 'arms-information-64' / 'ranking.csv')
    for name, model, tensor, color in (
            ('wide: MobileNeXt', 'wide', 0, OURS), ('narrow', 'narrow', 1, NARROW),
            ('MobileNetV2\'s block', 'inverted', 0, THEIRS)):
        own = select(rows, model=model, tensor=tensor, state='after epoch 8', noise=0.3, estimator='kernel')
        values = {row['stride']: (row['nats'], row['deviation']) for row in own}
        lines[name] = color, [
            (nats, nats - deviation, nats + deviation)
            for nats, deviation in map(values.__getitem__, (8, 16, 32, 'all'))]
    plot_means(axes, ('stride 8', 'stride 16', 'stride 32', 'mean'), lines, style='o')
    axes.set(ylabel='information passed, nats (from 40)', ylim=(40, 70))
    axes.set_xlabel('by the kernel estimator, at the middle one of three levels of noise')
    axes.legend(frameon=False, ncols=3, loc='upper center')
    return 'In the mean, less passes with wide shortcuts than with narrow ones'


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
    axes.set(ylim=(3.5, -0.5), xlabel='top-1 on CIFAR-10 at width 0.35 in percent, each run and the mean')
    dress(axes, 'x')
    return 'At width 0.35, only the first machine gives wide a lead'


PICTURES = dict(
    equal=(2.6, draw_equal), shortcut=(5.6, draw_shortcut), depthwise=(3.6, draw_places), linear=(3.4, draw_ends),
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
    parser.add_argument('-o', '--output', type=Path, default=DOCS, metavar='DIR', help='folder to draw to')
    args = parser.parse_args()
    for what, value in (*figures(), *details()):
        print(f'{what}: {value}')
    for name in PICTURES:
        draw(name, args.output)
    if args.detail:
        for file in sorted(WHY.glob('*/args.json')):
            redraw(file.parent)


if __name__ == '__main__':
    main()
