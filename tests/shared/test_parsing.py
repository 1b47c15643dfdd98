""" JSON and YAML of strangers, in every file that is read"""
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from timm_mobilenext.cli.main import app
from timm_mobilenext.detection.evaluate import read_detections
from timm_mobilenext.detection.formats import Found, read_coco
from timm_mobilenext.hub.folders import read_config
from timm_mobilenext.hub.labels import read_label_names
from timm_mobilenext.hub.runs import read_args
from timm_mobilenext.shared.errors import UserError

pytestmark = pytest.mark.tools


@pytest.mark.parametrize('name, read', [
    ('config.json', lambda file: read_config(file.parent)),
    ('names.json', read_label_names),
    ('train.json', lambda file: read_coco(file.parent, file.name, Found())),
    ('found.json', lambda file: read_detections(file, SimpleNamespace())),
    ('args.yaml', lambda file: read_args({}, file.with_name('last.pth.tar'))),
])
def test_nested_too_deeply(tmp_path, name, read):
    (tmp_path / name).write_text('[' * 200_000)
    with pytest.raises(UserError, match=f'{name} .*nested too deeply'):
        read(tmp_path / name)


@pytest.mark.parametrize('content', ['[' * 200_000, 'epochs: 2026-99-99'])
def test_recipe_that_is_not_yaml(tmp_path, content):
    (tmp_path / 'recipe.yaml').write_text(content)
    result = CliRunner().invoke(app, ['detect', 'train', '--config', str(tmp_path / 'recipe.yaml'), '-o', 'out'])
    assert result.exit_code == 1 and 'recipe.yaml is not YAML: ' in result.output
