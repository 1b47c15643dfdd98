"""docs/why.md and its details say what the rows say, and the pictures are drawn from them."""
import re

import pytest
from PIL import Image

why = pytest.importorskip('experiments.why', reason='needs scipy and matplotlib, of the extra demo')
evidence = pytest.importorskip('experiments.evidence', reason='needs scipy and matplotlib, of the extra demo')
tin100 = pytest.importorskip('experiments.tin100', reason='needs scipy and matplotlib, of the extra demo')

pytestmark = pytest.mark.tools
PAGE = (why.DOCS / 'why.md').read_text(encoding='utf-8')
WORDS = ' '.join(PAGE.split())
DETAILS = ' '.join((why.WHY / 'README.md').read_text(encoding='utf-8').split())


@pytest.mark.parametrize('words, value', [
    *((WORDS, value) for _, value in evidence.figures()), *((DETAILS, value) for _, value in evidence.details())])
def test_figures_stand_in_their_page(words, value):
    numbers = re.findall(r'[+-]?\d+(?:\.\d+)?(?: to [+-]\d+\.\d+)?', value)
    assert numbers and all(re.search(rf'(?<![\d.]){re.escape(number)}(?![\d.]*\d)', words) for number in numbers)


def test_readme_has_these_effects_in_their_rows():
    readme = (why.DOCS.parent / 'README.md').read_text(encoding='utf-8')
    equal, narrow = ([line for line in readme.splitlines() if line.startswith(start)] for start in (
        '| 2 points better than MobileNetV2', '| a wide shortcut is'))
    assert [len(equal), len(narrow)] == [1, 1]
    effect, runs = evidence.headline()
    (built, built_runs), (place, place_runs), _ = (
        evidence.lead_of_runs(*pair, evidence.ARMS) for pair in evidence.SHORTCUTS.values())
    arms = evidence.read_arms()
    pairs = [('wide', 'narrow'), ('wide-050', 'narrow-050')]
    for row, shown in [
            (equal, f'{effect.mean:+.2f} points ([{runs} runs]'), (equal, f'{effect.low:+.2f} to {effect.high:+.2f}.'),
            (equal, f'a lead of {evidence.smallest_of_headline():.2f} points'),
            *((equal, f'{100 * (ratio - 1):.0f} % more {what}') for what, ratio in evidence.costs().items()
              if what != 'MACs'),
            *((equal, part) for part in evidence.show(evidence.cifar10()).split(', ')),
            *((narrow, part) for part in evidence.show(evidence.lead(arms, *pairs)).split(', ')),
            (narrow, f'{built.mean:+.2f} points ([{built_runs} runs]'),
            (narrow, f'{built.low:+.2f} to {built.high:+.2f}'),
            (narrow, f'{place.mean:+.2f} with as many shortcuts in both ({place_runs} runs)'),
            (narrow, f'{place.low:+.2f} to {place.high:+.2f}')]:
        assert shown in row[0]


def test_effects_of_the_page():
    shown = evidence.show(evidence.cifar10()).partition(' points, ')
    assert f'{shown[0]} ({shown[2]})' in WORDS
    arms = evidence.read_arms()
    for pairs in (('before', 'after'),), (('wide', 'narrow'), ('wide-050', 'narrow-050')):
        shown = evidence.show(evidence.lead(arms, *pairs)).partition(' points, ')
        assert f'{shown[0]} ({shown[2]})' in WORDS


def test_table_of_shortcuts():
    claims = tin100.TABLES['shortcut'].claims
    assert {frozenset(pair) for pair in evidence.SHORTCUTS.values()} == {frozenset(claim) for claim in claims}
    for pair in evidence.SHORTCUTS.values():
        effect, runs = evidence.lead_of_runs(*pair, evidence.ARMS)
        assert f'| {effect.mean:+.2f} | {effect.low:+.2f} to {effect.high:+.2f} | {runs} |' in PAGE


@pytest.mark.parametrize('task', ['signs', 'scenes'])
def test_claim_of_transfer(task):
    claim, = (line for line in PAGE.splitlines() if line.startswith('| 5. '))
    effect, runs = evidence.transfer(task)
    assert f'{effect.mean:+.2f} ({effect.low:+.2f} to {effect.high:+.2f}), {runs} fine-tunings' in claim


def test_pairs_share_a_seed():
    # seeds 2 and 3: differences 1 and 3, mean 2, an error of 1, t of 1 degree 12.706
    arms = dict(one={1: 9.0, 2: 5.0, 3: 7.0}, two={4: 1.0, 3: 4.0, 2: 4.0})
    effect = evidence.lead(arms, ('one', 'two'))
    assert effect.mean == 2 and effect.high == pytest.approx(2 + 12.706, abs=1e-3)
    arms['two'][1] = 0.0
    assert evidence.lead(arms, ('one', 'two'), seeds=(2, 3)) == effect
    assert evidence.lead(arms, ('one', 'two')).mean == pytest.approx(13 / 3)


def test_page_shows_each_picture_once():
    assert sorted(re.findall(r'\(why-(\w+)\.png\)', PAGE)) == sorted(why.PICTURES)


@pytest.mark.parametrize('name', why.PICTURES)
def test_picture(name, tmp_path):
    why.draw(name, tmp_path)
    for file in (tmp_path / f'why-{name}.png', why.DOCS / f'why-{name}.png'):
        assert file.stat().st_size < 120_000
        with Image.open(file) as picture:
            assert picture.width == 2 * 880 and picture.mode == 'P'
