"""The recipes of hub_configs/, as files. tests/scripts/test_recipe_runs.py holds them to train.py and starts them."""
from pathlib import Path

import pytest
import yaml
from helpers import MODELS, RECIPES, ROOT

import timm

pytestmark = pytest.mark.tools

OTHERS = ['mobilenext_100', 'mobilenext_s', 'mobilenext_l', 'mobilenext_l_ghost']


def read(model):
    return yaml.safe_load((ROOT / 'hub_configs' / model / 'train.yaml').read_text())


def test_every_model_has_a_recipe_of_its_own():
    assert {read(name)['model'] for name in timm.list_models(module='mobilenext')} == set(
        timm.list_models(module='mobilenext'))
    for recipe in RECIPES:
        text = (ROOT / recipe).read_text()
        assert f'--config {recipe}' in text and 'learning rate' in text
        assert yaml.safe_load(text)['model'] == Path(recipe).parent.name.partition('.')[0]


@pytest.mark.parametrize('model', [name for name in MODELS if name not in OTHERS])
def test_widths_multipliers_and_attention_share_the_recipe_of_width_1(model):
    assert read(model) == dict(read('mobilenext_100'), model=model)


def test_recipes_are_the_authors():
    """What the authors' logs say, in the arguments of today's train.py."""
    ours = read('mobilenext_100')
    assert (ours['opt'], ours['momentum'], ours['lr'], ours['sched']) == ('sgd', 0.9, 0.1, 'cosine')
    assert (ours['epochs'], ours['cooldown_epochs'], ours['warmup_epochs'], ours['warmup_lr']) == (200, 10, 3, 1e-4)
    assert (ours['weight_decay'], ours['batch_size'], ours['smoothing'], ours['color_jitter']) == (1e-4, 64, 0.1, 0.4)
    assert ours['drop'] == 0.2 and 'model_ema' not in ours
    for model, epochs, batch_size, lr in (
            ('mobilenext_s', 500, 128, 0.12), ('mobilenext_l', 500, 64, 0.12), ('mobilenext_l_ghost', 550, 64, 0.048)):
        ours = read(model)
        assert (ours['epochs'], ours['batch_size'], ours['lr']) == (epochs, batch_size, lr)
        assert (ours['opt'], ours['opt_eps'], ours['sched']) == ('rmsproptf', 1e-3, 'step')
        assert (ours['decay_epochs'], ours['decay_rate'], ours['weight_decay']) == (2.4, 0.97, 1e-5)
        assert (ours['warmup_epochs'], ours['warmup_lr'], ours['model_ema_decay']) == (3, 1e-6, 0.9999)
        assert (ours['drop'], ours['drop_path']) == (0.2, 0.2)
        augmentation = {key: ours[key] for key in ('aa', 'reprob', 'remode') if key in ours}
        assert augmentation == (
            dict(aa='rand-m9-mstd0.5', reprob=0.2, remode='pixel') if model == 'mobilenext_l_ghost' else {})
