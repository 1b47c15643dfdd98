"""hub_configs/: a config.json and a model card for each model, of facts that live elsewhere."""
import json
import re
from pathlib import Path

import pytest
import torch
from helpers import MODELS, SHIPPED
from huggingface_hub import constants, metadata_load, ModelCard
from typer.testing import CliRunner

import timm

from timm_mobilenext.cli.main import app

pytestmark = [pytest.mark.tools, pytest.mark.slow]

FOLDER = Path(__file__).parents[2] / 'hub_configs'


def card_of(name):
    return ModelCard.load(FOLDER / name / 'README.md')


def test_folder_has_not_drifted(tmp_path):
    """If this fails: timm-mobilenext cards"""
    result = CliRunner().invoke(app, ['cards', '--output', str(tmp_path)])
    assert result.exit_code == 0, result.output

    def contents(folder):
        files = (file for file in folder.rglob('*') if file.is_file())
        # recipes, which are there too, are written by hand
        return {str(f.relative_to(folder)): f.read_text() for f in files if f.name in ('config.json', 'README.md')}

    assert contents(tmp_path) == contents(FOLDER)
    assert {path.name for path in FOLDER.iterdir()} == {*MODELS, SHIPPED, 'ssdlite320_mobilenext_100'}


@pytest.mark.parametrize('name', [*MODELS, SHIPPED])
def test_config_is_what_timm_reads(name, tmp_path):
    """With the weights of a model beside it, a folder of ours is one of timm's."""
    model = timm.create_model(name).eval()
    (tmp_path / 'config.json').write_bytes((FOLDER / name / 'config.json').read_bytes())
    torch.save(model.state_dict(), tmp_path / 'pytorch_model.bin')
    loaded = timm.create_model(f'local-dir:{tmp_path}', pretrained=True).eval()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())
    keys = (
        'input_size', 'mean', 'std', 'crop_pct', 'crop_mode', 'interpolation', 'num_classes', 'label_names',
        'first_conv', 'classifier',
    )
    for key in keys:
        ours, timms = loaded.pretrained_cfg.get(key), model.pretrained_cfg.get(key)
        assert (tuple(ours) if isinstance(ours, list) else ours) == timms
    # transformers passes it a second time
    assert 'num_classes' not in json.loads((FOLDER / name / 'config.json').read_text()).get('model_args', {})


@pytest.mark.parametrize('name', MODELS)
def test_card_is_what_the_hub_reads(name):
    card = card_of(name)
    cfg = timm.get_pretrained_cfg(name)
    data = card.data
    assert data.library_name == 'timm' and data.pipeline_tag == 'image-classification' and 'timm' in data.tags
    assert data.license == cfg.license == ('bsd-3-clause-clear' if cfg.url else 'apache-2.0')
    assert f'{sum(p.numel() for p in timm.create_model(name).parameters()) / 1e6:.2f}M' in card.content
    if cfg.url:
        assert data.datasets == ['imagenet-1k'] and data.metrics == ['accuracy']
        results = {result.metric_name: result.metric_value for result in data.eval_results}
        assert cfg.notes == (f"ImageNet-1k top-1 {results['Top-1']}, top-5 {results['Top-5']} in the authors' log",)
        assert 'pretrained=True' in card.content and cfg.url in card.content
    else:
        assert data.eval_results is None and 'pretrained=True' not in card.content


def test_cards_pass_the_hubs_validation(hub, monkeypatch):
    """By the rules that the Hub has made public. `make test-cards` asks the Hub itself."""
    monkeypatch.setattr(constants, 'ENDPOINT', hub.url)
    for name in [*MODELS, SHIPPED]:
        card = card_of(name)
        card.validate()
        # huggingface_hub reads all of it, and loses nothing
        assert card.data.to_dict() == metadata_load(FOLDER / name / 'README.md')


@pytest.mark.parametrize('old, new, fault', [
    ('license: bsd-3-clause-clear', 'license: clear-bsd', '"license" must be one of'),
    ('datasets:\n- imagenet-1k', 'datasets:\n- ImageNet 1k', '"datasets" with value "ImageNet 1k" fails'),
    ('type: imagenet-1k', 'type: ImageNet 1k', 'results[0].dataset.type" with value "ImageNet 1k" fails to match'),
    ('value: 74.022', 'value: much', 'results[0].metrics[0].value" is required'),
])
def test_that_validation_finds_faults(hub, monkeypatch, old, new, fault):
    monkeypatch.setattr(constants, 'ENDPOINT', hub.url)
    text = (FOLDER / 'mobilenext_100' / 'README.md').read_text()
    assert old in text
    with pytest.raises(ValueError) as e:
        ModelCard(text.replace(old, new, 1), ignore_metadata_errors=True).validate()
    assert fault in json.loads(str(e.value))['errors'][0]['message']


@pytest.mark.parametrize('name, accuracy', [
    ('mobilenext_075', '72.0 (as the authors report)'),
    ('mobilenext_100_se', '74.7 (as the paper of Coordinate Attention reports, 74.0 without attention)'),
    ('mobilenext_100_ca', '75.2 (as the paper of Coordinate Attention reports, 74.0 without attention)'),
    ('mobilenext_050_ca', None),
])
def test_card_without_weights_says_so_and_whose_figures_are_quoted(name, accuracy):
    content = card_of(name).content
    assert 'This model has no ImageNet-1k weights yet: the authors released none.' in content
    if accuracy:
        assert f'| ImageNet-1k top-1 | {accuracy} |' in content
    else:
        assert 'top-1 |' not in content and 'reports no accuracy at this width' in content
    papers = ['2007.02269', *(['2103.02907'] if name[-2:] in ('se', 'ca') else [])]
    assert re.findall(r'\(https://arxiv.org/abs/([\d.]+)\)', content) == papers
    assert content.count('@inproceedings') == len(papers)
    assert json.loads((FOLDER / name / 'config.json').read_text())['pretrained_cfg']['notes'] == list(
        timm.get_pretrained_cfg(name).notes)


def test_card_of_shipped_weights_describes_them_and_shows_no_local_path():
    card, cfg = card_of(SHIPPED), timm.get_pretrained_cfg(SHIPPED)
    assert card.data.license == 'apache-2.0'
    top1, top5 = (result.metric_value for result in card.data.eval_results)
    assert cfg.notes[0] == f"CIFAR-10 top-1 {top1}, top-5 {top5} by timm's validate.py" and top1 >= 80
    # the data are a copy that lost something, so the card does not lead to the lossless original
    assert 'JPEG of quality 75' in card.content and card.data.datasets is None
    assert {result.dataset_type for result in card.data.eval_results} == {'cifar10-jpeg'}
    assert f'{Path(cfg.file).stat().st_size / 1e6:.1f} MB' in card.content and Path(cfg.file).stat().st_size < 4e6
    assert f'create_model("{SHIPPED}", pretrained=True)' in card.content and ', '.join(cfg.label_names) in card.content
    config = (FOLDER / SHIPPED / 'config.json').read_text()
    assert str(Path(cfg.file).parent) not in card.content + config and json.loads(config)['num_classes'] == 10


@pytest.mark.parametrize('name', ['mobilenext_140', 'mobilenext_l_ghost', SHIPPED])
def test_usage_in_the_card_runs(name):
    """The code, without weights and pictures."""
    code = card_of(name).content.split('### Feature maps')[1].split('## Citation')[0]
    snippets = [part.split('```')[0].replace(', pretrained=True', '') for part in code.split('```python')[1:]]
    namespace = dict(timm=timm, torch=torch)
    for snippet in snippets:
        exec(snippet, namespace)
    said = snippets[0].rpartition('# ')[2].strip().split(', ')
    assert said == [' x '.join(map(str, x.shape[1:])) for x in namespace['maps']]
    assert f"(1, {namespace['embedding'].shape[1]})" in snippets[1]
