""" Push to the Hugging Face Hub and pull from it: one commit or none, one folder or none

Tokens, endpoint, caches and offline mode are huggingface_hub's affair, by its own environment variables. What is pushed
and what is pulled is first loaded by timm.
"""
import json
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Iterator, List, Optional, Tuple

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    constants,
    get_token,
    HfApi,
    ModelCard,
    snapshot_download,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import filter_repo_objects, tqdm, validate_repo_id

from ..shared.console import create_console
from ..shared.errors import UserError
from ..shared.files import replacing
from ..version import __version__
from .cards import LOCAL_NAME, make_weights_card
from .convert import read_source, UNKNOWN_LICENSE
from .folders import (
    check_hub_folder,
    copy_hub_folder,
    load_hub_folder,
    logits_of,
    reload_difference,
    save_hub_folder,
    WEIGHTS,
)
from .runs import find_checkpoint

__all__ = ['read_label_names', 'run_pull', 'run_push']

_LIBRARY = 'timm-mobilenext'
_REVISION = re.compile(r'[^\s@\\]+')
_COMMIT = re.compile(r'[0-9a-f]{40}')
_NOT_PULLED = ['.gitattributes', '.gitignore', '.git/*', '.cache/*']
# what an older timm would unpickle if it were beside model.safetensors
_PICKLES = ['*.bin', '*.pth', '*.pth.tar', '*.tar', '*.pt', '*.ckpt', '*.pkl', '*.pickle']
_REPEAT = 'repeat the command, which goes on where it was'


def run_push(
        source: Path,
        repo_id: str,
        model_name: Optional[str] = None,
        ema: Optional[bool] = None,
        label_names: Optional[Path] = None,
        license: Optional[str] = None,
        pickle: bool = False,
        private: bool = False,
        revision: Optional[str] = None,
        create_pr: bool = False,
        overwrite_card: bool = False,
        dry_run: bool = False,
) -> None:
    """ Push weights to the Hub in one commit, and print what is pushed.

    Args:
        source: Checkpoint, output folder of train.py, or Hub folder.
        repo_id: Repository, user/name.
        model_name: Model that a checkpoint is of, found out if None.
        ema: Averaged weights of a checkpoint or raw ones; the averaged ones where there are any if None.
        label_names: File that names the classes.
        license: Licence of the weights, in the Hub's spelling; what the source says if None.
        pickle: Push pytorch_model.bin beside model.safetensors.
        private: Create the repository as a private one.
        revision: Branch, main if None, made of main if there is none of that name.
        create_pr: Open a pull request.
        overwrite_card: Replace a README.md that is on the Hub.
        dry_run: Check and show everything, and push nothing.

    Raises:
        UserError: If an argument is not what it should be.
        UserError: If the source can't be read, the Hub refuses, or the way to it breaks.
    """
    console = create_console()
    check_repo_id(repo_id)
    check_revision(revision)
    if revision and _COMMIT.fullmatch(revision):
        raise UserError(f'{revision} is a commit, upon which nothing can be pushed: give a branch.')
    if constants.HF_HUB_OFFLINE:
        raise UserError('HF_HUB_OFFLINE is set, by which nothing can be pushed: unset it.')
    with TemporaryDirectory(prefix='timm-mobilenext-') as temporary:
        folder = Path(temporary)
        for line in make_folder(source, folder, repo_id, model_name, ema, label_names, license, pickle):
            console.print(line)
        with told_plainly(repo_id, revision, create_pr):
            api = HfApi(library_name=_LIBRARY, library_version=__version__)
            user = check_user(api)
            validate_card((folder / 'README.md').read_text(encoding='utf-8'))
            parent, there, is_new_branch = look_up(api, repo_id, private, revision, create_pr)
            files = [file for file in sorted(folder.iterdir()) if is_pushed(file.name, there, overwrite_card)]
            stale = [name for name in WEIGHTS if name in there and not (folder / name).exists()]
            kind = 'there already' if parent else f'new, {"private" if private else "public"}'
            branch = f', {"new " if is_new_branch else ""}branch {revision}' if revision else ''
            request = ', as a pull request' if create_pr else ''
            console.print(f'to       {api.endpoint}/{repo_id}, {kind}{branch}{request}, by {user}')
            for file in files:
                console.print(f'file     {file.name:17} {file.stat().st_size:12,} bytes')
            if len(files) < len(list(folder.iterdir())):
                console.print('kept     README.md of the Hub; --overwrite-card replaces it')
            for name in stale:
                console.print(f'removed  {name}, of earlier weights')
            if dry_run:
                console.print('dry run  nothing was pushed')
                return
            if parent is None:
                api.create_repo(repo_id, private=private, exist_ok=True)
                parent = api.model_info(repo_id).sha
            if is_new_branch and revision:  # as `hf upload` does
                api.create_branch(repo_id, branch=revision, exist_ok=True)
                parent = api.model_info(repo_id, revision=revision).sha
            commit = api.create_commit(
                repo_id,
                [
                    *(CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file) for file in files),
                    *(CommitOperationDelete(path_in_repo=name) for name in stale),
                ],
                commit_message='Push a model by timm-mobilenext',
                revision=revision,
                create_pr=create_pr,
                parent_commit=parent,
            )
    where = f'as {commit.pr_url}' if commit.pr_url else f'in commit {commit.oid[:7]}'
    console.print('pushed   nothing, all of it was there' if commit.oid == parent else f'pushed   {where}')
    at = commit.pr_revision or revision
    name = f'hf-hub:{repo_id}' + (f'@{at}' if at else '')
    console.print(f'\nimport timm; model = timm.create_model({name!r}, pretrained=True).eval()')


def run_pull(repo_id: str, output: Path) -> None:
    """ Pull a repository to a folder, and print what it holds.

    Args:
        repo_id: Repository, with @revision perhaps.
        output: Folder to write to.

    Raises:
        UserError: If an argument is not what it should be, or something else would be replaced.
        UserError: If the Hub refuses, the way to it breaks, or what was pulled is no model that timm loads.
    """
    console = create_console()
    repo_id, _, revision = repo_id.partition('@')
    check_repo_id(repo_id)
    check_revision(revision or None)
    with told_plainly(repo_id, revision):
        read_token()
        newest, files = None, []
        if not constants.HF_HUB_OFFLINE:
            api = HfApi(library_name=_LIBRARY, library_version=__version__)
            info = api.model_info(repo_id, revision=revision or None)
            newest, files = info.sha, [file.rfilename for file in info.siblings or []]
        snapshot = Path(snapshot_download(
            repo_id,
            revision=revision or None,
            ignore_patterns=_NOT_PULLED + (_PICKLES if WEIGHTS[0] in files else []),
            library_name=_LIBRARY,
            library_version=__version__,
        ))
        if newest and snapshot.name != newest:  # the cache, to which huggingface_hub falls back without a word
            raise UserError(f'{constants.ENDPOINT} failed, or {repo_id} was changed meanwhile: repeat the command.')
    ignored = _NOT_PULLED + (_PICKLES if (snapshot / WEIGHTS[0]).is_file() else [])
    check_hub_folder(output, snapshot)
    with replacing(output) as folder:
        # the files of the cache are links
        shutil.copytree(snapshot, folder, ignore=lambda parent, names: _ignore(snapshot, Path(parent), names, ignored))
        try:
            model = load_hub_folder(folder)
        except RuntimeError as e:
            raise UserError(str(e).replace(str(folder), repo_id)) from e
        size = sum(file.stat().st_size for file in folder.rglob('*') if file.is_file())
    console.print(f'pulled   {repo_id}, commit {snapshot.name[:7]}, {size:,} bytes')
    console.print(f'network  {model.pretrained_cfg["architecture"]}, {model.num_classes} classes; loaded by timm')
    console.print(f'written  {output}')
    console.print(f'\nimport timm; model = timm.create_model({f"local-dir:{output}"!r}, pretrained=True).eval()')


def _ignore(snapshot: Path, parent: Path, names: List[str], patterns: List[str]) -> List[str]:
    """ Files and folders of a folder of the snapshot that are not copied."""
    paths = {name: (parent / name).relative_to(snapshot).as_posix() for name in names}
    kept = set(filter_repo_objects(paths.values(), ignore_patterns=patterns))
    return [name for name, path in paths.items() if path not in kept]


def make_folder(
        source: Path,
        folder: Path,
        repo_id: str,
        model_name: Optional[str],
        ema: Optional[bool],
        label_names: Optional[Path],
        license: Optional[str],
        pickle: bool,
) -> List[str]:
    """ Make the Hub folder that is pushed, checked by loading it, and tell what it was made of."""
    names = read_label_names(label_names) if label_names else None
    name = f'hf-hub:{repo_id}'
    if not (source / 'config.json').is_file():
        found = read_source(find_checkpoint(source) if source.is_dir() else source, model_name, ema)
        model, license = found.model, license or found.license
        check_label_names(names, model.num_classes)
        about = f'{found.about} Pushed by `timm-mobilenext push`.'
        text = make_weights_card(name, model, about, license, label_names=names, training=found.training)
        # with what this timm loads, of which the pickle is left out again
        save_hub_folder(folder, model, text, label_names=names, model_args=found.model_args, pickle=pickle or None)
        reload_difference(folder, model, logits_of(model))
        if not pickle:
            (folder / WEIGHTS[1]).unlink(missing_ok=True)
        return found.lines

    if model_name or ema is not None:
        raise UserError(f'{source} is a Hub folder, whose config.json says it all: leave out --model and --ema.')
    model = load_hub_folder(source)
    cfg = model.pretrained_cfg
    check_label_names(names, model.num_classes)
    card = source / 'README.md'
    if card.is_file():
        text = read_card(card, license).replace(LOCAL_NAME, name)
    else:
        license = license or cfg.get('license') or UNKNOWN_LICENSE
        names_shown = names or cfg.get('label_names')
        text = make_weights_card(
            name, model, 'Pushed by `timm-mobilenext push`.', license, label_names=names_shown)
    copy_hub_folder(source, folder, model, text, names, pickle)
    load_hub_folder(folder)
    return [f'folder   {source}', f'network  {cfg["architecture"]}; {model.num_classes} classes']


def read_label_names(file: Path) -> List[str]:
    """ Class names of a file: a JSON list, or a name in each line.

    Raises:
        UserError: If there are none, or if it is no text.
    """
    try:
        text = file.read_text(encoding='utf-8-sig')  # some editors begin a file so
        names = json.loads(text) if file.suffix == '.json' else [line.strip() for line in text.strip().split('\n')]
    except ValueError as e:
        raise UserError(f'{file} can not be read as class names, it is damaged: {e}.') from None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise UserError(f'{file} names no classes, or not all: give a JSON list of names, or a name in each line.')
    return names


def check_label_names(names: Optional[List[str]], num_classes: int) -> None:
    """ Raise a UserError if there are names, but not one for each class."""
    if names is not None and len(names) != num_classes:
        raise UserError(f'There are {len(names)} class names for {num_classes} classes: give one for each, in order.')


def read_card(file: Path, license: Optional[str]) -> str:
    """ Text of a model card, with another licence if one is given; raise a UserError if it is no card."""
    text = file.read_text(encoding='utf-8')
    try:
        card = ModelCard(text, ignore_metadata_errors=True)
    except Exception as e:
        raise UserError(f'{file} has a front matter that is no YAML: {" ".join(str(e).split())[:200]}') from None
    if license:
        card.data['license'] = license
        return str(card)
    return text


def validate_card(text: str) -> None:
    """ Ask the Hub whether it takes a card, and raise a UserError that says what it has against it."""
    try:
        ModelCard(text, ignore_metadata_errors=True).validate()
    except ValueError as e:
        try:
            said = '; '.join(' '.join(error['message'].split()) for error in json.loads(str(e))['errors'])
        except (ValueError, LookupError, TypeError):
            said = ' '.join(str(e).split())
        raise UserError(f'The Hub does not take the model card, README.md: {said}') from None


def check_repo_id(repo_id: str) -> None:
    """ Raise a UserError if this is not user/name."""
    validate_repo_id(repo_id)
    if repo_id.count('/') != 1:
        raise UserError(f'{repo_id!r} names no repository: give user/name.')


def check_revision(revision: Optional[str]) -> None:
    """ Raise a UserError if this can't be a branch, tag or commit."""
    if revision is not None and not _REVISION.fullmatch(revision):
        raise UserError(f'{revision!r} can not be a revision: give a branch, a tag or a commit.')


def read_token() -> Optional[str]:
    """ Token, None if there is none.

    Raises:
        UserError: If it could not be sent, which would end with a message that shows it.
    """
    token = get_token()
    if token and not (token.isascii() and token.isprintable() and ' ' not in token):
        raise UserError('The token has characters that no token has: copy it once more.')
    return token


def check_user(api: HfApi) -> str:
    """ Name of the user, if there is a token that may write."""
    if read_token() is None:
        raise UserError(f'There is no token for {api.endpoint}: run `hf auth login`, or set HF_TOKEN.')
    user = api.whoami()
    role = user.get('auth', {}).get('accessToken', {}).get('role')
    if role == 'read':
        raise UserError(f'The token of {user["name"]} may only read: take one that may write.')
    return user['name']


def look_up(
        api: HfApi,
        repo_id: str,
        private: bool,
        revision: Optional[str],
        create_pr: bool,
) -> Tuple[Optional[str], List[str], bool]:
    """ What is pushed upon.

    Returns:
        Last commit, None if there is no repository yet; its files; and whether the branch has to be made of main.

    Raises:
        UserError: If it can't be pushed upon.
    """
    may_be_made = not (create_pr or revision is not None and revision.startswith('refs/'))
    try:
        info = api.model_info(repo_id)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        if revision and not may_be_made:
            raise UserError(f'{repo_id} is not there yet, and so has no {revision}: leave out --revision.') from None
        return None, [], revision not in (None, 'main')
    if private and not info.private:
        raise UserError(f'{repo_id} is there already and public: make it private in its settings first.')
    is_new_branch = False
    if revision:
        refs = api.list_repo_refs(repo_id, include_pull_requests=True)
        if revision in {ref.name for ref in refs.tags}:
            raise UserError(f'{revision} is a tag of {repo_id}: give a branch.')
        branches = {ref.name for ref in refs.branches} | {ref.ref for ref in refs.pull_requests or []}
        is_new_branch = revision not in branches
        if is_new_branch and not may_be_made:
            raise UserError(f'{repo_id} has no {revision}: give a branch that is there.')
        if not is_new_branch:
            info = api.model_info(repo_id, revision=revision)
    there = [file.rfilename for file in info.siblings or []]
    if '.gitignore' in there:  # by which huggingface_hub may leave out weights and commit the rest
        raise UserError(f'{repo_id} has a .gitignore, which may keep weights out: remove it there first.')
    return info.sha, there, is_new_branch


def is_pushed(name: str, there: List[str], overwrite_card: bool) -> bool:
    return name != 'README.md' or overwrite_card or name not in there


@contextmanager
def told_plainly(repo_id: str, revision: Optional[str], create_pr: bool = False) -> Iterator[None]:
    """ Say in a line what the Hub or the way to it had against it, and never the token."""
    at = f'{repo_id}@{revision}' if revision else repo_id
    try:
        yield
        return
    except Exception as e:
        # huggingface_hub has had more than one HTTP library
        is_of_http = type(e).__module__.partition('.')[0] in ('httpx', 'httpx2', 'requests', 'urllib3')
        if not (is_of_http or isinstance(e, (HfHubHTTPError, OSError, RuntimeError, ValueError))):
            raise
        line = _reason(e, at, is_of_http)
    if create_pr and _REPEAT in line:
        there = f'{constants.ENDPOINT}/{repo_id}/discussions'
        line = line.replace(_REPEAT, f'repeat the command, if {there} does not show the pull request')
    for bar in list(getattr(tqdm, '_instances', ())):  # huggingface_hub leaves it open, and the line would stick to it
        bar.close()
    token = get_token()
    raise UserError(line.replace(token, '<token>') if token else line) from None


def _reason(error: BaseException, at: str, is_of_http: bool) -> str:
    endpoint = constants.ENDPOINT
    cause: Optional[BaseException] = error
    # some errors of huggingface_hub tell of no response, but of the error that led to them
    while cause and not isinstance(cause, OfflineModeIsEnabled) and getattr(cause, 'response', None) is None:
        cause = cause.__cause__
    if isinstance(cause, OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
        return f'{at} is not in the cache, or not whole, and HF_HUB_OFFLINE is set: unset it, or pull it once online.'
    if not isinstance(cause, HfHubHTTPError):
        if is_of_http or error.__cause__ is not None:
            return f'The connection to {endpoint} failed, {_first_line(error.__cause__ or error)}: {_REPEAT}.'
        return ' '.join(str(error).split())
    name, _, revision = at.partition('@')
    code = cause.response.status_code
    said = cause.server_message.splitlines()[0] if cause.server_message else _first_line(cause)
    if isinstance(cause, GatedRepoError):
        return f'{name} is gated: ask for access at {endpoint}/{name}, and use a token of that account.'
    if isinstance(cause, RevisionNotFoundError):
        return f'{name} has no revision {revision!r}: give a branch, a tag or a commit.'
    if said.startswith('Invalid credentials') or code == 401 and 'user token' in str(cause):
        return f'{endpoint} refuses the token (401): take another by `hf auth login`, or from HF_TOKEN.'
    if isinstance(cause, RepositoryNotFoundError):
        if get_token() is None:
            return f'{endpoint} has no {at}, or it is private: for that, run `hf auth login`, or set HF_TOKEN.'
        return f'{endpoint} has no {at}, or it is private and the token may not read it.'
    if code == 403:
        return f'The token may not do this (403): {said}'
    if code == 412:
        return f'{at} was changed by someone else meanwhile: nothing was committed, repeat the command.'
    if code == 429:
        wait = cause.response.headers.get('Retry-After')
        return f'{endpoint} has had too many requests (429): wait{f" {wait} s" if wait else ""}, then {_REPEAT}.'
    if code >= 500:
        return f'{endpoint} failed ({code}, {said}): {_REPEAT}.'
    return f'{endpoint} refused ({code}): {said}'


def _first_line(error: BaseException) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line.rstrip('.')
