"""timm-mobilenext models: a row for each of ours, of the same figures as its model card."""
import re

import pytest
from helpers import MODELS, OFFLINE, ROOT, run_cli

pytestmark = pytest.mark.tools

WEIGHTS = dict.fromkeys(
    ['mobilenext_100', 'mobilenext_100_id050', 'mobilenext_s', 'mobilenext_l', 'mobilenext_l_ghost'], 'official_in1k')
WEIGHTS['mobilenext_050'] = 'cifar10'


def test_rows_are_the_model_cards():
    printed = run_cli(OFFLINE, 'models')
    rows = [re.split(r' {2,}', line.strip()) for line in printed.partition('\n\n')[0].splitlines()]
    assert rows[0] == ['model', 'parameters', 'MACs', 'image size', 'top-1', 'on', 'weights']
    assert sorted(row[0] for row in rows[1:]) == sorted(MODELS)
    for name, params, macs, size, top1, dataset, weights in rows[1:]:
        card = (ROOT / 'hub_configs' / name / 'README.md').read_text()
        assert f'| Parameters | {params.replace(" ", "")} |' in card
        assert f'| MACs | {macs.replace(" ", "")} |' in card
        assert f'| Image size | {size.split()[0]} x {size.split()[0]} |' in card
        reported = re.search(r'\| ImageNet-1k top-1(?:, top-5)? \| ([\d.]+)', card)
        assert [top1, dataset] == ([f'{float(reported[1]):.2f} %', 'ImageNet-1k'] if reported else ['-', '-'])
        assert weights == WEIGHTS.get(name, '-')
