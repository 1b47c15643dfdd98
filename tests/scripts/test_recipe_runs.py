"""The recipes of hub_configs/, held to train.py's own argument parser and started."""
import importlib.util
import math
from pathlib import Path

import pytest
import yaml
from helpers import ONE_WIDTH, RECIPES, ROOT, SHIPPED
from runs import epochs_of, run, TIMM_REPO

pytestmark = [pytest.mark.tools, pytest.mark.slow]


@pytest.fixture(scope='module')
def options():
    """train.py's arguments, by name. It takes an unknown key of a recipe in silence."""
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


@pytest.mark.parametrize('recipe', [file for file in RECIPES if Path(file).parent.name in (*ONE_WIDTH, SHIPPED)])
def test_recipe_starts_and_trains(few, tmp_path, recipe):
    here = dict(
        data_dir=str(few), output=str(tmp_path), experiment='out', epochs=2, warmup_epochs=1, cooldown_epochs=0,
        num_classes=10, img_size=32, batch_size=32, workers=1, device='cpu', log_interval=1)
    flags = [str(item) for key, value in here.items() for item in (f'--{key.replace("_", "-")}', value)]
    printed = run('train.py', '--config', ROOT / recipe, *flags)
    assert printed.count('Train: 1 [') == 5
    rows, told = epochs_of(tmp_path / 'out'), yaml.safe_load((ROOT / recipe).read_text())
    assert [row['epoch'] for row in rows] == [0, 1] and all(math.isfinite(row['eval_loss']) for row in rows)
    args = yaml.safe_load((tmp_path / 'out' / 'args.yaml').read_text())
    assert {key: args[key] for key in told} == {**told, **{key: here[key] for key in told if key in here}}
    if 'lr_base' in told:  # which train.py scales by the batch
        assert f'Learning rate ({told["lr_base"] * (32 / told["lr_base_size"]) ** 0.5}' in printed
