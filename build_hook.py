"""Build backend: setuptools' own, with three changes to what it builds.

Start-up files are added at the root of site-packages, for which setuptools has no declarative way. The links of
README.md, which are relative to this repository, get its address, so that they work on a registry's page. And the same
sources give the same bytes: times are SOURCE_DATE_EPOCH, owners and modes are nobody's. A package for that would be one
more thing that each build needs.
"""
import base64
import gzip
import hashlib
import os
import re
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Dict

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403

_MODULE = '_timm_mobilenext_autoload'
_STARTUP_FILES = {
    f'{_MODULE}.pth': f'import {_MODULE}; {_MODULE}.arm()\n',  # Python up to 3.14
    f'{_MODULE}.start': f'{_MODULE}:arm\n',  # from 3.15 on, where it replaces the .pth of its name
}


def _make_links_absolute(metadata: str) -> str:
    """Give links of the description to files of the repository its address: pages for texts, raw files for pictures."""
    repository = re.search('^Project-URL: Repository, (.*)$', metadata, flags=re.M)
    if not repository:
        return metadata
    address = repository[1]
    headers, blank, description = metadata.partition('\n\n')
    description = re.sub(
        r'(!?)(\[[^\]]*\])\((?!https?:|#)([^)]+)\)',
        lambda link: f'{link[1]}{link[2]}({address}/{"raw" if link[1] else "blob"}/main/{link[3]})', description)
    return headers + blank + description


def _record_line(name: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()
    return f'{name},sha256={digest},{len(data)}\n'


def _moment() -> int:
    """Time of all files in an archive, in seconds since 1970."""
    return int(os.environ.get('SOURCE_DATE_EPOCH', time.time()))


def _complete(wheel: Path) -> None:
    """Rewrite a wheel with the start-up files, the absolute links, and both in its RECORD."""
    rewritten = wheel.with_suffix('.tmp')
    changed: Dict[str, bytes] = {name: text.encode() for name, text in _STARTUP_FILES.items()}

    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(rewritten, 'w') as target:

        def _write(name: str, data: bytes) -> None:
            info = zipfile.ZipInfo(name, time.gmtime(_moment())[:6])
            info.external_attr = 0o100644 << 16  # nothing in it is executable
            target.writestr(info, data, zipfile.ZIP_DEFLATED)

        for name, data in changed.items():
            _write(name, data)
        for name in source.namelist():  # RECORD is the last of them
            data = source.read(name)
            if name.endswith('.dist-info/METADATA'):
                changed[name] = data = _make_links_absolute(data.decode()).encode()
            elif name.endswith('.dist-info/RECORD'):
                kept = [line for line in data.decode().splitlines(True) if line.partition(',')[0] not in changed]
                data = ''.join([*(_record_line(name, new) for name, new in changed.items()), *kept]).encode()
            _write(name, data)
    os.replace(rewritten, wheel)


def _neutralize(sdist: Path) -> None:
    """Rewrite a source archive without a trace of the machine and of the time that made it."""
    rewritten = sdist.with_suffix('.tmp')
    with tarfile.open(sdist) as source, open(rewritten, 'wb') as file, gzip.GzipFile(
            '', 'wb', fileobj=file, mtime=_moment()) as stream, tarfile.open(fileobj=stream, mode='w') as target:
        for member in source.getmembers():  # which setuptools has sorted
            member.mtime, member.mode = _moment(), 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.uid = member.gid = 0
            member.uname = member.gname = ''
            member.pax_headers = {}  # of the time in fractions of a second
            target.addfile(member, source.extractfile(member) if member.isfile() else None)
    os.replace(rewritten, sdist)


def build_sdist(sdist_directory, config_settings=None):
    name = build_meta.build_sdist(sdist_directory, config_settings)
    _neutralize(Path(sdist_directory, name))
    return name


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    _complete(Path(wheel_directory, name))
    return name


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    _complete(Path(wheel_directory, name))
    return name
