"""Text in pictures: class names of any language, as they are."""
import io
import warnings
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from timm_mobilenext.classify.plots import draw_predictions
from timm_mobilenext.classify.predict import Prediction
from timm_mobilenext.detection.predict import draw_boxes
from timm_mobilenext.shared import style
from timm_mobilenext.shared.style import legible, load_font, plot_text

pytestmark = pytest.mark.tools

NAMES = [
    '$10 to $20', r'$\frac$', r'a\$b', 'été à Noël', 'кошка', 'γάτα', 'חתול', 'قطة', '猫', 'บ้าน', '🐈', 'line\nbreak',
    'a long name ' * 100, 'caf\udce9', '\0', '']


@pytest.mark.parametrize('text, drawn', [
    *[(name, name) for name in ('$10 to $20', 'été à Noël', 'Größe', 'кошка', 'γάτα', 'mèo', 'חתול', 'قطة')],
    ('猫', 'U+732B'),
    ('a 猫狗b', 'a U+732B U+72D7 b'),
    ('บ้าน', 'U+0E1A U+0E49 U+0E32 U+0E19'),
    (' line\r\nbreak\tand\u2028more ', 'line break and more'),
    ('caf\udce9', 'caf U+DCE9'),
    ('a\0\x07', 'a U+0000 U+0007'),
    ('mobilenext_035   74 %', 'mobilenext_035   74 %'),
    ('', ''),
])
def test_text_of_any_language_is_legible(text, drawn):
    assert legible(text, 12) == drawn


def test_long_text_is_cut_at_a_width():
    text = legible('a long name ' * 100, 9, 100)
    assert text.startswith('a long') and text.endswith('…') and 85 < load_font(9).getlength(text) <= 100
    assert legible('a' * 100_000, 9, 1) == '…'


def render(text, **kwargs):
    figure, file = Figure(figsize=(3, 1)), io.BytesIO()
    figure.text(0.1, 0.5, text, **kwargs)
    figure.savefig(file, format='png')
    return Image.open(file).tobytes()


@pytest.mark.parametrize('text', ['$10 to $20', r'$\frac$', r'a\$b', r'\$a$ $'])
def test_dollar_is_not_mathematics(text):
    assert render(plot_text(text)) == render(text, parse_math=False)


def test_pictures_of_predictions_with_such_names(tmp_path):
    image = Image.new('RGB', (40, 30))
    predictions = [Prediction(Path('a.png'), image, [(name, 0.1)] * 3) for name in NAMES]
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # a glyph that the font lacks
        draw_predictions(tmp_path / 'out.png', r'local-dir:$models$/猫/\frac$', predictions)
    assert (tmp_path / 'out.png').stat().st_size > 10_000


def draw(name, width=300):
    box = dict(box=[10, 60, 90, 90], score=0.5, **{'class': name})
    return draw_boxes(Image.new('RGB', (width, 100)), [box], [name])


def test_labels_of_boxes_have_the_letters_of_their_classes():
    """Letters that a font lacks all look the same."""
    for one, other in ('кошка', 'собак'), ('γάτα', 'σκύλ'), ('éèàùô', 'àùôéè'), ('猫', '狗'):
        assert draw(one).tobytes() != draw(other).tobytes()
    assert draw('line\nbreak').tobytes() == draw('line break').tobytes()
    for name in NAMES:
        draw(name)


def test_label_of_a_box_is_not_wider_than_its_image():
    long = draw('a long name ' * 100)
    assert long.crop((270, 0, 300, 60)).tobytes() != Image.new('RGB', (30, 60)).tobytes()
    assert long.tobytes() == draw('a long name ' * 200).tobytes()


@pytest.fixture
def no_matplotlib(monkeypatch):
    def forget():
        load_font.cache_clear()
        style._look.cache_clear()

    forget()
    monkeypatch.setattr(style, 'find_spec', lambda name: None)
    yield
    forget()


def test_without_matplotlib_the_font_of_pil_draws(no_matplotlib):
    assert legible('cell', 12) == 'cell' and legible('я', 12) == 'U+044F'
    assert draw('cell').tobytes() != draw('call').tobytes()
