"""Two networks that an instrument measured, side by side: the ratios and intervals of docs/why.md.

    python -m experiments.compare results/why/gradients mobilenext_075 mobilenetv2_075
    python -m experiments.compare results/why/arms-information wide narrow:1              # its second tensor
    python -m experiments.compare results/why/arms-information wide narrow:1 --shared     # blocks that both compare

The first by the second, at each stride that all networks of the folder have and in the mean of these, as the commands'
own tables have it; intervals are Student's t of pairs of one seed, at 95 %. Where one network has a single checkpoint,
its seeds are choices of images alone. A gradient's ratio is geometric.
"""
import argparse
import csv
import math
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from rich.console import Console
from rich.table import Table

from experiments.training import effect_of
from timm_mobilenext.analysis.gradients import comparisons
from timm_mobilenext.analysis.tables import mean_and_spread, Rows, shared

WORDS = ('model', 'state', 'weights', 'block', 'group', 'kind', 'estimator')
Row = Tuple[str, ...]


def read(file: Path) -> List[Dict[str, Any]]:
    with open(file, newline='') as lines:
        return [{key: value if key in WORDS else value == 'True' if key == 'keeps_shape' else float(value)
                 for key, value in row.items()} for row in csv.DictReader(lines)]


def select(rows: Rows, **values: Any) -> List[Dict[str, Any]]:
    return [row for row in rows if all(row[key] == value for key, value in values.items())]


def block_of(row: Dict[str, Any]) -> str:
    return row['block'] if 'block' in row else row['group']  # of weights


def by_seed(rows: Rows, key: str, geometric: bool = False, within: Optional[str] = None) -> Dict[float, float]:
    """The mean of each seed, its logarithm if geometric."""
    means = {}
    for seed in sorted({row['seed'] for row in rows}):
        mean, _ = mean_and_spread(select(rows, seed=seed), key, geometric, within)
        means[seed] = math.log(mean) if geometric else mean
    return means


def differences(first: Dict[float, float], second: Dict[float, float]) -> List[float]:
    return [first[seed] - second[seed] for seed in first if seed in second]


class Pair:
    """Two networks of a folder, each with the number of its tensor, and what is left out of both."""

    def __init__(self, first: str, second: str, without: Sequence[str], only_shared: bool):
        self.sides = [(model, float(tensor or 0)) for model, _, tensor in (s.partition(':') for s in (first, second))]
        self.without = without
        self.only_shared = only_shared

    def of(self, rows: Rows) -> List[List[Dict[str, Any]]]:
        """Rows of either network."""
        each = [
            [row for row in rows if (row['model'], row.get('tensor', tensor)) == (model, tensor)]
            for model, tensor in self.sides]
        for (model, tensor), of in zip(self.sides, each, strict=True):
            if not of:
                known = ', '.join(dict.fromkeys(row['model'] for row in rows))
                raise SystemExit(f'No rows of tensor {tensor:g} of {model}: there are networks {known}.')
        blocks = [{block_of(row) for row in of} for of in each]
        kept = (blocks[0] & blocks[1] if self.only_shared else blocks[0] | blocks[1]) - set(self.without)
        return [[row for row in of if block_of(row) in kept] for of in each]

    def at_each(
            self, rows: Rows, column: str, states: Sequence[str],
    ) -> Iterator[Tuple[str, str, List[List[Dict[str, Any]]]]]:
        """Rows of either network in each state, all of them and by each value of a column."""
        first, second = self.of(rows)
        values = sorted({row[column] for row in first} & {row[column] for row in second})
        for state in states if values else ():
            yield state, 'all', [select(of, state=state) for of in (first, second)]
            for value in values:
                name = value if isinstance(value, str) else f'{column} {value:g}'
                yield state, name, [select(of, **{'state': state, column: value}) for of in (first, second)]


def common_states(rows: Rows, pair: Pair) -> List[str]:
    told = [dict.fromkeys(row['state'] for row in of) for of in pair.of(rows)]
    return [state for state in told[0] if state in told[1]]


def gradients(folder: Path, pair: Pair) -> Iterator[Row]:
    blocks = read(folder / 'blocks.csv')
    for what, rows, key, within in comparisons(blocks, read(folder / 'parameters.csv')):
        for state, at, each in pair.at_each(rows, within, common_states(blocks, pair)):
            first, second = (by_seed(of, key, True, within) for of in each)
            effect = effect_of([differences(first, second)])
            yield (state, what, at, *(f'{math.exp(sum(of.values()) / len(of)):.3g}' for of in (first, second)),
                   *(f'{math.exp(value):.2f}' for value in (effect.mean, effect.low, effect.high)))


def information(folder: Path, pair: Pair) -> Iterator[Row]:
    rows = [row for row in read(folder / 'information.csv') if row['keeps_shape']]
    kept = shared(rows, 'stride', by=('model', 'tensor'))
    questions = dict.fromkeys((row['noise'], row['estimator']) for row in kept)
    for state, at, each in pair.at_each(kept, 'stride', common_states(kept, pair)):
        ratios, effects = [], []
        for noise, estimator in questions:
            first, second = (
                by_seed(select(of, noise=noise, estimator=estimator), 'nats', within='stride') for of in each)
            ratios.append(sum(first.values()) / len(first) * len(second) / sum(second.values()))
            effects.append(effect_of([differences(first, second)]))
        yield (state, at, f'{min(ratios):.2f} to {max(ratios):.2f}', str(sum(effect.low > 0 for effect in effects)),
               str(sum(effect.high < 0 for effect in effects)), str(len(effects)),
               *(f'{mean_and_spread(of, "explained_out", within="stride")[0]:.2f}' for of in each))


def probes(folder: Path, pair: Pair) -> Iterator[Row]:
    rows = read(folder / 'probes.csv')
    pair = Pair(*(model for model, _ in pair.sides), pair.without, False)
    for state, at, each in pair.at_each(rows, 'stride', common_states(rows, pair)):
        if at != 'all':
            last = [max(of, key=lambda row: row['place'])['block'] for of in each]
            for key, name, digits in (('top1', 'top-1', 1), ('pixels', 'pixels', 3)):
                first, second = (
                    by_seed(select(of, block=block), key) for of, block in zip(each, last, strict=True))
                effect = effect_of([differences(first, second)])
                yield (state, name, at, *last, *(f'{sum(of.values()) / len(of):.{digits}f}' for of in (first, second)),
                       *(f'{value:+.{digits}f}' for value in (effect.mean, effect.low, effect.high)))


# of each instrument: a file that it leaves, the table made of it, what that is and its headings
TABLES: Tuple[Tuple[str, Callable[[Path, Pair], Iterator[Row]], str, Row], ...] = (
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
    parser.add_argument('second')
    parser.add_argument('--without', nargs='+', default=(), metavar='BLOCK', help='blocks to leave out')
    parser.add_argument('--shared', action='store_true', help='only blocks that are compared of both networks')
    args = parser.parse_args()
    tables = [table for table in TABLES if (args.folder / table[0]).is_file()]
    if not tables:
        raise SystemExit(f'{args.folder} holds none of {", ".join(table[0] for table in TABLES)}.')
    console = Console(highlight=False, markup=False, width=160)
    for _, make, title, headings in tables:
        table = Table(*headings, title=title, title_justify='left', box=None, pad_edge=False)
        for row in make(args.folder, Pair(args.first, args.second, args.without, args.shared)):
            table.add_row(*row)
        console.print(table)


if __name__ == '__main__':
    main()
