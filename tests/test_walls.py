"""The walls of the house, read from the imports of its files. CONTRIBUTING.md describes them."""
import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Dict, Iterator, Optional, Tuple

import pytest

pytestmark = pytest.mark.tools

ROOT = Path(__file__).parents[1]
FLOORS = dict(shared=0, checkpoints=1, models=2, hub=2, classify=3, detection=3, analysis=3, cli=4)
# whom a file may know beside its own folder; timm hands the models out, so no tool needs models/
DOORS = {
    **{room: {low for low in FLOORS if FLOORS[low] < FLOORS[room] and low != 'models'} for room in FLOORS},
    '__init__': {'models'}, '__main__': {'cli'}, 'version': set(),
}


def imported(node: ast.AST, folder: Tuple[str, ...]) -> Iterator[str]:
    """Full names of all that is imported under a node, in functions too, but not for type checkers alone."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        start = folder[:len(folder) + 1 - node.level] if node.level else ()
        yield from ('.'.join(filter(None, (*start, node.module, alias.name))) for alias in node.names)
    for_types_alone = isinstance(node, ast.If) and ast.unparse(node.test).endswith('TYPE_CHECKING')
    for child in node.orelse if for_types_alone else ast.iter_child_nodes(node):
        yield from imported(child, folder)


def read(folder: str) -> Dict[str, str]:
    """Sources of the modules in a folder, by their full names."""
    files = sorted((ROOT / folder).rglob('*.py'))
    return {'.'.join(file.relative_to(ROOT).with_suffix('').parts): file.read_text() for file in files}


PACKAGE, SCRIPTS = read('timm_mobilenext'), {**read('experiments'), **read('benchmarks')}
SOURCES = {**PACKAGE, **SCRIPTS}
NAMES = {
    module: set(imported(ast.parse(source), tuple(module.split('.')[:-1])))
    for module, source in SOURCES.items()}


def find(name: str) -> Optional[str]:
    """Our own module that has a name, or in which it is."""
    while name and not {name, f'{name}.__init__'} & SOURCES.keys():
        name = name.rpartition('.')[0]
    return name if name in SOURCES else f'{name}.__init__' if name else None


KNOWN = {module: {find(name) for name in names} - {None} for module, names in NAMES.items()}


def test_a_file_knows_its_own_folder_and_lower_floors():
    room = {module: module.split('.')[1] for module in SOURCES}
    broken = [
        f'{module} imports {other}' for module in PACKAGE for other in sorted(KNOWN[module])
        if other not in PACKAGE or room[other] not in {room[module], 'version', *DOORS[room[module]]}]
    assert not broken, '\n'.join(broken)


def test_no_circle():
    TopologicalSorter(KNOWN).prepare()


def test_what_is_private_in_timm_is_asked_for_in_one_file():
    private = re.compile(r'\btimm\.models\._')
    users = [module for module in SOURCES if any(map(private.search, [SOURCES[module], *NAMES[module]]))]
    assert users == ['timm_mobilenext.models._timm']


def test_no_script_imports_a_script():
    scripts = {module for module in SCRIPTS if "__name__ == '__main__'" in SCRIPTS[module]}
    broken = []
    for module in SCRIPTS:
        folder = module.rpartition('.')[0]  # whose files a script finds by their bare names
        known = KNOWN[module] | {find(f'{folder}.{name}') for name in NAMES[module]}
        broken += [f'{module} imports {other}' for other in sorted(known & scripts - {module})]
    assert scripts and not broken, '\n'.join(broken)
