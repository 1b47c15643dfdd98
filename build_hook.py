"""Build backend: setuptools' own, and the start-up files added to the wheels that it builds.

setuptools has no declarative way to place a file at the root of site-packages, for editable wheels least of all.
"""
import base64
import hashlib
import os
import zipfile
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403

_MODULE = '_timm_mobilenext_autoload'
_STARTUP_FILES = {
    f'{_MODULE}.pth': f'import {_MODULE}; {_MODULE}.arm()\n',  # Python up to 3.14
    f'{_MODULE}.start': f'{_MODULE}:arm\n',  # from 3.15 on, where it replaces the .pth of its name
}


def _add_startup_files(wheel: Path) -> None:
    """Rewrite a wheel with the start-up files in it and in its RECORD."""
    rewritten = wheel.with_suffix('.tmp')
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(rewritten, 'w', zipfile.ZIP_DEFLATED) as target:
        for info in source.infolist():
            data = source.read(info)
            if info.filename.endswith('.dist-info/RECORD'):
                lines = []
                for name, text in _STARTUP_FILES.items():
                    target.writestr(name, text)
                    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()
                    lines.append(f'{name},sha256={digest},{len(text)}\n')
                data = ''.join(lines).encode() + data
            target.writestr(info, data)
    os.replace(rewritten, wheel)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    _add_startup_files(Path(wheel_directory, name))
    return name


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    _add_startup_files(Path(wheel_directory, name))
    return name
