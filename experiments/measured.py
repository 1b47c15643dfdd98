"""What an instrument measured: the rows that it wrote, their means, and its pictures from the rows alone."""
import math
from pathlib import Path
from typing import Any, Dict, List, Optional

from experiments.report import shrink
from experiments.runs import read_rows
from timm_mobilenext.analysis.plots import draw_gradients, draw_information
from timm_mobilenext.analysis.tables import mean_and_spread, Rows

ORDER = 'mobilenext_075', 'mobilenetv2_075', 'wide', 'inverted', 'narrow', 'none'  # of colors
WORDS = ('model', 'state', 'weights', 'block', 'group', 'kind', 'estimator')


def read(file: Path) -> List[Dict[str, Any]]:
    """Rows of an instrument, with their numbers."""
    def parse(key: str, value: str) -> Any:
        if key in WORDS or key == 'stride' and value == 'all':
            return value
        return value == 'True' if key == 'keeps_shape' else int(value) if key in ('place', 'tensor') else float(value)

    return [{key: parse(key, value) for key, value in row.items()} for row in read_rows(file)]


def select(rows: Rows, **values: Any) -> List[Dict[str, Any]]:
    """Rows that have these values."""
    return [row for row in rows if all(row[key] == value for key, value in values.items())]


def by_seed(rows: Rows, key: str, geometric: bool = False, within: Optional[str] = None) -> Dict[float, float]:
    """The mean of each seed, or its logarithm if it is geometric."""
    means = {}
    for seed in sorted({row['seed'] for row in rows}):
        mean, _ = mean_and_spread(select(rows, seed=seed), key, geometric, within)
        means[seed] = math.log(mean) if geometric else mean
    return means


def redraw(folder: Path) -> None:
    """Draw again what an instrument measured, networks in the order of their colors."""
    def rows(name: str) -> List[Dict[str, Any]]:
        return sorted(read(folder / f'{name}.csv'), key=lambda row: ORDER.index(row['model']))

    is_gradients = (folder / 'blocks.csv').is_file()
    file = folder / ('gradients.png' if is_gradients else 'information.png')
    if is_gradients:
        draw_gradients(file, {table: rows(table) for table in ('blocks', 'parameters', 'confusion')})
    else:
        draw_information(file, *(rows(table) for table in ('information', 'probes', 'ranking')))
    shrink(file, file)
