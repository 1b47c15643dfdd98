"""Build backend: setuptools' own, with two changes to the wheels that it builds.

Start-up files are added at the root of site-packages, for which setuptools has no declarative way. And the links of
README.md, which are relative to this repository, get its address, so that they work on a registry's page.
"""
import base64
import hashlib
import os
import re
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


def _complete(wheel: Path) -> None:
    """Rewrite a wheel with the start-up files, the absolute links, and both in its RECORD."""
    rewritten = wheel.with_suffix('.tmp')
    changed: Dict[str, bytes] = {name: text.encode() for name, text in _STARTUP_FILES.items()}
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(rewritten, 'w', zipfile.ZIP_DEFLATED) as target:
        for name, data in changed.items():
            target.writestr(name, data)
        for info in source.infolist():  # RECORD is the last of them
            data = source.read(info)
            if info.filename.endswith('.dist-info/METADATA'):
                changed[info.filename] = data = _make_links_absolute(data.decode()).encode()
            elif info.filename.endswith('.dist-info/RECORD'):
                kept = [line for line in data.decode().splitlines(True) if line.partition(',')[0] not in changed]
                data = ''.join([*(_record_line(name, new) for name, new in changed.items()), *kept]).encode()
            target.writestr(info, data)
    os.replace(rewritten, wheel)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    _complete(Path(wheel_directory, name))
    return name


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    _complete(Path(wheel_directory, name))
    return name
