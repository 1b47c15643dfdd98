""" Rows of what was measured: means, their spread, and CSV files"""
import csv
import json
import math
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
import torch

import timm

from ..shared.files import replacing
from ..shared.paths import check_new_folder
from .settings import AnalysisSettings

__all__ = [
    'mean_and_spread', 'name_strides', 'Rows', 'shared', 'show', 'states', 'write_results',
]

Rows = Sequence[Dict[str, Any]]


def mean_and_spread(
        rows: Iterable[Dict[str, Any]], key: str, geometric: bool = False, within: Optional[str] = None,
) -> Tuple[float, float]:
    """ Mean of a column, and its deviation over seeds. With a single seed, the deviation is over batches.

    Args:
        rows: Rows, each with its `seed`, and perhaps its `batch`. Rows without a number (NaN) are left out.
        key: Column to take the mean of.
        geometric: Take the geometric mean, with the deviation as a factor, of what is multiplied from block to block.
            A single 0 makes the mean 0.
        within: Column whose values have equal weight, however many rows each has.

    Returns:
        Mean and deviation. NaN without any numbers, or with too few for a deviation.
    """
    values: Dict[Any, Dict[Any, List[float]]] = defaultdict(lambda: defaultdict(list))
    rows = [row for row in rows if not math.isnan(row[key])]
    spread_over = 'seed' if len({row['seed'] for row in rows}) > 1 else 'batch'
    for row in rows:
        value = row[key]
        value = (math.log(value) if value > 0 else -math.inf) if geometric else value
        values[row.get(spread_over)][row[within] if within else None].append(value)
    means = np.array([np.mean([np.mean(part) for part in parts.values()]) for parts in values.values()])
    mean = means.mean() if len(means) else math.nan
    deviation = means.std(ddof=1) if len(means) > 1 and np.isfinite(means).all() else math.nan
    return (math.exp(mean), math.exp(deviation)) if geometric else (float(mean), float(deviation))


def shared(rows: Rows, key: str, by: Sequence[str] = ('model',)) -> List[Dict[str, Any]]:
    """ Rows that can be compared: their value in a column occurs in every network that has rows at all.

    Args:
        rows: Rows of several networks.
        key: Column to compare.
        by: Columns that say which network a row is of.
    """
    values: Dict[Any, Set[Any]] = defaultdict(set)
    for row in rows:
        values[tuple(row[column] for column in by)].add(row[key])
    common = set.intersection(*values.values()) if values else set()
    return [row for row in rows if row[key] in common]


def show(mean: float, deviation: float, digits: int = 3, geometric: bool = False) -> str:
    """ A mean and its deviation as text."""
    if math.isnan(deviation):
        return f'{mean:.{digits}g}'
    return f'{mean:.{digits}g} ×/ {deviation:.{digits}g}' if geometric else f'{mean:.{digits}g} ± {deviation:.2g}'


def name_strides(rows: Rows) -> str:
    """ Strides of rows as text. The stride is 0 for a tensor that is not a feature map."""
    strides = sorted({row['stride'] for row in rows})
    names = ', '.join(f'{stride:g}' if stride else 'none (no feature maps)' for stride in strides)
    return f'strides {names}' if names else 'no common stride'


def states(rows: Rows) -> List[Tuple[str, str]]:
    """ Models and states of their weights, in the order of the rows."""
    return list(dict.fromkeys((row['model'], row['state']) for row in rows))


def write_csv(file: Path, rows: Rows) -> None:
    """ Write rows, with six digits of each number."""
    # the path of a checkpoint may be of any language, and not even UTF-8
    with open(file, 'w', newline='', encoding='utf-8', errors='backslashreplace') as lines:
        writer = csv.DictWriter(lines, list(rows[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(
            {key: f'{value:.6g}' if isinstance(value, float) else value for key, value in row.items()} for row in rows)


def write_results(
        settings: AnalysisSettings,
        tables: Mapping[str, Rows],
        more: Mapping[str, Any],
        picture: str,
        draw: Callable[[Path], None],
) -> None:
    """ Write the output folder as a whole or not at all: a CSV file of each table, args.json, and a picture.

    Args:
        settings: The call, which args.json keeps.
        tables: Rows of each table by its name.
        more: What else args.json keeps.
        picture: Name of the picture.
        draw: Function that draws it to a file.

    Raises:
        UserError: If something has been written to the folder meanwhile.
    """
    check_new_folder(settings.output)
    arguments = {**asdict(settings), 'data': settings.data_dir.name, **more}
    arguments = {key: value for key, value in arguments.items() if key not in ('data_dir', 'output')}
    versions = dict(torch=torch.__version__, timm=timm.__version__)
    with replacing(settings.output) as new:
        new.mkdir()
        for name, rows in tables.items():
            write_csv(new / f'{name}.csv', rows)
        (new / 'args.json').write_text(json.dumps({**arguments, **versions}, indent=2) + '\n')
        draw(new / picture)
