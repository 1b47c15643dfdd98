"""What is published about this package in files of its own: each says what pyproject.toml and the sources say."""
import re
from pathlib import Path

import pytest
import yaml

from timm_mobilenext.version import __version__, TIMM_OLDEST

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

pytestmark = pytest.mark.tools

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())
PROJECT = PYPROJECT['project']
IN_CONDA = {'torch': 'pytorch'}  # all other names are the same


@pytest.fixture(scope='module')
def recipe():
    """conda/recipe.yaml, with its own variables in their places"""
    text = (ROOT / 'conda' / 'recipe.yaml').read_text()
    context = yaml.safe_load(text)['context']
    return yaml.safe_load(re.sub(r'\$\{\{ (\w+) \}\}', lambda name: context.get(name[1], name[0]), text))


def rename(requirement):
    name, space, version = requirement.partition(' ')
    return IN_CONDA.get(name, name) + space + version


def test_conda_recipe_needs_what_pip_installs(recipe):
    python = f'python {PROJECT["requires-python"]}'
    assert recipe['requirements']['run'] == [python, *map(rename, PROJECT['dependencies'])]
    assert f'timm >={TIMM_OLDEST}' in recipe['requirements']['run']
    built_with = [line.replace('>=', ' >=') for line in PYPROJECT['build-system']['requires']]
    oldest = python.replace('>=', '') + '.*'
    assert recipe['requirements']['host'] == [oldest, 'pip', *built_with]


def test_conda_recipe_describes_the_package(recipe):
    assert recipe['package'] == dict(name=PROJECT['name'], version=__version__)
    commands = [f'{name} = {function}' for name, function in PROJECT['scripts'].items()]
    assert recipe['build']['python']['entry_points'] == commands
    assert recipe['about']['summary'] == PROJECT['description']
    assert recipe['about']['license'] == PROJECT['license']
    assert recipe['about']['license_file'] == PROJECT['license-files']
    assert recipe['about']['repository'] == PROJECT['urls']['Repository']
    assert recipe['about']['documentation'] == PROJECT['urls']['Documentation']


def test_nothing_installs_by_a_name_that_anyone_may_take():
    folders = 'benchmarks', 'docs', 'examples', 'experiments', 'hub_configs', 'timm_mobilenext', 'web'
    files = [file for folder in folders for file in (ROOT / folder).rglob('*') if 'node_modules' not in file.parts]
    files = [file for file in (*ROOT.glob('*.md'), *files) if file.suffix in ('.md', '.py')]
    assert len(files) > 100
    # with an extra, pip adds to what is installed already
    by_name = re.compile(r'pip install (?:[\w.=-]+ )*timm-mobilenext(?![\w/\[])')
    assert [str(file) for file in files if by_name.search(file.read_text(encoding='utf-8'))] == []


def test_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert (citation['title'], citation['version']) == (PROJECT['name'], __version__)


def test_release_is_attested_before_it_is_published():
    jobs = yaml.safe_load((ROOT / '.github' / 'workflows' / 'release.yml').read_text())['jobs']
    assert jobs['publish']['permissions'] == {'id-token': 'write', 'attestations': 'write'}
    uses = [step['uses'].partition('@')[0] for step in jobs['publish']['steps']]
    assert uses.index('actions/attest') < uses.index('pypa/gh-action-pypi-publish')
    # it builds nothing itself: what it publishes is what these jobs built and tested
    assert jobs['publish']['needs'] == 'test' and jobs['test']['uses'] == './.github/workflows/ci.yml'


def test_oldest_and_newest_python_are_tested():
    jobs = yaml.safe_load((ROOT / '.github' / 'workflows' / 'ci.yml').read_text())['jobs']
    named = [line.rpartition(' ')[2] for line in PROJECT['classifiers'] if ':: Python :: 3.' in line]
    assert jobs['test']['strategy']['matrix']['python'] == named
    assert jobs['wheel']['strategy']['matrix'] == dict(python=[named[0], named[-1]], timm=['oldest', 'newest'])


def test_photographs_have_authors_and_licences():
    text = (ROOT / 'timm_mobilenext' / 'photographs' / 'README.md').read_text(encoding='utf-8')
    rows = dict(re.findall(r'^\| `(\S+)` \| \w+ \| [^|]+ \| ([^|]+) \|', text, flags=re.M))
    assert set(rows) == {file.name for file in (ROOT / 'timm_mobilenext' / 'photographs').glob('*.jpg')}
    assert set(rows.values()) == {'CC0 1.0', 'public domain'}
