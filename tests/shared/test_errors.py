""" What messages are made of"""
import pytest

from timm_mobilenext.shared.errors import first_line, shown, UserError

pytestmark = pytest.mark.tools


def test_user_error_is_caught_as_both():
    for kind in (ValueError, RuntimeError):
        with pytest.raises(kind, match='mend it'):
            raise UserError('mend it')


@pytest.mark.parametrize('error, line', [
    (ValueError('one\ntwo'), 'one'), (ValueError('\n\n  two \nthree'), 'two'), (ValueError(), 'ValueError'),
    (KeyError(' \n'), "' \\n'"),
])
def test_first_line(error, line):
    assert first_line(error) == line


def test_shown_cuts_what_is_long():
    assert shown('a' * 200) == 'a' * 200
    assert shown('a' * 5000) == 'a' * 200 + '… (5,000 characters)'
    assert shown('a' * 5000, 10) == 'aaaaaaaaaa… (5,000 characters)'
    assert shown([1, 'a']) == "[1, 'a']"
    assert len(shown(list(range(5000)))) < 240
