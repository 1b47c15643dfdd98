"""Two networks that an instrument measured, side by side: the ratios and intervals of results/why/README.md.

    python -m experiments.compare results/why/gradients mobilenext_075 mobilenetv2_075
    python -m experiments.compare results/why/arms-information wide narrow:1              # its second tensor
    python -m experiments.compare results/why/arms-information wide narrow:1 --shared     # blocks that both compare

The first is compared with the second at each stride that all networks of the folder have, and in the mean of these
strides, as in the tables of the commands. Intervals are Student's t over pairs of one seed, at 95 %. Where one network
has a single checkpoint, its seeds are choices of images alone. A gradient's ratio is geometric.
"""
import argparse
import math
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

from rich.console import Console
from rich.table import Table

from experiments.measured import by_seed, read, select
from experiments.statistics import differences, stratified_effect
from timm_mobilenext.analysis.gradients import comparisons
from timm_mobilenext.analysis.tables import mean_and_spread, Rows, shared

Line = Tuple[str, ...]


def block_of(row: Dict[str, Any]) -> str:
    return row['block'] if 'block' in row else row['group']  # of weights


def mean(values: Dict[float, float]) -> float:
    return sum(values.values()) / len(values)


class Pair:
    """Two networks of a folder, each with the number of its tensor, and the blocks that are left out."""

    def __init__(self, first: str, second: str, without: Sequence[str], only_shared: bool):
        self.sides = [(model, float(tensor or 0)) for model, _, tensor in (s.partition(':') for s in (first, second))]
        self.without = without
        self.only_shared = only_shared

    def split(self, rows: Rows) -> List[List[Dict[str, Any]]]:
        """Rows of the first network, and of the second."""
        sides = [
            [row for row in rows if (row['model'], row.get('tensor', tensor)) == (model, tensor)]
            for model, tensor in self.sides]
        for (model, tensor), side in zip(self.sides, sides, strict=True):
            if not side:
                known = ', '.join(dict.fromkeys(row['model'] for row in rows))
                raise SystemExit(f'No rows of tensor {tensor:g} of {model}: there are networks {known}.')
        first, second = ({block_of(row) for row in side} for side in sides)
        kept = (first & second if self.only_shared else first | second) - set(self.without)
        return [[row for row in side if block_of(row) in kept] for side in sides]

    def common_states(self, rows: Rows) -> List[str]:
        """States of the weights in which both networks were measured."""
        first, second = (dict.fromkeys(row['state'] for row in side) for side in self.split(rows))
        return [state for state in first if state in second]

    def groups(
            self, rows: Rows, column: str, states: Sequence[str],
    ) -> Iterator[Tuple[str, str, List[List[Dict[str, Any]]]]]:
        """Rows of both networks in each state: all of them, and those of each value of a column."""
        first, second = sides = self.split(rows)
        values = sorted({row[column] for row in first} & {row[column] for row in second})
        for state in states if values else ():
            yield state, 'all', [select(side, state=state) for side in sides]
            for value in values:
                name = value if isinstance(value, str) else f'{column} {value:g}'
                yield state, name, [select(side, **{'state': state, column: value}) for side in sides]


def gradients(folder: Path, pair: Pair) -> Iterator[Line]:
    """Geometric ratios of what the command compares."""
    blocks = read(folder / 'blocks.csv')
    states = pair.common_states(blocks)
    for what, rows, key, within in comparisons(blocks, read(folder / 'parameters.csv')):
        for state, place, sides in pair.groups(rows, within, states):
            first, second = (by_seed(side, key, True, within) for side in sides)
            effect = stratified_effect([differences(first, second)])
            yield (state, what, place, *(f'{math.exp(mean(values)):.3g}' for values in (first, second)),
                   *(f'{math.exp(value):.2f}' for value in (effect.mean, effect.low, effect.high)))


def information(folder: Path, pair: Pair) -> Iterator[Line]:
    """Ratios over all levels of noise and estimators, and how many of their intervals leave 0 out."""
    rows = [row for row in read(folder / 'information.csv') if row['keeps_shape']]
    kept = shared(rows, 'stride', by=('model', 'tensor'))
    questions = dict.fromkeys((row['noise'], row['estimator']) for row in kept)
    for state, place, sides in pair.groups(kept, 'stride', pair.common_states(kept)):
        ratios, effects = [], []
        for noise, estimator in questions:
            first, second = (
                by_seed(select(side, noise=noise, estimator=estimator), 'nats', within='stride') for side in sides)
            ratios.append(mean(first) / mean(second))
            effects.append(stratified_effect([differences(first, second)]))
        yield (state, place, f'{min(ratios):.2f} to {max(ratios):.2f}', str(sum(effect.low > 0 for effect in effects)),
               str(sum(effect.high < 0 for effect in effects)), str(len(effects)),
               *(f'{mean_and_spread(side, "explained_out", within="stride")[0]:.2f}' for side in sides))


def probes(folder: Path, pair: Pair) -> Iterator[Line]:
    """Differences of what probes read of the last block at each stride."""
    rows = read(folder / 'probes.csv')
    first_model, second_model = (model for model, _ in pair.sides)
    pair = Pair(first_model, second_model, pair.without, False)
    for state, place, sides in pair.groups(rows, 'stride', pair.common_states(rows)):
        if place == 'all':
            continue
        last = [max(side, key=lambda row: row['place'])['block'] for side in sides]
        for key, name, digits in (('top1', 'top-1', 1), ('pixels', 'pixels', 3)):
            first, second = (by_seed(select(side, block=block), key) for side, block in zip(sides, last, strict=True))
            effect = stratified_effect([differences(first, second)])
            yield (state, name, place, *last, *(f'{mean(values):.{digits}f}' for values in (first, second)),
                   *(f'{value:+.{digits}f}' for value in (effect.mean, effect.low, effect.high)))


def single_trainings(rows: Rows, models: Sequence[str]) -> Iterator[str]:
    """Words for each state in which a network has several seeds of one checkpoint: choices of images."""
    for model in models:
        for state in dict.fromkeys(row['state'] for row in select(rows, model=model)):
            own = select(rows, model=model, state=state)
            if len({row['weights'] for row in own}) < len({row['seed'] for row in own}):
                yield f'{model}, {state}: one training. The interval is too narrow, for seeds choose images alone.'


# of each instrument: a file that it leaves, what makes the table, and the title and the headings of this
TABLES: Tuple[Tuple[str, Callable[[Path, Pair], Iterator[Line]], str, Line], ...] = (
    ('blocks.csv', gradients, 'Gradients, the first by the second',
     ('state', 'what', 'at', 'first', 'second', 'ratio', 'low', 'high')),
    ('information.csv', information, 'Information, the first by the second, over levels of noise and estimators',
     ('state', 'at', 'ratios', 'intervals above', 'below', 'of', 'variance kept of outputs', 'of the second')),
    ('probes.csv', probes, 'What is read of the last block at each stride, the first less the second',
     ('state', 'what', 'at', 'block', 'block', 'first', 'second', 'difference', 'low', 'high')),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, help='what `timm-mobilenext analyze` wrote')
    parser.add_argument('first', help='a network of it, or NETWORK:1 for the second tensor of its blocks')
    parser.add_argument('second', help='another, by which the first is compared')
    parser.add_argument('--without', nargs='+', default=(), metavar='BLOCK', help='blocks to leave out')
    parser.add_argument('--shared', action='store_true', help='only blocks that both networks have')
    args = parser.parse_args()
    tables = [table for table in TABLES if (args.folder / table[0]).is_file()]
    if not tables:
        raise SystemExit(f'{args.folder} holds none of {", ".join(table[0] for table in TABLES)}.')
    console = Console(highlight=False, markup=False, width=160)
    for _, make, title, headings in tables:
        table = Table(*headings, title=title, title_justify='left', box=None, pad_edge=False)
        for line in make(args.folder, Pair(args.first, args.second, args.without, args.shared)):
            table.add_row(*line)
        console.print(table)
    pair = Pair(args.first, args.second, (), False)
    for line in single_trainings(read(args.folder / tables[0][0]), [model for model, _ in pair.sides]):
        console.print(line)


if __name__ == '__main__':
    main()
