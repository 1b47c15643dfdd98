""" What went wrong at the Hub, in one line: an ordered table of huggingface_hub's errors and what is said of each"""
import os
import traceback
from contextlib import contextmanager
from json import JSONDecodeError
from typing import Any, Iterator, List, Optional, Sequence

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import tqdm

from ..shared.errors import first_line, shown, UserError

__all__ = ['plain_hub_errors']

# huggingface_hub, its storage, and the HTTP libraries that its versions use
_LIBRARIES = 'huggingface_hub', 'hf_xet', 'httpx', 'httpx2', 'httpcore', 'httpcore2', 'requests', 'urllib3'
# environment variables that the HTTP libraries read
_CERTIFICATES = 'SSL_CERT_FILE', 'SSL_CERT_DIR', 'REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE'
_PROXIES = tuple(case(f'{kind}_proxy') for kind in ('http', 'https', 'all') for case in (str.lower, str.upper))
# what the HTTP library at hand raises: HfHubHTTPError is a subclass of it
_CONNECTION = tuple(
    base for base in HfHubHTTPError.__mro__ if base.__module__.partition('.')[0] in _LIBRARIES[1:])
_ANY = range(1000)  # statuses of the Hub's answer, 0 if there was none


class _Certificates(Exception):
    """ Stands for whatever an HTTP library raises where it cannot read the certificates that a variable names."""


class _Proxy(Exception):
    """ Stands for whatever an HTTP library raises of a proxy that it cannot use."""


# exception types, statuses, text: the first row that fits an error or its cause is taken, so that subclasses come first
_TABLE = (
    (OfflineModeIsEnabled, _ANY,
     '{target} is not in the cache, or only in part, and HF_HUB_OFFLINE is set: unset it, or pull once while online.'),
    (GatedRepoError, _ANY,
     '{repo_id} is gated: ask for access at {endpoint}/{repo_id}, and use a token of that account.'),
    (RevisionNotFoundError, _ANY, '{repo_id} has no revision {revision!r}: give a branch, a tag or a commit.'),
    (RepositoryNotFoundError, _ANY, '{endpoint} has no {target}, or it is private{private}.'),
    (DisabledRepoError, _ANY, '{repo_id} was disabled, and {endpoint} gives it to nobody: choose another repository.'),
    (HfHubHTTPError, (401,), '{endpoint} refuses the token (401): get another by `hf auth login`, or set HF_TOKEN.'),
    (HfHubHTTPError, (403,), 'The token may not do this (403): {reason}'),
    (HfHubHTTPError, (412,),
     '{target} was changed by someone else meanwhile: nothing was committed, repeat the command.'),
    (HfHubHTTPError, (429,), '{endpoint} has had too many requests (429): wait{wait}, then {repeat}.'),
    (HfHubHTTPError, range(500, 600), '{endpoint} failed ({status}, {reason}): {repeat}.'),
    (HfHubHTTPError, range(300, 500), '{endpoint} refused ({status}): {reason}'),
    ((*_CONNECTION, ConnectionError, TimeoutError), _ANY,
     'The connection to {endpoint} failed, {reason}: {repeat}.'),
    (_Certificates, _ANY,
     'The certificates that {certificates} names cannot be read, {reason}: give a file that is there, or unset it.'),
    (_Proxy, _ANY,
     'The proxy that {proxies} names cannot be used, {reason}: give one that begins with http://, or unset it.'),
    ((AttributeError, JSONDecodeError, LookupError, TypeError), _ANY,
     '{endpoint} gave an answer that huggingface_hub cannot read ({reason}): check HF_ENDPOINT, and {repeat}.'),
    (Exception, _ANY, 'huggingface_hub failed, {reason}: {repeat}.'),
)


@contextmanager
def plain_hub_errors(repo_id: str, revision: Optional[str] = None, create_pr: bool = False) -> Iterator[None]:
    """ Turn an error of huggingface_hub or of its HTTP library into a UserError of one line, and never show the token.

    All other errors pass as they are.

    Args:
        repo_id: Repository that the Hub is asked for.
        revision: Branch, tag or commit that it is asked for.
        create_pr: Whether it is asked to open a pull request. A repeated command would open a second one.
    """
    try:
        yield
        return
    except UserError as e:
        message = str(e)
    except Exception as e:
        chain = _causes(e)
        if not any(_is_of_hub(error) for error in chain):
            raise
        message = _describe(chain, repo_id, revision, create_pr)
    for bar in list(getattr(tqdm, '_instances', ())):  # huggingface_hub leaves it open, and the line would stick to it
        bar.close()
    token = get_token()
    raise UserError(message.replace(token, '<token>') if token else message) from None


def _causes(error: BaseException) -> List[BaseException]:
    """ An error, after what caused it: the Hub's answer may be in the cause alone."""
    return [*(_causes(error.__cause__) if error.__cause__ else ()), error]


def _is_of_hub(error: BaseException) -> bool:
    """ Whether an error comes from huggingface_hub or its libraries, by its type or by where it was raised."""
    if type(error).__module__.partition('.')[0] in _LIBRARIES:
        return True
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = [frame.f_globals.get('__name__', '').partition('.')[0] for frame in frames]
    if set(modules).intersection(_LIBRARIES[2:]):  # no error of ours comes by the HTTP library
        return True
    # it met an answer of another form: a wrong call of ours fails in our own line, or in the decorator of its methods
    if frames and modules[-1] in _LIBRARIES and frames[-1].f_code.co_name != '_inner_fn':
        return True
    return isinstance(error, (ConnectionError, RuntimeError, TimeoutError, ValueError)) and bool(
        set(modules).intersection(_LIBRARIES))


def _read_environment(error: Any) -> Any:
    """ Exchange an error that an HTTP library raises of an environment variable, before it connects, for its name."""
    if isinstance(error, (*_CONNECTION, ConnectionError, TimeoutError)):
        return error
    calls = [frame.f_code.co_name.lower() for frame, _ in traceback.walk_tb(error.__traceback__)]
    if _set(_CERTIFICATES) and type(error).__module__ in ('builtins', 'ssl') and isinstance(error, OSError):
        return _Certificates(error.strerror or first_line(error))
    if _set(_PROXIES) and any(word in text for text in (*calls, str(error).lower()) for word in ('proxy', 'proxies')):
        return _Proxy(first_line(error))
    return error


def _set(names: Sequence[str]) -> str:
    """ Those of some environment variables that are set, as a message names them."""
    return ' or '.join(name for name in names if os.environ.get(name))


def _describe(chain: List[BaseException], repo_id: str, revision: Optional[str], create_pr: bool) -> str:
    if constants.HF_HUB_OFFLINE:  # whatever huggingface_hub says of what it did not find in the cache
        chain = [OfflineModeIsEnabled()]
    chain = [*chain[:-1], _read_environment(chain[-1])]
    text, error, response = next(
        (text, error, response)
        for types, statuses, text in _TABLE for error in chain
        for response in [getattr(error, 'response', None)]
        if isinstance(error, types) and getattr(response, 'status_code', 0) in statuses)
    said = (getattr(error, 'server_message', None) or '').strip()
    wait = response.headers.get('Retry-After') if response is not None else None
    private = ' and the token may not read it' if get_token() else ': for that, run `hf auth login`, or set HF_TOKEN'
    repeat = 'repeat the command, which skips what is done'
    if create_pr:
        repeat = f'repeat the command if {constants.ENDPOINT}/{repo_id}/discussions does not show the pull request'
    return text.format(
        endpoint=constants.ENDPOINT,
        repo_id=repo_id,
        revision=shown(revision or 'main'),
        target=f'{repo_id}@{shown(revision)}' if revision else repo_id,
        status=getattr(response, 'status_code', 0),
        reason=shown(said.splitlines()[0] if said else first_line(error)).strip().rstrip('.'),
        wait=f' {shown(wait)} s' if wait else '',
        private=private,
        repeat=repeat,
        certificates=_set([name for name in _CERTIFICATES if not os.path.exists(os.environ.get(name, '.'))])
        or _set(_CERTIFICATES),
        proxies=_set(_PROXIES),
    )
