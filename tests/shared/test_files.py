""" A file or a folder is there as a whole or not at all"""
import pytest

from timm_mobilenext.shared.errors import UserError
from timm_mobilenext.shared.files import replacing, tidy

pytestmark = pytest.mark.tools


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize('is_there', [False, True])
def test_file_takes_its_place_at_the_end(tmp_path, is_there):
    file = tmp_path / 'file'
    if is_there:
        file.write_text('old')
    with replacing(file) as new:
        new.write_text('new')
        assert file.exists() == is_there and (not is_there or file.read_text() == 'old')
    assert file.read_text() == 'new' and names(tmp_path) == ['file']


@pytest.mark.parametrize('is_there', [False, True])
def test_folder_takes_its_place_at_the_end(tmp_path, is_there):
    folder = tmp_path / 'folder'
    if is_there:
        folder.mkdir()
        (folder / 'old').touch()
    with replacing(folder) as new:
        new.mkdir()
        (new / 'new').touch()
        assert folder.exists() == is_there
    assert names(folder) == ['new'] and names(tmp_path) == ['folder']


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_error_leaves_the_old(tmp_path, error):
    (tmp_path / 'file').write_text('old')
    with pytest.raises(error):
        with replacing(tmp_path / 'file') as new:
            new.write_text('half')
            raise error
    assert (tmp_path / 'file').read_text() == 'old' and names(tmp_path) == ['file']


def test_file_does_not_replace_a_folder(tmp_path):
    (tmp_path / 'folder').mkdir()
    with pytest.raises(UserError, match='folder is a folder'):
        with replacing(tmp_path / 'folder') as new:
            new.write_text('')
    assert (tmp_path / 'folder').is_dir() and names(tmp_path) == ['folder']


def test_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / 'target').write_text('old')
    (tmp_path / 'link').symlink_to('target')
    with replacing(tmp_path / 'link') as new:
        new.write_text('new')
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'target').read_text() == 'new'


def test_what_a_killed_process_left(tmp_path):
    (tmp_path / '.folder.old').mkdir()
    (tmp_path / '.folder.old' / 'weights').touch()
    (tmp_path / '.folder.new').mkdir()
    tidy(tmp_path / 'folder')
    assert names(tmp_path) == ['folder'] and names(tmp_path / 'folder') == ['weights']
