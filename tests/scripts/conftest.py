"""Image folders and a training that the tests of timm's scripts share."""
from pathlib import Path

import pytest
from runs import SKIP, train

from timm_mobilenext.classify.demo import write_digits


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents and SKIP:
            item.add_marker(pytest.mark.skip(reason=SKIP))


@pytest.fixture(scope='session')
def digits(tmp_path_factory):
    """scikit-learn's handwritten digits as an image folder: 1433 scans to train, 364 to validate."""
    folder = tmp_path_factory.mktemp('data') / 'digits'
    write_digits(folder)
    return folder


@pytest.fixture(scope='session')
def few(digits):
    """Sixteen scans of each digit to train, four to validate."""
    return subset(digits, 'few', range(10), 16, 4)


@pytest.fixture(scope='session')
def three(digits):
    """Of the digits 0, 1 and 2."""
    return subset(digits, 'three', range(3), 16, 8)


def subset(digits, name, classes, train_count, validation_count):
    folder = digits.with_name(name)
    for split, count in (('train', train_count), ('validation', validation_count)):
        for digit in map(str, classes):
            (folder / split / digit).mkdir(parents=True, exist_ok=True)
            for file in sorted((digits / split / digit).iterdir())[:count]:
                (folder / split / digit / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture(scope='session')
def trained(digits, tmp_path_factory):
    """A training of ten epochs, with averaged weights and all its checkpoints."""
    output = tmp_path_factory.mktemp('runs') / 'trained'
    ema = '--model-ema', '--model-ema-decay', 0.9, '--checkpoint-hist', 10
    train(output, digits, *ema, epochs=10)
    return output
