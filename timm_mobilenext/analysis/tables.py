""" Rows of what was measured: means, their spread, and CSV files"""
import csv
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
import torch

import timm

from ..shared.errors import UserError
from ..shared.files import replacing

__all__ = [
    'check_output', 'mean_and_spread', 'name_strides', 'Rows', 'shared', 'show', 'states',
    'write_results',
]

Rows = Sequence[Dict[str, Any]]


def mean_and_spread(
        rows: Iterable[Dict[str, Any]], key: str, geometric: bool = False, within: Optional[str] = None,
) -> Tuple[float, float]:
    """ Mean, and its deviation over seeds, or over batches where there is one seed.

    Args:
        rows: Rows, each with its `seed`, and perhaps its `batch`; those without a number (NaN) are left out.
        key: What to take the mean of.
        geometric: Geometric means and the deviation as a factor, for what is multiplied from block to block. One 0
            makes the mean 0.
        within: Column each of whose values weighs the same, however many rows have it.

    Returns:
        Mean and deviation, NaN where there are no numbers, or too few to have a deviation.
    """
    values: Dict[Any, Dict[Any, List[float]]] = defaultdict(lambda: defaultdict(list))
    rows = [row for row in rows if not math.isnan(row[key])]
    spread_over = 'seed' if len({row['seed'] for row in rows}) > 1 else 'batch'
    for row in rows:
        value = row[key]
        value = (math.log(value) if value > 0 else -math.inf) if geometric else value
        values[row.get(spread_over)][row[within] if within else None].append(value)
    means = np.array([np.mean([np.mean(part) for part in of.values()]) for of in values.values()])
    mean = means.mean() if len(means) else math.nan
    deviation = means.std(ddof=1) if len(means) > 1 and np.isfinite(means).all() else math.nan
    return (math.exp(mean), math.exp(deviation)) if geometric else (float(mean), float(deviation))


def shared(rows: Rows, key: str, by: Sequence[str] = ('model',)) -> List[Dict[str, Any]]:
    """ Rows whose value in a column comes in every network that has rows at all: what can be compared."""
    values: Dict[Any, Set[Any]] = defaultdict(set)
    for row in rows:
        values[tuple(row[column] for column in by)].add(row[key])
    common = set.intersection(*values.values()) if values else set()
    return [row for row in rows if row[key] in common]


def show(mean: float, deviation: float, digits: int = 3, geometric: bool = False) -> str:
    """ A mean and its deviation as people write them."""
    if math.isnan(deviation):
        return f'{mean:.{digits}g}'
    return f'{mean:.{digits}g} ×/ {deviation:.{digits}g}' if geometric else f'{mean:.{digits}g} ± {deviation:.2g}'


def name_strides(rows: Rows) -> str:
    """ Strides of rows as people write them; what gives no feature map has the stride 0."""
    strides = sorted({row['stride'] for row in rows})
    names = ', '.join(f'{stride:g}' if stride else 'none (no feature maps)' for stride in strides)
    return f'strides {names}' if names else 'no common stride'


def states(rows: Rows) -> List[Tuple[str, str]]:
    """ Models and states of their weights, in the order in which they come."""
    return list(dict.fromkeys((row['model'], row['state']) for row in rows))


def write_csv(file: Path, rows: Rows) -> None:
    """ Write rows, numbers to six digits."""
    with open(file, 'w', newline='') as lines:
        writer = csv.DictWriter(lines, list(rows[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(
            {key: f'{value:.6g}' if isinstance(value, float) else value for key, value in row.items()} for row in rows)


def check_output(output: Path) -> None:
    """ Raise a UserError if an output folder can't be written, or holds something."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f'{output} exists: give another name, nothing is overwritten.')
    if not output.absolute().parent.is_dir():
        raise UserError(f'{output.parent} is no folder: make it, or write elsewhere.')


def write_results(
        output: Path, tables: Mapping[str, Rows], arguments: Dict[str, Any], picture: str, draw: Callable[[Path], None],
) -> None:
    """ Write a folder whole or not at all: a CSV of each table, args.json, and a picture.

    Raises:
        UserError: If the folder has come to hold something meanwhile.
    """
    check_output(output)
    with replacing(output) as new:
        new.mkdir()
        for name, rows in tables.items():
            write_csv(new / f'{name}.csv', rows)
        versions = dict(torch=torch.__version__, timm=timm.__version__)
        (new / 'args.json').write_text(json.dumps({**arguments, **versions}, indent=2) + '\n')
        draw(new / picture)
