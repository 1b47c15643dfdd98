"""Wheel, sdist and editable install: timm then knows the models by itself.

Every environment shares torch, timm and the rest with the one that runs the tests, by a path entry. This package is
seen only where it has been installed.
"""
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.tools, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
STARTUP_FILES = ['_timm_mobilenext_autoload.pth', '_timm_mobilenext_autoload.start']
CREATE = 'import timm; print(timm.create_model("mobilenext_035", num_classes=7).classifier.out_features)'


class Environment:
    def __init__(self, path: Path):
        venv.create(path, symlinks=True)
        self.python = path / 'bin' / 'python'
        version = f'python{sys.version_info.major}.{sys.version_info.minor}'
        self.site_packages = path / 'lib' / version / 'site-packages'
        (self.site_packages / 'shared.pth').write_text(sysconfig.get_path('purelib') + '\n')

    def pip(self, *args) -> None:
        command = [sys.executable, '-m', 'pip', '--python', self.python, '--quiet', *args]
        run = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, PIP_NO_INDEX='1'))
        assert run.returncode == 0, run.stderr

    def run(self, *args, **env) -> subprocess.CompletedProcess:
        env = dict({k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}, OMP_NUM_THREADS='1', **env)
        # away from the checkout, so that nothing is imported from the working directory
        return subprocess.run(
            [self.python, *args], capture_output=True, text=True, env=env, cwd=self.site_packages.parent)

    def prints(self, *args, **env) -> str:
        run = self.run(*args, **env)
        assert run.returncode == 0, run.stderr
        return run.stdout.strip()


def build(folder: Path, **env) -> Path:
    """Build the sdist, and the wheel of it, from a copy of the sources that is as new as the call."""
    ignored = shutil.ignore_patterns('.*', '*.egg-info', '__pycache__', 'build', 'dist', 'results', 'tests', 'web')
    shutil.copytree(ROOT, folder / 'source', ignore=ignored, copy_function=shutil.copy)
    run = subprocess.run(
        [sys.executable, '-m', 'build', '--no-isolation', '--outdir', folder / 'dist', folder / 'source'],
        capture_output=True, text=True, env=dict(os.environ, SOURCE_DATE_EPOCH='1600000000', **env))
    assert run.returncode == 0, run.stdout + run.stderr
    return folder / 'dist'


@pytest.fixture(scope='module')
def dist(tmp_path_factory):
    """sdist, and the wheel that is built from it"""
    return build(tmp_path_factory.mktemp('first'))


@pytest.fixture(scope='module')
def wheel(dist):
    return next(dist.glob('*.whl'))


@pytest.fixture(scope='module')
def installed(tmp_path_factory, wheel):
    environment = Environment(tmp_path_factory.mktemp('wheel') / 'venv')
    environment.pip('install', '--no-deps', wheel)
    return environment


def test_wheel_holds_package_and_startup_files_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        record = next(archive.read(name).decode() for name in names if name.endswith('/RECORD'))
    assert len(names) == len(set(names))
    roots = {name.split('/')[0] for name in names}
    dist_info = {root for root in roots if root.endswith('.dist-info')}
    assert roots - dist_info == {'timm_mobilenext', '_timm_mobilenext_autoload.py', *STARTUP_FILES}
    assert 'timm_mobilenext/py.typed' in names
    assert all(f'{name},sha256=' in record for name in STARTUP_FILES)


def test_sdist_holds_what_the_build_needs(dist):
    with tarfile.open(next(dist.glob('*.tar.gz'))) as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}
    assert {'build_hook.py', '_timm_mobilenext_autoload.py', 'LICENSE', 'README.md', 'pyproject.toml'} <= names


def test_licences_name_all_data_in_the_wheel(wheel):
    package = 'timm_mobilenext/'
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        told, metadata = (
            archive.read(next(name for name in names if name.endswith(end))).decode()
            for end in ('/licenses/LICENSES.md', '.dist-info/METADATA'))
    rows = re.findall(r'^\| `([^`]+)` \|', told, flags=re.M)
    data = [
        name.removeprefix(package) for name in names
        if name.startswith(package) and not name.endswith(('.py', 'py.typed'))]
    assert len(rows) == 3 and len(data) > 30
    # a row is a file, or a folder and all in it
    assert [name for name in data if not any(f'{name}/'.startswith(row.rstrip('/') + '/') for row in rows)] == []
    assert [row for row in rows if not any(name.startswith(row) for name in data)] == []
    assert 'License-Expression: Apache-2.0 AND CC0-1.0 AND MIT\n' in metadata
    assert metadata.count('License-File: ') == 3


def test_same_sources_give_the_same_bytes(dist, tmp_path):
    umask = os.umask(0o007)
    try:
        again = build(tmp_path, TZ='Asia/Kolkata')
    finally:
        os.umask(umask)
    first, second = ({file.name: file.read_bytes() for file in folder.iterdir()} for folder in (dist, again))
    assert first.keys() == second.keys() and len(first) == 2
    assert [name for name in first if first[name] != second[name]] == []


def test_archives_tell_nothing_of_the_machine(dist):
    with tarfile.open(next(dist.glob('*.tar.gz'))) as archive:
        told = {(file.uid, file.gid, file.uname, file.gname, file.mtime) for file in archive}
        modes = {oct(file.mode) for file in archive if file.isfile()}
    assert (told, modes) == ({(0, 0, '', '', 1600000000)}, {'0o644'})
    with zipfile.ZipFile(next(dist.glob('*.whl'))) as archive:
        told = {(file.date_time, oct(file.external_attr >> 16)) for file in archive.infolist()}
    assert told == {((2020, 9, 13, 12, 26, 40), '0o100644')}


def test_wheel_makes_timm_know_the_models(installed):
    assert installed.prints('-W', 'error::UserWarning', '-c', CREATE) == '7'


def test_wheel_brings_trained_weights_and_photographs(installed):
    photograph = installed.site_packages / 'timm_mobilenext' / 'photographs' / 'moose.jpg'
    row = installed.prints('-m', 'timm_mobilenext', 'predict', photograph, HF_HUB_OFFLINE='1').splitlines()[1]
    assert row.split()[:2] == ['moose.jpg', 'deer']


def test_editable_install_makes_timm_know_the_models(dist, tmp_path):
    with tarfile.open(next(dist.glob('*.tar.gz'))) as archive:
        archive.extractall(tmp_path, filter='data')
    environment = Environment(tmp_path / 'venv')
    source = next(tmp_path.glob('timm_mobilenext-*'))
    environment.pip('install', '--no-deps', '--no-build-isolation', '--editable', source)
    where = 'import timm, timm_mobilenext; print(timm.is_model("mobilenext_100"), timm_mobilenext.__file__)'
    is_model, path = environment.prints('-c', where).split()
    assert is_model == 'True'
    assert 'site-packages' not in path


def test_uninstall_leaves_nothing_behind(wheel, tmp_path):
    environment = Environment(tmp_path / 'venv')
    before = sorted(tmp_path.rglob('*'))
    environment.pip('install', '--no-deps', wheel)
    environment.prints('-c', 'import sys')
    assert sorted(tmp_path.rglob('*')) != before
    environment.pip('uninstall', '--yes', 'timm-mobilenext')
    assert sorted(tmp_path.rglob('*')) == before
    assert environment.prints('-c', 'import timm; print(timm.is_model("mobilenext_100"))') == 'False'


def test_start_without_timm_imports_nothing(installed):
    loaded = 'import sys; print(*{"torch", "timm", "timm_mobilenext", "importlib.util"} & set(sys.modules))'
    assert installed.prints('-c', loaded) == ''
    assert installed.prints('-c', 'import sys; print("_timm_mobilenext_autoload" in sys.modules)') == 'True'


def test_start_file_names_what_can_be_called(installed):
    # what Python 3.15 does with the .start file (PEP 829), here on an older one
    resolve = (
        'import sys, pathlib, pkgutil, _timm_mobilenext_autoload as autoload; autoload.disarm();'
        f'entry = pathlib.Path({str(installed.site_packages)!r}, {STARTUP_FILES[1]!r}).read_text().strip();'
        'pkgutil.resolve_name(entry)();'
    )
    assert installed.prints('-c', resolve + CREATE) == '7'


def test_environment_variable_turns_autoload_off(installed):
    off = dict(TIMM_MOBILENEXT_AUTOLOAD='0')
    run = installed.run('-c', CREATE, **off)
    assert 'Unknown model (mobilenext_035)' in run.stderr
    # the explicit way, and what train.py --device-modules does
    explicit = 'import importlib; importlib.import_module("timm_mobilenext");'
    assert installed.prints('-W', 'error::UserWarning', '-c', explicit + CREATE, **off) == '7'


def test_importing_twice_and_reloading_does_not_warn(installed):
    reload = (
        'import timm, timm_mobilenext, importlib;'
        'importlib.reload(timm_mobilenext); importlib.reload(timm_mobilenext.models.mobilenext);'
    )
    assert installed.prints('-W', 'error::UserWarning', '-c', reload + CREATE) == '7'
    assert installed.prints('-W', 'error::UserWarning', '-c', 'import timm_mobilenext;' + CREATE) == '7'


def test_any_import_of_timm_registers(installed):
    listed = 'import timm.layers, sys; print("mobilenext_100" in sys.modules["timm"].list_models())'
    assert installed.prints('-c', listed) == 'True'


def test_reload_of_timm_models_sees_its_own_loader(installed):
    loader = 'import timm, importlib; importlib.reload(timm.models); print(type(timm.models.__spec__.loader).__name__);'
    assert installed.prints('-c', loader + CREATE).split() == ['SourceFileLoader', '7']


def test_spawned_workers_know_the_models(installed, tmp_path):
    script = tmp_path / 'spawn.py'
    script.write_text(
        'import multiprocessing\n'
        'def features(name):\n'
        '    import timm\n'
        '    return timm.create_model(name).num_features\n'
        'if __name__ == "__main__":\n'
        '    with multiprocessing.get_context("spawn").Pool(1) as pool:\n'
        '        print(pool.map(features, ["mobilenext_035"]))\n'
    )
    assert installed.prints(script) == '[1280]'


def test_torchrun_knows_the_models(installed, tmp_path):
    script = tmp_path / 'ranks.py'
    script.write_text(
        'import os, timm\n'
        f'open(os.path.join({str(tmp_path)!r}, os.environ["RANK"]), "w").write(str(timm.is_model("mobilenext_100")))\n'
    )
    installed.prints('-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2', script)
    assert [(tmp_path / rank).read_text() for rank in '01'] == ['True', 'True']


def test_broken_plugin_leaves_timm_usable(installed, tmp_path):
    (tmp_path / 'timm_mobilenext.py').write_text('raise OSError("disk on fire")\n')
    use = 'import sys; sys.path.insert(0, sys.argv[1]); import timm; print(timm.is_model("resnet18"))'
    run = installed.run('-c', use, tmp_path)
    assert run.stdout.strip() == 'True'
    assert run.stderr.count('Warning') == 1
    assert 'timm-mobilenext could not register its models with timm: OSError: disk on fire' in run.stderr


def test_timm_without_a_private_name_is_reported_in_one_line(installed, tmp_path):
    # a timm of the future, for which stands a copy of the installed one with a name moved away
    import timm

    source = Path(timm.__file__).parent
    copy = tmp_path / 'timm'
    shutil.copytree(source, copy)  # what a link leads to, never through it
    builder = copy / 'models' / '_efficientnet_builder.py'
    builder.write_text(builder.read_text().replace('_scale_stage_depth', '_scale_depth_of_stage'))
    importing = 'import sys; sys.path.insert(0, sys.argv[1]); import timm; print(timm.is_model("resnet18"));'
    run = installed.run('-c', importing, tmp_path)
    assert run.stdout.strip() == 'True' and run.stderr.count('Warning') == 1
    run = installed.run('-W', 'ignore', '-c', importing + 'import timm_mobilenext', tmp_path)
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith(f'ImportError: timm-mobilenext does not work with the installed timm {timm.__version__}')
    assert '_scale_stage_depth' in last and 'Supported are timm 1.0.' in last


def test_failing_timm_import_can_be_repeated(installed, tmp_path):
    # the first import fails on what timm needs, the second finds it
    script = tmp_path / 'retry.py'
    script.write_text(
        'import sys\n'
        'sys.modules["timm.models._registry"] = None\n'
        'try:\n'
        '    import timm\n'
        'except ImportError:\n'
        '    for name in [name for name in sys.modules if name.startswith("timm.") or name == "timm"]:\n'
        '        del sys.modules[name]\n'
        'import timm\n'
        'print(timm.is_model("mobilenext_100"))\n'
    )
    assert installed.prints(script) == 'True'
