""" Push a model to the Hugging Face Hub in one commit: a checkpoint, a training by timm's train.py, or a Hub folder

timm loads what is pushed before it is pushed. The token, the endpoint and the cache are huggingface_hub's, by its own
environment variables.
"""
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, List, Optional, Tuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, constants, HfApi, ModelCard
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from rich.console import Console

from ..shared.console import create_console
from ..shared.errors import shown, UserError
from ..shared.names import check_model, split_repository
from .access import check_answer, check_repo_id, check_revision, create_api, read_token, sha_and_files
from .cards import LOCAL_NAME, make_weights_card
from .convert import read_source, UNKNOWN_LICENSE
from .folders import copy_hub_folder, load_hub_folder, ONNX_FILES, reload_difference, save_hub_folder, WEIGHTS
from .labels import check_label_names, read_label_names
from .messages import plain_hub_errors
from .onnx import check_onnx, write_onnx_folder
from .runs import find_checkpoint
from .settings import PushSettings

__all__ = ['run_push']

_COMMIT = re.compile(r'[0-9a-f]{40}')
_CARD = 'README.md'


@dataclass
class Target:
    """ What is on the Hub before a push."""
    parent: Optional[str]  # last commit, None if there is no repository yet
    files: List[str]
    is_new_branch: bool  # has to be created


def run_push(settings: PushSettings) -> None:
    """ Push weights to the Hub in one commit, and print what is pushed.

    Args:
        settings: What to push, and where.

    Raises:
        UserError: If a setting is wrong, the source cannot be read, the Hub refuses, or the connection fails.
    """
    console = create_console()
    repo_id, revision = split_repository(settings.repo_id)
    settings = replace(settings, repo_id=repo_id, revision=settings.revision or revision)
    check_settings(settings)
    with TemporaryDirectory(prefix='timm-mobilenext-') as temporary:
        folder = Path(temporary)
        console.print('\n'.join(make_folder(settings, folder)))
        if settings.onnx:
            write_onnx_folder(folder, load_hub_folder(folder), settings.onnx, console)
        with plain_hub_errors(settings.repo_id, settings.revision, settings.create_pr):
            api = create_api()
            user = check_user(api)
            validate_card((folder / _CARD).read_text(encoding='utf-8'))
            new_name = find_new_name(api, settings.repo_id)
            if new_name:
                console.print(f'renamed  {settings.repo_id} is {new_name} on the Hub')
                rename_in_card(folder / _CARD, settings.repo_id, new_name)
                settings = replace(settings, repo_id=new_name)
            target = look_up(api, settings)
            console.print(f'to       {describe_target(api, settings, target)}, by {user}')
            added, removed = plan_commit(folder, target, settings.overwrite_card, console)
            if settings.dry_run:
                console.print('dry run  nothing was pushed')
                return
            outcome, name = commit(api, settings, target, folder, added, removed)
    console.print(f'pushed   {outcome}')
    console.print(f'\nimport timm; model = timm.create_model({name!r}, pretrained=True).eval()')


def check_settings(settings: PushSettings) -> None:
    """ Raise a UserError for what is wrong whatever the Hub and the source hold."""
    if settings.model is not None:
        check_model(settings.model)
    check_repo_id(settings.repo_id)
    check_revision(settings.revision)
    if settings.revision and _COMMIT.fullmatch(settings.revision):
        raise UserError(f'{settings.revision} is a commit, and only a branch can be pushed to: give a branch.')
    if constants.HF_HUB_OFFLINE:
        raise UserError('HF_HUB_OFFLINE is set, and nothing can be pushed offline: unset it.')
    if settings.onnx:
        check_onnx(settings.onnx)


def make_folder(settings: PushSettings, folder: Path) -> List[str]:
    """ Make the Hub folder that is pushed, and check it by loading it.

    Returns:
        Lines that tell people what it was made of.
    """
    source, name, license = settings.source, f'hf-hub:{settings.repo_id}', settings.license
    names = read_label_names(settings.label_names) if settings.label_names else None
    if not (source / 'config.json').is_file():
        found = read_source(find_checkpoint(source) if source.is_dir() else source, settings.model, settings.ema)
        model = found.model
        check_label_names(names, model.num_classes)
        about = f'{found.about} Pushed by `timm-mobilenext push`.'
        card = make_weights_card(
            name, model, about, license or found.license, label_names=names, training=found.training,
            onnx=settings.onnx is not None)
        # with the pickle that an older timm needs for loading; it is removed after that if it is not pushed
        save_hub_folder(
            folder, model, card, label_names=names, model_args=found.model_args, pickle=settings.pickle or None)
        reload_difference(folder, model, found.logits)
        if not settings.pickle:
            (folder / WEIGHTS[1]).unlink(missing_ok=True)
        return found.lines

    if settings.model or settings.ema is not None:
        raise UserError(f'{source} is a Hub folder, and its config.json names the model: leave out --model and --ema.')
    model = load_hub_folder(source)
    cfg = model.pretrained_cfg
    check_label_names(names, model.num_classes)
    if (source / _CARD).is_file():
        card = read_card(source / _CARD, license).replace(LOCAL_NAME, name)
    else:
        license = license or cfg.get('license') or UNKNOWN_LICENSE
        about, label_names = 'Pushed by `timm-mobilenext push`.', names or cfg.get('label_names')
        card = make_weights_card(name, model, about, license, label_names=label_names, onnx=settings.onnx is not None)
    copy_hub_folder(source, folder, model, card, names, settings.pickle)
    load_hub_folder(folder)
    return [f'folder   {source}', f'network  {cfg["architecture"]}; {model.num_classes} classes']


def read_card(file: Path, license: Optional[str]) -> str:
    """ Read a model card, and give it another licence if there is one.

    Raises:
        UserError: If the file is not a model card.
    """
    try:
        text = file.read_text(encoding='utf-8')
    except UnicodeDecodeError as e:
        raise UserError(f'{file} is not text: {e}.') from None
    try:
        card = ModelCard(text, ignore_metadata_errors=True)
    except Exception as e:  # of YAML, or of what huggingface_hub makes of it
        raise UserError(f'{file} has front matter that is not YAML: {shown(" ".join(str(e).split()))}') from None
    if license:
        card.data['license'] = license
        return str(card)
    return text


def validate_card(text: str) -> None:
    """ Ask the Hub whether it accepts a card, and raise a UserError with its reasons if not."""
    try:
        ModelCard(text, ignore_metadata_errors=True).validate()
    except ValueError as e:
        try:
            reason = '; '.join(' '.join(error['message'].split()) for error in json.loads(str(e))['errors'])
        except (ValueError, LookupError, TypeError, AttributeError):
            reason = ' '.join(str(e).split())
        raise UserError(f'The Hub does not accept the model card, README.md: {shown(reason)}') from None


def check_user(api: HfApi) -> str:
    """ Name of the user, whose token may write."""
    if read_token() is None:
        raise UserError(f'There is no token for {api.endpoint}: run `hf auth login`, or set HF_TOKEN.')
    answer: Any = api.whoami()
    name = _find(answer, 'name')
    check_answer(name)
    if _find(answer, 'auth', 'accessToken', 'role') == 'read':
        raise UserError(f'The token of {shown(name)} may only read: use one that may write.')
    return name


def _find(answer: Any, *keys: str) -> Any:
    """ What an answer has behind such keys, None if it has no such keys."""
    for key in keys:
        answer = answer.get(key) if isinstance(answer, dict) else None
    return answer


def find_new_name(api: HfApi, repo_id: str) -> Optional[str]:
    """ Name to which a repository was renamed; None if it was not, or if there is none."""
    try:
        found = api.model_info(repo_id).id  # the Hub redirects what is asked of the old name, but no commit
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return None
    check_answer(found)
    return found if found.lower() != repo_id.lower() else None


def rename_in_card(file: Path, old: str, new: str) -> None:
    """ Let a model card name a repository as it is named now."""
    text = file.read_text(encoding='utf-8')
    file.write_text(re.sub(rf'(?<![\w./-]){re.escape(old)}(?![\w-])', new, text), encoding='utf-8')


def look_up(api: HfApi, settings: PushSettings) -> Target:
    """ Look up what is on the Hub.

    Raises:
        UserError: If nothing can be pushed to it.
    """
    repo_id, revision = settings.repo_id, settings.revision
    may_create = not (settings.create_pr or revision is not None and revision.startswith('refs/'))
    try:
        info = api.model_info(repo_id)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        if revision and not may_create:
            raise UserError(
                f'{repo_id} does not exist yet, and so it has no {shown(revision)}: leave out --revision.') from None
        return Target(None, [], is_new_branch=revision not in (None, 'main'))
    if settings.private and not info.private:
        raise UserError(f'{repo_id} is there already and public: make it private in its settings first.')
    is_new_branch = False
    if revision:
        refs = api.list_repo_refs(repo_id, include_pull_requests=True)
        tags = [ref.name for ref in refs.tags]
        branches = [*(ref.name for ref in refs.branches), *(ref.ref for ref in refs.pull_requests or [])]
        check_answer(*tags, *branches)
        if revision in tags:
            raise UserError(f'{shown(revision)} is a tag of {repo_id}: give a branch.')
        is_new_branch = revision not in branches
        if is_new_branch and not may_create:
            raise UserError(f'{repo_id} has no {shown(revision)}: give a branch that exists.')
        if not is_new_branch:
            info = api.model_info(repo_id, revision=revision)
    sha, files = sha_and_files(info)
    if '.gitignore' in files:  # huggingface_hub would leave out the files that it names, and commit the rest
        raise UserError(f'{repo_id} has a .gitignore, which may keep weights out: remove it there first.')
    return Target(sha, files, is_new_branch)


def describe_target(api: HfApi, settings: PushSettings, target: Target) -> str:
    """ Where the push goes, for people."""
    kind = 'there already' if target.parent else f'new, {"private" if settings.private else "public"}'
    branch = f', {"new " if target.is_new_branch else ""}branch {settings.revision}' if settings.revision else ''
    return f'{api.endpoint}/{settings.repo_id}, {kind}{branch}{", as a pull request" if settings.create_pr else ""}'


def plan_commit(folder: Path, target: Target, overwrite_card: bool, console: Console) -> Tuple[List[str], List[str]]:
    """ Choose the names of the files to add, and of those of the old weights to remove, and print both."""
    keeps_card = _CARD in target.files and not overwrite_card
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob('*') if file.is_file())
    added = [name for name in files if not (keeps_card and name == _CARD)]
    removed = [name for name in (*WEIGHTS, *ONNX_FILES) if name in target.files and name not in files]
    width = max(map(len, added))
    for name in added:
        console.print(f'file     {name:{width}} {(folder / name).stat().st_size:12,} bytes')
    if keeps_card:
        console.print('kept     README.md of the Hub; --overwrite-card replaces it')
    for name in removed:
        console.print(f'removed  {name}, of an earlier push')
    return added, removed


def commit(
        api: HfApi,
        settings: PushSettings,
        target: Target,
        folder: Path,
        added: List[str],
        removed: List[str],
) -> Tuple[str, str]:
    """ Commit all files at once, to a repository and a branch that are created if they do not exist.

    Returns:
        What was pushed, for people, and what `timm.create_model` loads it by.
    """
    repo_id, revision, parent = settings.repo_id, settings.revision, target.parent
    if parent is None:
        api.create_repo(repo_id, private=settings.private, exist_ok=True)
        parent = api.model_info(repo_id).sha
    if target.is_new_branch and revision:  # as `hf upload` does
        api.create_branch(repo_id, branch=revision, exist_ok=True)
        parent = api.model_info(repo_id, revision=revision).sha
    pushed = api.create_commit(
        repo_id,
        [
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in added),
            *(CommitOperationDelete(path_in_repo=name) for name in removed),
        ],
        commit_message='Push a model by timm-mobilenext',
        revision=revision,
        create_pr=settings.create_pr,
        parent_commit=parent,
    )
    check_answer(pushed.oid)
    revision = pushed.pr_revision or revision
    outcome = f'as {pushed.pr_url}' if pushed.pr_url else f'in commit {pushed.oid[:7]}'
    if pushed.oid == parent:
        outcome = 'nothing, all of it was there'
    return outcome, f'hf-hub:{repo_id}' + (f'@{revision}' if revision else '')
