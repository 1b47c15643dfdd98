"""The recipes of hub_configs/, held to train.py's own argument parser and started."""
import importlib.util

import pytest
import yaml
from runs import epochs_of, run, TIMM_REPO
from test_recipes import RECIPES, ROOT

pytestmark = pytest.mark.tools


@pytest.fixture(scope='module')
def options():
    """train.py's arguments, by name; it takes an unknown key of a recipe in silence."""
    spec = importlib.util.spec_from_file_location('timm_train', TIMM_REPO / 'train.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {action.dest: action for action in module.parser._actions}


@pytest.mark.parametrize('recipe', RECIPES)
def test_train_py_has_every_key_and_takes_its_value(options, recipe):
    for key, value in yaml.safe_load((ROOT / recipe).read_text()).items():
        assert key in options, f'train.py has no argument {key!r}'
        option = options[key]
        if option.nargs == 0:
            assert value is True
        else:
            # what a command line would have made of it: defaults of a file are not converted
            values = value if option.nargs else [value]
            assert [(option.type or str)(str(item)) for item in values] == values
            assert not option.choices or value in option.choices


@pytest.mark.parametrize('recipe', RECIPES)
def test_recipe_starts_and_trains(few, tmp_path, recipe):
    printed = run(
        'train.py', '--config', ROOT / recipe, '--data-dir', few, '--output', tmp_path, '--experiment', 'out',
        '--epochs', 2, '--warmup-epochs', 1, '--num-classes', 10, '--img-size', 32, '--batch-size', 32, '--lr', 1e-3,
        '--workers', 1, '--device', 'cpu', '--log-interval', 1)
    assert printed.count('Train: 1 [') == 5
    # cooldown, where there is one, comes after
    assert [row['epoch'] for row in epochs_of(tmp_path / 'out')][:2] == [0, 1]
