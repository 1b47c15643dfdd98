""" What push and pull ask for before they ask the Hub, and what they check of its answers

A name, a revision, a token, and huggingface_hub's client.
"""
import re
from typing import Any, List, Optional, Tuple

from huggingface_hub import constants, get_token, HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..shared.errors import first_line, shown, UserError
from ..version import __version__

__all__ = ['check_answer', 'check_repo_id', 'check_revision', 'create_api', 'read_token', 'sha_and_files']

_REVISION = re.compile(r'[^\s@\\]+')


def create_api() -> HfApi:
    """ Client of the Hub. huggingface_hub's environment variables say where the Hub, the token and the cache are."""
    return HfApi(library_name='timm-mobilenext', library_version=__version__)


def check_repo_id(repo_id: str) -> None:
    """ Raise a UserError if this is not user/name."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as e:
        raise UserError(f'{shown(first_line(e)).rstrip(".")}: give user/name.') from None
    if repo_id.count('/') != 1:
        raise UserError(f'{repo_id!r} does not name a repository: give user/name.')


def check_revision(revision: Optional[str]) -> None:
    """ Raise a UserError if this cannot be a branch, tag or commit."""
    if revision is not None and not _REVISION.fullmatch(revision):
        raise UserError(f'{shown(revision)!r} cannot be a revision: give a branch, a tag or a commit.')


def read_token() -> Optional[str]:
    """ Read the token, None if there is none.

    Raises:
        UserError: If it cannot be sent. The HTTP library would refuse it with a message that shows it.
    """
    token = get_token()
    if token and not (token.isascii() and token.isprintable() and ' ' not in token):
        raise UserError('The token has characters that are never part of a token: copy it again.')
    return token


def check_answer(*texts: Any) -> None:
    """ Raise a UserError if an answer of the Hub has something else where it should have texts."""
    for text in texts:
        if not isinstance(text, str):
            raise UserError(
                f'{constants.ENDPOINT} gave an answer of another form, with {shown(text)} where a text is expected:'
                ' check HF_ENDPOINT, and repeat the command.')


def sha_and_files(info: Any) -> Tuple[str, List[str]]:
    """ Commit and names of the files in what the Hub tells of a repository."""
    files = [file.rfilename for file in info.siblings or []]
    check_answer(info.sha, *files)
    return info.sha, files
