""" Files of the authors, fetched from the pinned commit of their repository and checked before anything reads them

Their git blob ids pin the contents, so that any copy will do: `pretrained_cfg_overlay=dict(url=...)` may name a mirror.
"""
import hashlib
import http.client
import logging
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional, Union
from urllib.parse import urlsplit

import torch
from filelock import FileLock
from huggingface_hub.utils import tqdm

from ..version import __version__

__all__ = ['AUTHORS_URL', 'BLOB_IDS', 'authors_url', 'blob_id_of', 'find_directory', 'fetch']

_logger = logging.getLogger(__name__)

AUTHORS_URL = (
    'https://raw.githubusercontent.com/zhoudaquan/rethinking_bottleneck_design/'
    '195ee737952e2f8d729a14b51651748caf35794c/mobilenext/output')
NAME = 'model_best.pth.tar'  # of every one of them
# directory there -> git blob id of its file
BLOB_IDS = {
    '74_02_full_id_tensor': 'e0a567e52c86ab4a66863745162c758f3fd27d84',
    '74_09_i2rnetv3_half_id': '03f9b1b59f67ccd2191f7846ff9ad7e8647c753d',
    '76_05_3_94_model': 'ca388f33536dba371e82807553042a938e082e4c',
    '4_29M_76_6': '41e94c826600560a08675c9ffa7bf4d1df60fc69',
    '5_68M_76_8': '2a7772ab796a0b6598068e1755ce3378a0c10f1d',
}
_ATTEMPTS = 5
_TIMEOUT = 30  # seconds without a byte
_WAIT = 2  # seconds before the second attempt, twice as many before each after
_WAIT_AT_MOST = 60  # seconds, when the server says how long
_CHUNK = 1 << 18


class FetchError(RuntimeError):
    """ A file that could not be had: what happened and what to do."""


def authors_url(directory: str) -> str:
    """ Address of the checkpoint in a directory of the authors' `mobilenext/output`."""
    return f'{AUTHORS_URL}/{directory}/{NAME}'


def find_directory(url: Optional[str]) -> Optional[str]:
    """ Directory of the authors' checkpoint that an address of theirs or of a mirror names, None if of no known one."""
    directory, _, file = urlsplit(url or '').path.rpartition('/')
    directory = directory.rpartition('/')[2]
    return directory if directory in BLOB_IDS and file == NAME else None


def blob_id_of(content: bytes) -> str:
    """ SHA-1 by which git knows a file of this content, and of this length."""
    return hashlib.sha1(b'blob %d\0' % len(content) + content, usedforsecurity=False).hexdigest()


def fetch(url: str, cache_dir: Optional[Union[str, Path]] = None) -> bytes:
    """ Content of one of the authors' checkpoints, from the cache or, the first time, from the network.

    Args:
        url: Address of theirs or of a mirror that ends in the same directory and name.
        cache_dir: Folder to keep it in, torch.hub's checkpoints if None, as timm does.

    Returns:
        Content of which the git blob id is the pinned one.

    Raises:
        FetchError: If the file can't be downloaded, is another than the pinned one, or can't be written to the cache.
    """
    directory = find_directory(url)
    if directory is None:
        raise FetchError(f'{url} is no pinned checkpoint: expected .../<one of {", ".join(BLOB_IDS)}>/{NAME}.')
    blob_id = BLOB_IDS[directory]
    # one name in the repository, one for each here
    file = Path(cache_dir or Path(torch.hub.get_dir(), 'checkpoints'), f'mobilenext-{directory}-{blob_id[:8]}.pth.tar')
    content = _read(file, blob_id)
    if content is not None:
        return content
    with _writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f'{file}.lock').acquire()
    with lock:
        return _read(file, blob_id) or _download_checked(url, file, blob_id)  # another process may have brought it


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        if file.suffix == '.part':
            file.unlink(missing_ok=True)  # a full disk is no place for half a file
        raise FetchError(
            f'{file} can not be written ({e.strerror or e}): free some space or give another cache_dir.') from e


def _read(file: Path, blob_id: str) -> Optional[bytes]:
    if not file.is_file():
        return None
    content = file.read_bytes()
    if blob_id_of(content) == blob_id:
        return content
    _logger.warning(f'{file} is damaged and is fetched anew.')
    return None


def _download_checked(url: str, file: Path, blob_id: str) -> bytes:
    part = file.with_name(f'{file.name}.part')  # an interrupted download goes on from here
    found, content = '', b''
    for resumed in (True, False) if part.exists() else (False,):
        if not resumed or blob_id_of(part.read_bytes()) != blob_id:  # not killed just before the last step
            _download(url, part)
        content = part.read_bytes()
        found = blob_id_of(content)
        if found == blob_id:
            with _writing(file):
                part.replace(file)
            return content
        part.unlink()  # if it was gone on from, what was there may have been to blame
    is_page = content.lstrip()[:9].lower().startswith((b'<!doctype', b'<html'))
    raise FetchError(
        f'{url} is {"a web page" if is_page else "another file"} ({len(content):,} bytes, git blob id {found}, expected'
        f' {blob_id}): it is not used. Try again later, or name a mirror by pretrained_cfg_overlay=dict(url=...).')


def _download(url: str, part: Path) -> None:
    """ Download, going on from what is there, with a few attempts."""
    problem, wait = '', _WAIT
    for attempt in range(_ATTEMPTS):
        if attempt:
            _logger.warning(f'{url}: {problem}, trying again.')
            time.sleep(wait)
        wait = _WAIT * 2 ** attempt
        try:
            _download_once(url, part)
            return
        except urllib.error.HTTPError as e:
            problem = f'the server answered {e.code} {e.reason}'
            if e.code == 416:  # there is no more than what is there
                part.unlink(missing_ok=True)
            elif e.code in (429, 500, 502, 503, 504):
                after = e.headers.get('Retry-After', '')
                wait = int(after) if after.isdecimal() else wait
                if wait > _WAIT_AT_MOST:
                    raise FetchError(f'{url}: {problem} and asks to wait {wait} seconds: try again then.') from None
            else:
                break
        except urllib.error.URLError as e:  # there is no way there, and will hardly be one in seconds
            problem = f'no connection ({e.reason})'
            break
        except (http.client.HTTPException, OSError) as e:  # of the network, those of the disk are FetchErrors by now
            problem = f'the connection was lost ({e or type(e).__name__})'
    raise FetchError(
        f'{url}: {problem}. Try again later, or download it elsewhere and give pretrained_cfg_overlay=dict(file=...).')


def _download_once(url: str, part: Path) -> None:
    done = part.stat().st_size if part.exists() else 0
    headers = {'User-Agent': f'timm-mobilenext/{__version__}', **({'Range': f'bytes={done}-'} if done else {})}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT) as response:
        if response.status != 206:  # the whole file, whatever was asked for
            done = 0
        length = response.headers.get('Content-Length')
        total = done + int(length) if length else None
        bar = tqdm(desc=part.name.split('.')[0], total=total, initial=done, unit='B', unit_scale=True)
        with _writing(part):
            f = part.open('ab' if done else 'wb', buffering=0)
        with bar, f:
            while chunk := response.read(_CHUNK):
                with _writing(part):
                    if f.write(chunk) != len(chunk):
                        raise OSError('only a part was written')
                bar.update(len(chunk))
                done += len(chunk)
    if total is not None and done < total:
        raise ConnectionError(f'{done:,} of {total:,} bytes came')
