""" Pull a model of timm from the Hugging Face Hub: the whole folder, loaded by timm, or nothing"""
import shutil
from pathlib import Path
from typing import List, Optional

from huggingface_hub import constants
from huggingface_hub.utils import filter_repo_objects

from ..shared.console import create_console
from ..shared.errors import UserError
from ..shared.files import replacing
from ..shared.names import split_repository
from .access import check_repo_id, check_revision, create_api, read_token, sha_and_files
from .folders import check_hub_folder, load_hub_folder, WEIGHTS
from .messages import plain_hub_errors

__all__ = ['download', 'run_pull']

_NOT_PULLED = ['.gitattributes', '.gitignore', '.git/*', '.cache/*']
# an older timm would unpickle these if they were beside model.safetensors
_PICKLES = ['*.bin', '*.pth', '*.pth.tar', '*.tar', '*.pt', '*.ckpt', '*.pkl', '*.pickle']


def run_pull(repo: str, output: Path) -> None:
    """ Pull a repository to a folder, and print what it holds.

    Args:
        repo: Repository, user/name or user/name@revision, or its address.
        output: Folder to write to.

    Raises:
        UserError: If an argument is wrong, anything but a Hub folder would be replaced, the Hub refuses, the connection
            fails, or timm does not load what was pulled.
    """
    console = create_console()
    repo_id, _ = split_repository(repo)
    snapshot = download(repo)
    check_hub_folder(output, snapshot)
    with replacing(output) as folder:
        copy_snapshot(snapshot, folder)
        try:
            model = load_hub_folder(folder)
        except UserError as e:
            raise UserError(str(e).replace(str(folder), repo_id)) from e
        size = sum(file.stat().st_size for file in folder.rglob('*') if file.is_file())
    console.print(f'pulled   {repo_id}, commit {snapshot.name[:7]}, {size:,} bytes')
    console.print(f'network  {model.pretrained_cfg["architecture"]}, {model.num_classes} classes; loaded by timm')
    console.print(f'written  {output}')
    console.print(f'\nimport timm; model = timm.create_model({f"local-dir:{output}"!r}, pretrained=True).eval()')


def download(repo: str, only: Optional[List[str]] = None) -> Path:
    """ Download a repository to huggingface_hub's cache.

    Args:
        repo: Repository, user/name or user/name@revision, or its address.
        only: Names of the files to download, all of them if None.

    Returns:
        Folder of the cache, with the commit as its name. Its files are links, and nothing has checked them.

    Raises:
        UserError: If the name is wrong, the Hub refuses, or the connection fails.
    """
    repo_id, revision = split_repository(repo)
    check_repo_id(repo_id)
    check_revision(revision)
    with plain_hub_errors(repo_id, revision):
        read_token()
        api = create_api()
        newest: Optional[str] = None
        files: List[str] = []
        if not constants.HF_HUB_OFFLINE:
            newest, files = sha_and_files(api.model_info(repo_id, revision=revision))
        ignored = _NOT_PULLED + (_PICKLES if WEIGHTS[0] in files else [])
        snapshot = Path(api.snapshot_download(
            repo_id, revision=revision, allow_patterns=only, ignore_patterns=ignored))
    if newest and snapshot.name != newest:  # huggingface_hub falls back to its cache without a word
        raise UserError(f'{constants.ENDPOINT} failed, or {repo_id} was changed meanwhile: repeat the command.')
    return snapshot


def copy_snapshot(snapshot: Path, folder: Path) -> None:
    """ Copy a folder of huggingface_hub's cache to one of plain files, and leave out what is not of the model."""
    patterns = _NOT_PULLED + (_PICKLES if (snapshot / WEIGHTS[0]).is_file() else [])

    def ignored(parent: str, names: List[str]) -> List[str]:
        paths = {name: (Path(parent) / name).relative_to(snapshot).as_posix() for name in names}
        kept = set(filter_repo_objects(paths.values(), ignore_patterns=patterns))
        return [name for name, path in paths.items() if path not in kept]

    shutil.copytree(snapshot, folder, ignore=ignored)
