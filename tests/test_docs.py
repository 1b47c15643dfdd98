"""Links in the texts lead to files and headings that are there, and pages that are made of something agree with it."""
import re
import runpy
from pathlib import Path
from typing import List, Set
from urllib.parse import unquote

import pytest

import timm

from timm_mobilenext.shared.counts import count

pytestmark = pytest.mark.tools

ROOT = Path(__file__).parents[1]
FOLDERS = ['benchmarks', 'docs', 'experiments', 'hub_configs', 'results', 'tests', 'timm_mobilenext']
FOUND = sorted([*ROOT.glob('*.md'), *(text for folder in FOLDERS for text in (ROOT / folder).rglob('*.md'))])
TEXTS = [text for text in FOUND if 'node_modules' not in text.parts]


def read_prose(text: Path) -> str:
    """Text without its blocks of code."""
    return re.sub(r'^ *```.*?^ *```', '', text.read_text(encoding='utf-8'), flags=re.M | re.S)


def find_links(text: Path) -> List[str]:
    """Links that are not addresses on the web."""
    prose = re.sub(r'`[^`]*`', '', read_prose(text))
    return re.findall(r'\]\((?!https?:|mailto:)([^)\s]+)\)', prose)


def find_anchors(text: Path) -> Set[str]:
    """Anchors that GitHub gives to the headings: their words in lower case, joined by hyphens."""
    anchors: Set[str] = set()
    for heading in re.findall(r'^#+ +(.*?)[ #]*$', read_prose(text), flags=re.M):
        words = re.sub(r'\]\([^)]*\)', '', heading)  # of a link, its text
        slug = re.sub(r'[^\w\- ]', '', words.lower()).replace(' ', '-')
        copies = (f'{slug}-{n}' if n else slug for n in range(len(anchors) + 1))
        anchors.add(next(copy for copy in copies if copy not in anchors))
    return anchors


def find_fault(text: Path, link: str) -> str:
    """What is wrong with a link, or nothing."""
    path, _, anchor = unquote(link).partition('#')
    target = text.parent / path if path else text
    if not target.exists():
        return f'{link}: there is no {path}'
    if anchor and anchor not in find_anchors(target):
        return f'{link}: {target.name} has no such heading'
    return ''


@pytest.mark.parametrize('text', TEXTS, ids=lambda text: str(text.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(text):
    faults = [find_fault(text, link) for link in find_links(text)]
    assert [fault for fault in faults if fault] == []


def test_links_are_found():
    """A pattern that finds nothing would pass the test above."""
    assert {'docs/demo.png', 'docs/models.md'} <= set(find_links(ROOT / 'README.md'))


COUNTS = re.compile(r'`(mobilene\w+)` \|(?:[^|\n]*\|){0,2}? ([\d.]+M|[\d,]{7,}) \| ([\d.]+M) \|')


@pytest.mark.parametrize('page, number', [('README.md', 10), ('docs/models.md', 17)])
def test_networks_have_the_counts_of_the_page(page, number):
    found = COUNTS.findall((ROOT / page).read_text(encoding='utf-8'))
    assert len(found) == number
    for name, params, macs in found:
        counts = count(timm.create_model(name, device='meta'), (3, 224, 224))
        shown = f'{counts["params"] / 1e6:.2f}M' if params.endswith('M') else f'{counts["params"]:,}'
        assert (params, macs) == (shown, f'{counts["macs"] / 1e6:.1f}M'), name


def test_page_of_public_names_has_not_drifted():
    """If this fails: python docs/api.py"""
    import timm_mobilenext
    from timm_mobilenext import detection
    from timm_mobilenext.models import mobilenext

    page = (ROOT / 'docs' / 'api.md').read_text(encoding='utf-8')
    assert page == runpy.run_path(str(ROOT / 'docs' / 'api.py'))['make_page']()
    rows = re.findall(r'^\| `(\w+)', page, flags=re.M)
    assert sorted(rows) == sorted({*timm_mobilenext.__all__, *detection.__all__, *mobilenext.__all__})
