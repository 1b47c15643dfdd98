""" What a user names: models, repositories, devices, paths"""
import pytest
from helpers import MODELS

from timm_mobilenext.shared.device import check_device
from timm_mobilenext.shared.errors import UserError
from timm_mobilenext.shared.names import check_model, is_ours, list_ours, split_repository
from timm_mobilenext.shared.paths import check_file, check_folder, check_output_folder, find_splits

pytestmark = pytest.mark.tools


def test_ours():
    assert sorted(list_ours()) == sorted(MODELS)
    assert is_ours('mobilenext_100') and not is_ours('mobilenetv2_100') and not is_ours('mobilenext_100.official_in1k')


@pytest.mark.parametrize('name, words', [
    ('mobilenext_10', "no model 'mobilenext_10': did you mean .*mobilenext_100.*"),
    ('MobileNet_V2', 'did you mean .*mobilenetv2_'),
    ('%%%', r"no model '%%%': timm.list_models\(\) lists them"),
    ('x' * 5000, r'x{200}… \(5,000 characters\)'),
])
def test_unknown_model(name, words):
    with pytest.raises(UserError, match=words):
        check_model(name)


@pytest.mark.parametrize('name', ['mobilenext_100', 'mobilenext_050.cifar10', 'resnet18'])
def test_known_model(name):
    check_model(name)


@pytest.mark.parametrize('name', ['name', '', 'a/b/c', 'https://huggingface.co/datasets/user/name', 'hf-hub:name'])
def test_repository_is_user_and_name(name):
    with pytest.raises(UserError, match='give user/name'):
        split_repository(name)


@pytest.mark.parametrize('name, revision', [
    ('user/na.me', None),
    ('user/na.me@v1', 'v1'),
    ('user/na.me@refs/pr/1', 'refs/pr/1'),
    ('hf-hub:user/na.me', None),
    ('hf_hub:user/na.me@v1', 'v1'),
    ('hf://user/na.me@v1', 'v1'),
    ('huggingface.co/user/na.me', None),
    ('https://huggingface.co/user/na.me/', None),
    ('https://huggingface.co/user/na.me?library=timm#use', None),
    ('https://huggingface.co/user/na.me/tree/v1', 'v1'),
    ('https://huggingface.co/user/na.me/blob/v1/config.json', 'v1'),
    ('https://huggingface.co/user/na.me/tree/refs%2Fpr%2F1', 'refs/pr/1'),  # as the Hub links a pull request
    ('https://huggingface.co/user/na.me/blob/new%2Fidea/config.json', 'new/idea'),
    ('http://127.0.0.1:8080/user/na.me/resolve/refs/pr/1/config.json', 'refs/pr/1'),
])
def test_repository_as_it_is_pasted(name, revision):
    assert split_repository(name) == ('user/na.me', revision)


def test_device():
    check_device('cpu')
    for name in ('abacus', 'cuda:99', ''):
        with pytest.raises(UserError, match=f'^There is no device {name} here .+: give another, such as cpu.$'):
            check_device(name)


def test_paths(tmp_path):
    (tmp_path / 'file').touch()
    check_file(tmp_path / 'file')
    check_folder(tmp_path, 'a folder')
    check_output_folder(tmp_path)
    check_output_folder(tmp_path / 'new')
    for check, words in (
            (lambda: check_file(tmp_path / 'new', 'a JSON file'), 'new is not there: give a JSON file.$'),
            (lambda: check_file(tmp_path), 'is a folder: give the files of images.$'),
            (lambda: check_folder(tmp_path / 'file', 'a data set'), 'file is not a folder: give a data set.$'),
            (lambda: check_folder(tmp_path / 'new', 'a data set'), 'new is not a folder: give a data set.$'),
            (lambda: check_output_folder(tmp_path / 'file'), 'file is a file: give a folder.$'),
    ):
        with pytest.raises(UserError, match=words):
            check()


@pytest.mark.parametrize('train, validate', [('train', 'validation'), ('training', 'val'), ('train', 'eval')])
def test_splits_have_the_names_that_timm_knows(tmp_path, train, validate):
    for name in (train, validate):
        (tmp_path / name).mkdir()
    assert find_splits(tmp_path) == dict(train=tmp_path / train, validate=tmp_path / validate)
    (tmp_path / validate).rmdir()
    with pytest.raises(UserError, match='has no validation or val folder'):
        find_splits(tmp_path)
