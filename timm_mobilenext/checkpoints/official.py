""" The authors' five files, fetched from a pinned commit of their repository and checked before anything reads them

Git blob ids pin the contents. So any copy will do, and `pretrained_cfg_overlay=dict(url=...)` may name a mirror.
"""
import hashlib
import http.client
import logging
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Union
from urllib.parse import urlsplit

import torch
from filelock import FileLock
from huggingface_hub.utils import tqdm

from timm.models import resolve_pretrained_cfg

from ..shared.errors import first_line, shown, UserError
from ..version import __version__
from .convert import classes_and_channels
from .read import is_web_page, read_checkpoint, select_state_dict

__all__ = ['authors_url', 'AUTHORS_URL', 'blob_id_of', 'BLOB_IDS', 'fetch', 'find_directory', 'weights_overlay']

_logger = logging.getLogger(__name__)

AUTHORS_URL = (
    'https://raw.githubusercontent.com/zhoudaquan/rethinking_bottleneck_design/'
    '195ee737952e2f8d729a14b51651748caf35794c/mobilenext/output')
NAME = 'model_best.pth.tar'  # all five have it
# directory in the repository -> git blob id of its file
BLOB_IDS = {
    '74_02_full_id_tensor': 'e0a567e52c86ab4a66863745162c758f3fd27d84',
    '74_09_i2rnetv3_half_id': '03f9b1b59f67ccd2191f7846ff9ad7e8647c753d',
    '76_05_3_94_model': 'ca388f33536dba371e82807553042a938e082e4c',
    '4_29M_76_6': '41e94c826600560a08675c9ffa7bf4d1df60fc69',
    '5_68M_76_8': '2a7772ab796a0b6598068e1755ce3378a0c10f1d',
}
_ATTEMPTS = 5
_TIMEOUT = 30  # seconds without a byte
_WAIT = 2  # seconds before the second attempt; each later attempt waits twice as long
_WAIT_AT_MOST = 60  # seconds, where the server says how long to wait
_CHUNK = 1 << 18


def authors_url(directory: str) -> str:
    """ Address of the checkpoint in a directory of the authors' `mobilenext/output`."""
    return f'{AUTHORS_URL}/{directory}/{NAME}'


def find_directory(url: Optional[str]) -> Optional[str]:
    """ Directory of the authors' checkpoint that an address names, theirs or a mirror's; None for any other address."""
    directory, _, file = urlsplit(url or '').path.rpartition('/')
    directory = directory.rpartition('/')[2]
    return directory if directory in BLOB_IDS and file == NAME else None


def blob_id_of(content: bytes) -> str:
    """ SHA-1 by which git knows a file with this content."""
    return hashlib.sha1(b'blob %d\0' % len(content) + content, usedforsecurity=False).hexdigest()


def weights_overlay(
        variant: str,
        pretrained_cfg: Any = None,
        overlay: Optional[Dict[str, Any]] = None,
        cache_dir: Optional[Union[str, Path]] = None,
        num_classes: Optional[int] = None,
        in_chans: Optional[int] = None,
) -> Dict[str, Any]:
    """ Replace the authors' checkpoint in the overlay of a pretrained_cfg by a state dict that timm takes.

    timm cannot fetch or read these files itself: they hold an `argparse.Namespace`, they are pinned by git's digest,
    and all have the same name.

    Args:
        variant: Name of the model.
        pretrained_cfg: Tag or dict, as `build_model_with_cfg` takes it.
        overlay: Overlay that the user gave. It may have a `file` or `url`.
        cache_dir: Folder for downloads.
        num_classes: Classes that the user asks for.
        in_chans: Input channels that the user asks for.

    Returns:
        The overlay, with the weights if they come from a file or an authors' address. If the user asks for classes or
        input channels, it also says how many a file has. Otherwise timm takes those of the model's configuration for
        the file's, and would draw a classifier anew that fits.

    Raises:
        UserError: If the weights cannot be fetched or read.
    """
    overlay = dict(overlay or {})
    cfg: Any = resolve_pretrained_cfg(variant, pretrained_cfg, overlay)
    if cfg.state_dict or cfg.hf_hub_id or cfg.source in ('hf-hub', 'local-dir'):
        return overlay
    if cfg.file:
        overlay['state_dict'], kind = select_state_dict(read_checkpoint(cfg.file))
        file_classes, file_chans = classes_and_channels(overlay['state_dict'])
        if num_classes is not None and file_classes:
            overlay.setdefault('num_classes', file_classes)
        if in_chans is not None and file_chans:
            overlay.setdefault('input_size', (file_chans, *cfg.input_size[1:]))
    elif find_directory(cfg.url):
        overlay['state_dict'], kind = select_state_dict(read_checkpoint(cfg.url, fetch(cfg.url, cache_dir)))
    else:
        return overlay
    _logger.info(f'Loading the {kind} weights of {cfg.file or cfg.url}')
    return overlay


def fetch(url: str, cache_dir: Optional[Union[str, Path]] = None) -> bytes:
    """ Fetch one of the authors' checkpoints from the cache or, the first time, from the network.

    Args:
        url: Address of theirs, or a mirror's that ends in the same directory and name.
        cache_dir: Folder to keep it in. If None, it is torch.hub's `checkpoints`, as for timm.

    Returns:
        Content of the file, whose git blob id is the pinned one.

    Raises:
        UserError: If the file cannot be downloaded, is not the pinned one, or cannot be written to the cache.
    """
    directory = find_directory(url)
    if directory is None:
        raise UserError(
            f'{shown(url)} is not a pinned checkpoint: expected .../<one of {", ".join(BLOB_IDS)}>/{NAME}.')
    blob_id = BLOB_IDS[directory]
    # the files have one name in the repository, and need five here
    file = Path(cache_dir or Path(torch.hub.get_dir(), 'checkpoints'), f'mobilenext-{directory}-{blob_id[:8]}.pth.tar')
    content = _read(file, blob_id)
    if content is not None:
        return content
    with _writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f'{file}.lock').acquire()
    with lock:
        # another process may have fetched it meanwhile
        return _read(file, blob_id) or _download_checked(url, file, blob_id)


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    """ Say what to do if a file of the cache cannot be written."""
    try:
        yield
    except OSError as e:
        if file.suffix == '.part':
            file.unlink(missing_ok=True)  # on a full disk, half a file is in the way
        reason = e.strerror or first_line(e)
        raise UserError(f'{file} cannot be written ({reason}): free some space, or give another cache_dir.') from e


def _read(file: Path, blob_id: str) -> Optional[bytes]:
    if not file.is_file():
        return None
    content = file.read_bytes()
    if blob_id_of(content) == blob_id:
        return content
    _logger.warning(f'{file} is damaged and is fetched again.')
    return None


def _download_checked(url: str, file: Path, blob_id: str) -> bytes:
    part = file.with_name(f'{file.name}.part')  # an interrupted download goes on with it
    found, content = '', b''
    for resumed in (True, False) if part.exists() else (False,):
        if not resumed or blob_id_of(part.read_bytes()) != blob_id:  # whole if killed before the last step
            _download(url, part)
        content = part.read_bytes()
        found = blob_id_of(content)
        if found == blob_id:
            with _writing(file):
                part.replace(file)
            return content
        part.unlink()  # what was there before may be at fault, so the next turn starts from nothing
    kind = 'a web page' if is_web_page(content) else 'another file'
    raise UserError(
        f'{shown(url)} is {kind} ({len(content):,} bytes, git blob id {found},'
        f' expected {blob_id}): it is not used. Try again later, or name a mirror with'
        ' pretrained_cfg_overlay=dict(url=...).')


def _download(url: str, part: Path) -> None:
    """ Download what is not there yet, in a few attempts."""
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
            problem = f'the server answered {e.code} {shown(e.reason)}'
            if e.code == 416:  # what is there is the whole file or more
                part.unlink(missing_ok=True)
            elif e.code in (429, 500, 502, 503, 504):
                after = e.headers.get('Retry-After', '')
                wait = int(after) if after.isdecimal() else wait
                if wait > _WAIT_AT_MOST:
                    raise UserError(
                        f'{shown(url)}: {problem} and asks to wait {wait} seconds: try again then.') from None
            else:
                break
        except urllib.error.URLError as e:  # no connection, and hardly one in a few seconds
            problem = f'no connection ({shown(str(e.reason))})'
            break
        except (http.client.HTTPException, OSError) as e:  # of the network; _writing made those of the disk UserErrors
            problem = f'the connection was lost ({shown(first_line(e))})'
    raise UserError(
        f'{shown(url)}: {problem}. Try again later, or download the file elsewhere and give'
        ' pretrained_cfg_overlay=dict(file=...) to timm.create_model, or --pretrained-path to train.py.')


def _download_once(url: str, part: Path) -> None:
    done = part.stat().st_size if part.exists() else 0
    headers = {'User-Agent': f'timm-mobilenext/{__version__}', **({'Range': f'bytes={done}-'} if done else {})}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT) as response:
        if response.status != 206:  # the server sends the whole file
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
        raise ConnectionError(f'only {done:,} of {total:,} bytes arrived')
