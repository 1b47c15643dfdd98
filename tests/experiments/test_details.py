"""Tables of results/why/README.md and intervals of both pages are what experiments.compare and the reports say."""
import re
from functools import cache
from typing import Dict, List, Set, Tuple

import pytest

compare = pytest.importorskip('experiments.compare', reason='needs scipy and matplotlib, of the extra demo')
evidence = pytest.importorskip('experiments.evidence', reason='needs scipy and matplotlib, of the extra demo')

pytestmark = pytest.mark.tools

WHY = evidence.WHY
STATES = evidence.STATES
PAGE, ARGUMENT = ((WHY.parents[1] / name).read_text(encoding='utf-8') for name in (
    'results/why/README.md', 'docs/why.md'))
OURS = 'gradients', *evidence.MODELS
BEHIND_CHANGES = 'blocks.4.1', 'blocks.6.1'  # blocks that follow a change of channels


@cache
def compute(table, folder, first, second, without=(), only_shared=False) -> List[Tuple[str, ...]]:
    return list(table(WHY / folder, compare.Pair(first, second, without, only_shared)))


def gradient_cells(*arguments, **options) -> Dict[Tuple[str, str, str], str]:
    """Ratio and interval by what was measured, where, and in which state."""
    lines = compute(compare.gradients, *arguments, **options)
    return {
        (what, 'mean' if place == 'all' else place, state): f'{ratio} ({low} to {high})'
        for state, what, place, _, _, ratio, low, high in lines}


def information_cells(*arguments, **options) -> Dict[Tuple[str, str], str]:
    """Ratios and the number of intervals on one side, by place and state."""
    cells = {}
    for state, place, ratios, above, below, *_ in compute(compare.information, *arguments, **options):
        side = f'{above} above' if above != '0' else f'{below} below' if below != '0' else 'none'
        cells['mean' if place == 'all' else place, state] = f'{ratios} ({side})'
    return cells


def probe_cells(*arguments) -> Dict[Tuple[str, str], str]:
    """Differences by what is read where, and state."""
    lines = compute(compare.probes, *arguments)
    return {
        (f'{what}, {place}'.replace('top-1', 'class'), state): f'{difference} ({low} to {high})'
        for state, what, place, _, _, _, _, difference, low, high in lines}


def gradient_table() -> List[str]:
    cells = gradient_cells(*OURS)
    return [
        f'| {what} | {place} | ' + ' | '.join(cells[what, place, state] for state in STATES) + ' |'
        for what, place, state in cells if state == STATES[0]]


def shortcut_table() -> List[str]:
    table = []
    for other in 'narrow', 'none', 'inverted':
        cells = gradient_cells('arms-gradients', 'wide', other)
        for what, place, state in cells:
            if state == STATES[0] and (place == 'mean' or what == 'norm at blocks'):
                row = ' | '.join(cells[what, place, state] for state in STATES)
                table += [f'| {other} | {what} | {row} |'] if place == 'mean' else []
                table += [f'| {other} | {place} | {row} |'] if what == 'norm at blocks' else []
    return table


def information_table() -> List[str]:
    arms = 'arms-information-64', 'wide'
    tables = (
        [information_cells('information', *evidence.MODELS)],
        [information_cells(*arms, 'narrow:1'), information_cells(*arms, 'inverted')],
        [information_cells(*arms, 'narrow:1', only_shared=True)])
    return [
        f'| {place} | ' + ' | '.join(cells[place, state] for cells in table for state in STATES) + ' |'
        for table in tables for place, state in table[0] if state == STATES[0]]


def probe_table() -> List[str]:
    tables = (
        [probe_cells('information', *evidence.MODELS)],
        [probe_cells('arms-information-64', 'wide', other) for other in ('narrow:1', 'inverted')])
    return [
        f'| {state.replace("initial", "before training")}: {what} | ' + ' | '.join(
            cells[what, state] for cells in table) + ' |'
        for table in tables for what, state in table[0]]


@pytest.mark.parametrize('make, rows', [
    (gradient_table, 18), (shortcut_table, 27), (information_table, 12), (probe_table, 32)])
def test_tables_of_the_details(make, rows):
    table = make()
    assert len(table) == rows
    assert [row for row in table if row not in PAGE.splitlines()] == []


def known_intervals() -> Set[str]:
    """Bounds of all that compare, the reports and the figures of the page have."""
    known = []
    for arguments in (
            OURS, (*OURS, ('blocks.7.0',)), (*OURS, BEHIND_CHANGES), ('schemes', *evidence.MODELS),
            *(('arms-gradients', 'wide', other) for other in ('narrow', 'none', 'inverted')),
            ('arms-gradients', 'wide', 'narrow', BEHIND_CHANGES)):
        known += gradient_cells(*arguments).values()
    for arguments in (
            ('information', *evidence.MODELS),
            *((f, 'wide', other) for f in ('arms-information', 'arms-information-64')
              for other in ('narrow:1', 'inverted'))):
        known += probe_cells(*arguments).values()
    known += [value for make in (evidence.figures, evidence.details) for _, value in make()]
    known += [(WHY.parent / report).read_text(encoding='utf-8') for report in (
        'why/ablations.md', 'tin100/README.md', 'transfer/README.md', 'training/README.md', 'detection/README.md')]
    return set(re.findall(r'(?:[+-])?\d+\.\d+ to [+-]?\d+\.\d+', '\n'.join(known)))


def test_intervals_of_the_pages():
    known = known_intervals()
    signless = {interval.replace('+', '') for interval in known}
    for page, least in (PAGE, 20), (ARGUMENT, 15):
        shown = re.findall(r'\(([+-]?\d+\.\d+ to [+-]?\d+\.\d+)[,)]', ' '.join(page.split()))
        assert len(shown) > least
        assert [interval for interval in shown if interval not in known | signless] == []


def test_ratios_of_the_argument():
    known = {
        cell.partition(')')[0] for cells in (
            gradient_cells(*OURS), gradient_cells('schemes', *evidence.MODELS),
            gradient_cells('arms-gradients', 'wide', 'narrow')) for cell in cells.values()}
    shown = re.findall(r'(\d\.\d\d) times (\(\d\.\d\d to \d\.\d\d)\)', ' '.join(ARGUMENT.split()))
    assert len(shown) > 6 and {f'{ratio} {bounds}' for ratio, bounds in shown} <= known
