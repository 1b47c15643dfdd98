"""Tools that show a network to others, or keep it for them."""
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.tools]


def test_gradio(use, photographs):
    answer = use('gradio', photographs / 'cat.jpg')
    assert answer['label'] == 'cat' and [each['label'] for each in answer['confidences']] == ['cat', 'frog', 'dog']
    assert answer['confidences'][0]['confidence'] == pytest.approx(0.692, abs=5e-4)


def test_mlflow(use, photographs):
    found = use('mlflow', photographs / 'cat.jpg')
    assert found['params'] == dict(model='mobilenext_050.cifar10') and found['metrics'] == dict(score=found['score'])
    assert found['loaded'] == pytest.approx(found['score'], abs=1e-5) == pytest.approx(0.692, abs=5e-4)
