"""What any input may lead to, a result or an error that a user can read, and inputs that nobody expects.

`make fuzz` runs the files beside this one: COUNT=10000 says how many inputs, SEED=1 which ones.
"""
import contextlib
import copy
import io
import json
import os
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st

from timm_mobilenext.cli.errors import explain

__all__ = ['damaged', 'fuzz', 'is_told', 'is_whole_or_gone', 'STRANGE', 'tell', 'twisted']

COUNT, SEED = int(os.environ.get('COUNT', 1000)), int(os.environ.get('SEED', 0))
MAX_LINES, MAX_CHARACTERS = 3, 2500
LONG = 'x' * 5000
STRANGE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from([
        LONG, '', ' ', '0', '-1', '1e999', 'nan', '\x1b[31m', '\n\n', '$\\frac$', [], {}, [[[]]], {'': {}}, 10 ** 40]),
    st.lists(st.integers(-2, 2) | st.text(max_size=3), max_size=5),
    st.dictionaries(st.text(max_size=5), st.integers(-2, 2) | st.text(max_size=3), max_size=3),
)


def fuzz(share: float = 1., is_quick: bool = True):
    """Run a test on this share of the inputs that `make fuzz` was asked for.

    Each is given twenty seconds. An input that fails is made smaller, where that is quick.
    """
    def decorate(test):
        options = dict(deadline=timedelta(seconds=20)) if is_quick else dict(deadline=None, phases=[Phase.generate])
        return seed(SEED)(settings(
            max_examples=max(1, round(COUNT * share)), database=None, suppress_health_check=list(HealthCheck),
            **options)(test))
    return decorate


def tell(function, *args, errors: tuple = (), **kwargs) -> str:
    """Call a function, to what a user reads of its error: '' if there is none.

    Args:
        function: What is called. What it prints is not shown.
        errors: Errors of ours that it may raise too, beside what a command tells of a user's mistake.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            function(*args, **kwargs)
    except Exception as error:
        message, code = (str(error), 1) if isinstance(error, errors) else explain(error)
        if code != 1:
            raise
        is_told(message)
        return message
    return ''


def is_told(message: str) -> None:
    """A message that a user can read."""
    assert message.strip() and len(message.splitlines()) <= MAX_LINES and len(message) <= MAX_CHARACTERS, message
    assert 'Traceback' not in message and 'weights_only=False' not in message and LONG[:1000] not in message, message


def is_whole_or_gone(output: Path) -> None:
    """A folder has a whole model, or is not there, and nothing is half written beside it."""
    assert [file.name for file in output.parent.iterdir() if file.name.startswith('.')] == []
    assert not output.exists() or {'config.json', 'model.safetensors', 'README.md'} <= {
        file.name for file in output.iterdir()}


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """Content of a file after some accidents: bytes that changed, were lost, came twice, or never belonged there."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        # mostly where headers are
        end = draw(st.sampled_from([16, 128, len(data)]))
        place = draw(st.integers(0, max(0, min(end, len(data)) - 1)))
        accident = draw(st.sampled_from(['change', 'lose', 'end', 'repeat', 'insert']))
        size = draw(st.integers(1, 40))
        if accident == 'change':
            data[place:place + 1] = bytes([draw(st.integers(0, 255))])
        elif accident == 'lose':
            del data[place:place + size]
        elif accident == 'end':
            del data[place:]
        elif accident == 'repeat':
            data[place:place] = data[place:place + size]
        else:
            data[place:place] = draw(st.binary(max_size=size))
    return bytes(data)


def places(value, path=()):
    """Paths to all values within lists and dicts."""
    if path:
        yield path
    if isinstance(value, (dict, list)):
        for key in (list(value) if isinstance(value, dict) else range(len(value))):
            yield from places(value[key], (*path, key))


@st.composite
def twisted(draw, value):
    """Plain data of which some values are others, or are gone, or are there twice."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 4))):
        paths = list(places(value))
        if not paths:
            break
        *path, key = draw(st.sampled_from(paths))
        parent = value
        for step in path:
            parent = parent[step]
        change = draw(st.sampled_from(['replace', 'replace', 'replace', 'text', 'remove', 'repeat']))
        if change == 'replace':
            parent[key] = copy.deepcopy(draw(STRANGE))  # what was drawn once may be drawn again
        elif change == 'text':
            parent[key] = str(parent[key])
        elif change == 'remove':
            del parent[key]
        elif isinstance(parent, list):
            parent.append(parent[key])
    return value
