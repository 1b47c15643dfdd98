"""What is said of each error of huggingface_hub, and that no other error is hidden."""
import importlib
from types import SimpleNamespace

import pytest
from helpers import TOKEN
from huggingface_hub import CommitOperationAdd, constants, HfApi, ModelInfo
from huggingface_hub.errors import (
    BadRequestError,
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from timm_mobilenext.hub import messages
from timm_mobilenext.hub.messages import plain_hub_errors
from timm_mobilenext.shared.errors import UserError

pytestmark = pytest.mark.tools

# what the HTTP library raises, of which HfHubHTTPError is one
HTTP_ERROR = HfHubHTTPError.__mro__[1]


def answer(error_type, status, said='', **headers):
    """Error that huggingface_hub makes of the Hub's answer."""
    named = {name.replace('_', '-'): value for name, value in headers.items()}
    response = SimpleNamespace(headers=named, status_code=status, request=None)
    return error_type(f'{status} Client Error.\n\n{said}', response=response, server_message=said or None)


def because(error, cause):
    error.__cause__ = cause
    return error


def message_of(error, **kwargs):
    with pytest.raises(UserError) as info:
        with plain_hub_errors('alice/model', **kwargs):
            raise error
    message = str(info.value)
    assert len(message.splitlines()) == 1
    assert info.value.__cause__ is None and info.value.__suppress_context__  # they could show the token
    return message


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setenv('HF_TOKEN', TOKEN)
    monkeypatch.setattr(constants, 'ENDPOINT', 'http://hub')


@pytest.mark.parametrize('error, words', [
    (OfflineModeIsEnabled('no'), ['alice/model is not in the cache', 'HF_HUB_OFFLINE is set']),
    (answer(GatedRepoError, 403, 'restricted'), ['alice/model is gated', 'http://hub/alice/model']),
    (answer(RevisionNotFoundError, 404), ["no revision 'main'"]),
    (answer(RepositoryNotFoundError, 404), ['has no alice/model', 'the token may not read it']),
    (answer(DisabledRepoError, 403), ['alice/model was disabled']),
    (answer(HfHubHTTPError, 401, 'Invalid credentials in Authorization header'), ['refuses the token (401)']),
    (answer(HfHubHTTPError, 403, 'no rights'), ['The token may not do this (403): no rights']),
    (answer(HfHubHTTPError, 412, 'a commit'), ['changed by someone else', 'repeat the command']),
    (answer(HfHubHTTPError, 429), ['(429): wait, then repeat the command']),
    (answer(HfHubHTTPError, 429, Retry_After='137'), ['wait 137 s, then repeat the command']),
    (answer(HfHubHTTPError, 503, 'maintenance'), ['failed (503, maintenance)', 'repeat the command']),
    (answer(BadRequestError, 400, 'Invalid license\nand more'), ['refused (400): Invalid license']),
    (HTTP_ERROR('no route'), ['connection to http://hub failed, no route: repeat the command']),
    (LocalEntryNotFoundError('no snapshot'), ['no snapshot']),
], ids=lambda value: type(value).__name__ if isinstance(value, Exception) else '')
def test_each_error(error, words):
    message = message_of(error)
    assert all(word in message for word in words), message


@pytest.mark.parametrize('error, words', [
    (because(LocalEntryNotFoundError('no snapshot'), HTTP_ERROR('no route')), 'connection to http://hub failed, no'),
    (because(LocalEntryNotFoundError('no snapshot'), answer(HfHubHTTPError, 503, 'maintenance')), '(503, maintenance)'),
    (because(RuntimeError('while uploading'), answer(HfHubHTTPError, 403, 'expired')), '(403): expired'),
    (because(answer(HfHubHTTPError, 500, 'oops'), HTTP_ERROR('500')), 'failed (500, oops)'),
    (because(OSError('not cached'), OfflineModeIsEnabled('no')), 'HF_HUB_OFFLINE is set'),
])
def test_cause_adds_to_the_message(error, words):
    assert words in message_of(error)


@pytest.mark.parametrize('variable, value, words', [
    ('ALL_PROXY', 'socks4://127.0.0.1:9', ['proxy that ALL_PROXY names', "'socks4://127.0.0.1:9'", 'unset it']),
    ('HTTPS_PROXY', 'http://127.0.0.1:port', ['proxy that HTTPS_PROXY names', "Invalid port: 'port'"]),
    ('SSL_CERT_FILE', '/gone.pem', ['SSL_CERT_FILE names', 'No such file', 'unset it']),
])
def test_environment_that_the_http_library_cannot_use(monkeypatch, variable, value, words):
    http = importlib.import_module(HTTP_ERROR.__module__.partition('.')[0])
    for name in (*messages._PROXIES, *messages._CERTIFICATES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError) as info:
        with plain_hub_errors('alice/model'):
            http.Client()
    assert len(str(info.value).splitlines()) == 1 and all(word in str(info.value) for word in words), info.value


def test_whatever_the_http_library_raises():
    def fail():
        raise ImportError('of a strange proxy')

    module = {'__name__': HTTP_ERROR.__module__}
    exec('def call(function): function()', module)
    with pytest.raises(UserError, match='of a strange proxy'):
        with plain_hub_errors('alice/model'):
            module['call'](fail)


def test_without_a_token(monkeypatch):
    monkeypatch.setenv('HF_TOKEN', '')
    monkeypatch.setattr('timm_mobilenext.hub.messages.get_token', lambda: None)  # whatever is stored on this machine
    assert 'or it is private: for that, run `hf auth login`' in message_of(answer(RepositoryNotFoundError, 404))


def test_revision_and_pull_request():
    assert "alice/model has no revision 'v2'" in message_of(answer(RevisionNotFoundError, 404), revision='v2')
    message = message_of(answer(HfHubHTTPError, 503), create_pr=True)
    assert 'if http://hub/alice/model/discussions does not show the pull request' in message


def test_offline_is_the_reason_why_something_is_missing(monkeypatch):
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    assert 'HF_HUB_OFFLINE is set' in message_of(LocalEntryNotFoundError('no snapshot'))


def test_token_is_never_shown_and_long_answers_are_cut():
    for error in (answer(HfHubHTTPError, 403, f'{TOKEN} has no rights'), UserError(f'{TOKEN} has no rights')):
        assert '<token> has no rights' in message_of(error)
    assert len(message_of(answer(HfHubHTTPError, 403, 'x' * 5000))) < 300


@pytest.mark.parametrize('answer', [dict(id='alice/model', siblings=[{}]), dict(id='alice/model', siblings=[3]), {}])
def test_answer_of_another_form(answer):
    with pytest.raises(UserError, match='http://hub gave an answer that huggingface_hub cannot read .*HF_ENDPOINT'):
        with plain_hub_errors('alice/model'):
            ModelInfo(**answer)


def test_wrong_call_of_ours_is_not_hidden():
    with pytest.raises(TypeError):
        with plain_hub_errors('alice/model'):
            HfApi().model_info()


def test_what_huggingface_hub_raises_of_pythons_types():
    with pytest.raises(UserError, match='huggingface_hub failed, path_or_fileobj must be'):
        with plain_hub_errors('alice/model'):
            CommitOperationAdd(path_in_repo='file', path_or_fileobj=3)


@pytest.mark.parametrize('error', [
    ValueError('ours'), RuntimeError('ours'), KeyError('ours'), OSError('disk is full'),
    because(KeyError('ours'), ValueError('never raised')),
])
def test_other_errors_are_not_hidden(error):
    with pytest.raises(type(error)) as info:
        with plain_hub_errors('alice/model'):
            raise error
    assert info.value is error
