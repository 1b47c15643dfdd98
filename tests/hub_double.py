"""A double of the Hugging Face Hub: a web server on loopback that speaks to huggingface_hub, for tests.

    hub = Hub(tmp_path / 'hub', users={'hf_secret': 'alice'})
    env = {'HF_ENDPOINT': hub.url, 'HF_TOKEN': 'hf_secret', 'HF_HUB_DISABLE_XET': '1', 'HF_HOME': ...}
    subprocess.run([...], env={**os.environ, **env})
    hub.repo('alice/model').files()         # what is on main now
    hub.fail('POST .*/commit/', status(503, retry_after=1))

It speaks what huggingface_hub uses of the Hub to create repositories, upload by git LFS's basic and multipart
transfers, commit, open pull requests, make branches, tell of models, list trees and download, by ranges too. Large
files are served as the Hub serves them: by a redirect to another origin, where the token must not go.

Repositories are folders: `repo.json` with the commits and refs, replaced whole, and `blobs/` by digest, which a `Hub`
on the same folder finds again. Nothing of it is for use outside of tests: there is no encryption,
and users are a dict.
"""
import base64
import hashlib
import itertools
import json
import os
import re
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from werkzeug import Request, Response
from werkzeug.serving import make_server, WSGIRequestHandler
from werkzeug.utils import redirect

__all__ = ['cut', 'drop', 'Fault', 'Hub', 'Refusal', 'Repo', 'status']

# what a fault does: answers, or raises, or returns None to let the Hub answer
Fault = Callable[['Hub', Request], Optional[Response]]
_LFS_SUFFIXES = ('.bin', '.onnx', '.safetensors', '.pth', '.tar', '.png')
_CHUNK = 1 << 16
_LICENSES = ['apache-2.0', 'mit', 'bsd-3-clause-clear', 'unknown', 'other']  # of the Hub's many


def _card_faults(metadata: Dict[str, Any]) -> List[str]:
    """What the Hub has against a card's metadata, by hub-docs' modelcard.md and by its answers in public threads."""
    faults = []

    def _need(place: str, values: Any, **kinds: Any) -> None:
        for key, kind in kinds.items():
            value = values.get(key) if isinstance(values, dict) else None
            if not isinstance(value, kind) or value == '':
                faults.append(f'"{place}.{key}" is required')

    if metadata.get('license', 'mit') not in _LICENSES:
        faults.append(f'"license" must be one of {_LICENSES}')
    ids = [('datasets', value) for value in metadata.get('datasets', [])]
    for i, model in enumerate(metadata.get('model-index', [])):
        _need(f'model-index[{i}]', model, name=str, results=list)
        for j, result in enumerate(model.get('results') or []):
            place = f'model-index[{i}].results[{j}]'
            _need(place, result, task=dict, dataset=dict, metrics=list)
            _need(f'{place}.task', result.get('task'), type=str)
            _need(f'{place}.dataset', result.get('dataset'), type=str, name=str)
            ids.append((f'{place}.dataset.type', (result.get('dataset') or {}).get('type')))
            for k, metric in enumerate(result.get('metrics') or []):
                _need(f'{place}.metrics[{k}]', metric, type=str, value=(int, float))
            if 'source' in result:
                _need(f'{place}.source', result['source'], url=str)
    for place, value in ids:
        if not re.fullmatch(r'(?:[\w-]+/)?[\w\-.]+', str(value), re.ASCII):
            faults.append(f'"{place}" with value "{value}" fails to match the required pattern')
    return faults


class Refusal(Exception):
    """What the Hub answers instead of a result, by its codes."""

    def __init__(self, status: int, error: str, code: str = ''):
        super().__init__(error)
        headers = {'X-Error-Message': error, **({'X-Error-Code': code} if code else {})}
        self.response = Response(json.dumps({'error': error}), status, headers, content_type='application/json')


@dataclass
class Repo:
    """A repository in a folder."""
    folder: Path
    data: Dict[str, Any] = field(default_factory=dict)

    def load(self) -> 'Repo':
        self.data = json.loads((self.folder / 'repo.json').read_text())
        return self

    def save(self) -> None:
        new = self.folder / 'repo.json.new'
        new.write_text(json.dumps(self.data))
        new.replace(self.folder / 'repo.json')

    def resolve(self, revision: str) -> str:
        """Commit that a branch, a pull request, or the commit itself names."""
        refs = self.data['refs']
        for name in (f'refs/heads/{revision}', revision):
            if name in refs:
                return refs[name]
        if revision in self.data['commits']:
            return revision
        raise Refusal(404, f'Invalid rev id: {revision}', 'RevisionNotFound')

    def files(self, revision: str = 'main') -> Dict[str, bytes]:
        """What a revision holds."""
        self.load()
        return {path: self.blob(entry) for path, entry in self.tree(revision).items()}

    def tree(self, revision: str) -> Dict[str, Any]:
        return self.data['commits'][self.resolve(revision)]['tree']

    def history(self, revision: str = 'main') -> List[str]:
        """Commits of a revision, the newest first."""
        self.load()
        commits, commit = [], self.resolve(revision)
        while commit:
            commits.append(commit)
            commit = self.data['commits'][commit]['parent']
        return commits

    def blob(self, entry: Dict[str, Any]) -> bytes:
        return (self.folder / 'blobs' / (entry.get('sha256') or entry['oid'])).read_bytes()

    def store(self, content: bytes, digest: str) -> None:
        file = self.folder / 'blobs' / digest
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f'{digest}.{threading.get_ident()}.new')
        new.write_bytes(content)
        new.replace(file)

    def commit(self, ref: str, parent: str, tree: Dict[str, Any], title: str) -> str:
        oid = hashlib.sha1(json.dumps([parent, tree, title, len(self.data['commits'])]).encode()).hexdigest()
        self.data['commits'][oid] = dict(parent=parent, tree=tree, title=title)
        self.data['refs'][ref] = oid
        self.save()
        return oid


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b'blob %d\0' % len(content) + content).hexdigest()


def regular_entry(content: bytes) -> Dict[str, Any]:
    return dict(oid=git_oid(content), size=len(content))


def lfs_entry(sha256: str, size: int) -> Dict[str, Any]:
    pointer = f'version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n'.encode()
    return dict(oid=git_oid(pointer), size=size, sha256=sha256, pointer_size=len(pointer))


class Hub:
    """The server.

    Args:
        folder: Where repositories are kept.
        users: Token to user name.
        port: Port, any free one if 0.
        part_size: Bytes of a part from which an upload has several; uploads are whole if None.
        fd: Listening socket of another server, to go on where it was.
    """

    def __init__(
            self,
            folder: Path,
            users: Optional[Dict[str, str]] = None,
            port: int = 0,
            part_size: Optional[int] = None,
            fd: Optional[int] = None,
    ):
        self.folder = Path(folder)
        self.users = dict(users or {})
        self.readers: List[str] = []  # tokens that may only read
        self.part_size = part_size
        self.requests: List[str] = []  # 'METHOD /path?query' in turn
        self.busy = 0  # requests that are being answered
        self.renamed: Dict[str, str] = {}  # old names of repositories to new ones
        self.faults: List[Tuple[str, Fault]] = []
        # told of 'before METHOD /path', 'answered METHOD /path' and, after each 64 KiB of it, 'uploading'
        self.on_event: Callable[[str], None] = lambda event: None
        self.connections: Set[socket.socket] = set()
        self._lock = threading.RLock()
        self._server = make_server('127.0.0.1', port, self, threaded=True, request_handler=_Handler, fd=fd)
        self._server.daemon_threads = True
        self.port = self._server.port
        threading.Thread(target=self._server.serve_forever, kwargs=dict(poll_interval=0.05), daemon=True).start()

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.port}'

    @property
    def cdn(self) -> str:
        """The same server by another name, hence another origin."""
        return f'http://localhost:{self.port}'

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self.connections):  # of clients that would go on talking to this server
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def restart(self) -> 'Hub':
        """Another server in place of this one, whose port no one else gets meanwhile."""
        fd = os.dup(self._server.fileno())
        self.stop()
        return Hub(self.folder, self.users, part_size=self.part_size, fd=fd)

    def fail(self, request: str, *faults: Fault) -> None:
        """Let the next requests whose 'METHOD /path?query' starts as the pattern says meet a fault each."""
        self.faults += [(request, fault) for fault in faults]

    def repo(self, repo_id: str) -> Repo:
        repo = Repo(self.folder / repo_id)
        if not (repo.folder / 'repo.json').exists():
            raise Refusal(404, 'Repository not found', 'RepoNotFound')
        return repo.load()

    def create(self, repo_id: str, private: bool = False, gated: bool = False) -> Repo:
        """A new repository, with the first commit that the Hub makes."""
        repo = Repo(self.folder / repo_id, dict(private=private, gated=gated, refs={}, commits={}))
        repo.folder.mkdir(parents=True)
        content = b'*.safetensors filter=lfs diff=lfs merge=lfs -text\n'
        repo.store(content, git_oid(content))
        repo.commit('refs/heads/main', '', {'.gitattributes': regular_entry(content)}, 'initial commit')
        return repo

    def put(self, repo_id: str, files: Dict[str, bytes], revision: str = 'main') -> str:
        """Commit files as a stranger would."""
        with self._lock:
            repo = self.repo(repo_id)
            tree = dict(repo.tree(revision))
            for path, content in files.items():
                is_lfs = path.endswith(_LFS_SUFFIXES)
                digest = hashlib.sha256(content).hexdigest() if is_lfs else git_oid(content)
                repo.store(content, digest)
                tree[path] = lfs_entry(digest, len(content)) if is_lfs else regular_entry(content)
            return repo.commit(f'refs/heads/{revision}', repo.resolve(revision), tree, 'by a stranger')

    def rename(self, old: str, new: str) -> None:
        """ Give a repository another name. What is asked of the old one is redirected."""
        (self.folder / old).rename(self.folder / new)
        self.renamed[old] = new

    # requests

    def __call__(self, environ, start_response):
        request = Request(environ)
        line = f'{request.method} {request.full_path.rstrip("?")}'
        self.requests.append(line)
        with self._lock:
            self.busy += 1
        try:
            self.on_event(f'before {line}')
            try:
                response = self._fault(line, request) or self._answer(request)
            except Refusal as e:
                response = e.response
            self.on_event(f'answered {line}')
        finally:
            with self._lock:
                self.busy -= 1
        return response(environ, start_response)

    def _fault(self, line: str, request: Request) -> Optional[Response]:
        with self._lock:
            due = next((fault for fault in self.faults if re.match(fault[0], line)), None)
            if due is None:
                return None
            self.faults.remove(due)
        return due[1](self, request)

    def _answer(self, request: Request) -> Response:
        for method, pattern, answer, is_write in _ROUTES:
            match = re.fullmatch(pattern, request.path)
            if match and request.method in method.split():
                parts = match.groupdict()
                if 'repo_id' not in parts:
                    return answer(self, request, **parts)
                old = parts['repo_id']
                if old in self.renamed:
                    return redirect(request.full_path.rstrip('?').replace(old, self.renamed[old], 1), 307)
                with self._lock:
                    repo = self._open(request, parts.pop('repo_id'), is_write)
                return answer(self, request, repo, **parts)
        raise Refusal(404, f'The double has no {request.method} {request.path}')

    def _user(self, request: Request) -> Optional[str]:
        token = request.headers.get('Authorization', '').removeprefix('Bearer ')
        if token and token not in self.users:
            raise Refusal(401, 'Invalid credentials in Authorization header')
        return self.users.get(token)

    def _open(self, request: Request, repo_id: str, is_write: bool) -> Repo:
        user = self._user(request)
        owner = repo_id.partition('/')[0]
        try:
            repo = self.repo(repo_id)
        except Refusal as e:
            raise e if user else Refusal(401, 'Invalid username or password.', 'RepoNotFound') from None
        if repo.data['private'] and user != owner:
            missing = Refusal(404, 'Repository not found', 'RepoNotFound')
            raise missing if user else Refusal(401, 'Invalid username or password.', 'RepoNotFound')
        if repo.data['gated'] and user != owner and '/resolve/' in request.path:
            raise Refusal(403 if user else 401, f'Access to model {repo_id} is restricted.', 'GatedRepo')
        if is_write and user is None:
            raise Refusal(401, 'Invalid username or password.')
        if is_write and request.headers['Authorization'].removeprefix('Bearer ') in self.readers:
            raise Refusal(403, 'The token may only read')
        # anyone may open a pull request
        if is_write and user != owner and not request.args.get('create_pr'):
            raise Refusal(403, f'You do not have write access to {repo_id}')
        return repo

    def _whoami(self, request):
        user = self._user(request)
        if user is None:
            raise Refusal(401, 'Invalid username or password.')
        token = request.headers['Authorization'].removeprefix('Bearer ')
        role = 'read' if token in self.readers else 'write'
        return _json(dict(type='user', name=user, orgs=[], auth=dict(accessToken=dict(role=role, displayName='t'))))

    def _create(self, request):
        user, payload = self._user(request), request.get_json()
        if user is None:
            raise Refusal(401, 'Invalid username or password.')
        owner = payload.get('organization') or user
        repo_id = f'{owner}/{payload["name"]}'
        if owner != user:
            raise Refusal(403, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        private = payload.get('private') or payload.get('visibility') == 'private'
        with self._lock:
            if (self.folder / repo_id / 'repo.json').exists():
                return _json(dict(error='You already created this model repo', url=f'{self.url}/{repo_id}'), 409)
            self.create(repo_id, private=bool(private))
        return _json(dict(url=f'{self.url}/{repo_id}', name=repo_id, id=repo_id))

    def _validate_yaml(self, request):
        import yaml

        front = re.match(r'---\n(.*?)\n---', request.get_json()['content'], re.DOTALL)
        try:
            is_good = front is None or isinstance(yaml.safe_load(front[1]), dict)
        except yaml.YAMLError:
            is_good = False
        faults = ['"---" is not valid YAML'] if not is_good else _card_faults(yaml.safe_load(front[1])) if front else []
        errors = [dict(message=fault) for fault in faults]
        warnings = [] if front else [dict(message='empty or missing yaml metadata in repo card')]
        return _json(dict(errors=errors, warnings=warnings), 400 if errors else 200)

    def _model(self, request, repo, revision='main'):
        repo_id = repo.folder.relative_to(self.folder).as_posix()
        files = [dict(rfilename=path) for path in repo.tree(revision)]
        return _json(dict(
            id=repo_id, modelId=repo_id, author=repo_id.partition('/')[0], sha=repo.resolve(revision), siblings=files,
            private=repo.data['private'], gated='manual' if repo.data['gated'] else False, tags=[], downloads=0))

    def _refs(self, request, repo):
        refs = [dict(name=name.rpartition('refs/heads/')[2], ref=name, targetCommit=oid)
                for name, oid in repo.data['refs'].items()]
        return _json(dict(
            branches=[ref for ref in refs if ref['ref'].startswith('refs/heads/')], tags=[], converts=[],
            pullRequests=[ref for ref in refs if ref['ref'].startswith('refs/pr/')]))

    def _branch(self, request, repo, branch):
        with self._lock:
            repo.load()
            if f'refs/heads/{branch}' in repo.data['refs']:
                return _json(dict(error=f'Reference already exists: {branch}'), 409)
            if branch.startswith('refs/'):
                raise Refusal(400, f'Invalid reference for a branch: {branch}')
            repo.data['refs'][f'refs/heads/{branch}'] = repo.resolve('main')
            repo.save()
        return _json({})

    def _tree(self, request, repo, revision):
        return _json([_listed(path, entry) for path, entry in repo.tree(revision).items()])

    def _paths_info(self, request, repo, revision):
        wanted = (request.get_json(silent=True) or request.form.to_dict(flat=False))['paths']
        return _json([_listed(path, entry) for path, entry in repo.tree(revision).items() if path in wanted])

    def _preupload(self, request, repo, revision):
        tree = repo.tree(revision)
        files = []
        for file in request.get_json()['files']:
            entry = tree.get(file['path'], {})
            mode = 'lfs' if file['path'].endswith(_LFS_SUFFIXES) else 'regular'
            oid = entry.get('sha256') or entry.get('oid')
            files.append(dict(path=file['path'], uploadMode=mode, shouldIgnore=False, oid=oid))
        return _json(dict(files=files, commitOid=repo.resolve(revision)))

    def _lfs_batch(self, request, repo):
        repo_id = repo.folder.relative_to(self.folder).as_posix()
        objects = []
        for wanted in request.get_json()['objects']:
            oid, size = wanted['oid'], wanted['size']
            answer: Dict[str, Any] = dict(oid=oid, size=size)
            if not (repo.folder / 'blobs' / oid).exists():
                href = f'{self.cdn}/lfs/{repo_id}/{oid}'
                upload: Dict[str, Any] = dict(href=href)
                if self.part_size and size > self.part_size:
                    parts = range(1, 1 + -(-size // self.part_size))
                    header = {str(i): f'{href}?part={i}' for i in parts}
                    upload['header'] = dict(header, chunk_size=str(self.part_size))
                verify = dict(href=f'{self.url}/{repo_id}/lfs-verify')
                answer['actions'] = dict(upload=upload, verify=verify)
            objects.append(answer)
        return _json(dict(transfer='basic', objects=objects))

    def _lfs_upload(self, request, storage, oid):
        if 'Authorization' in request.headers:
            raise Refusal(400, 'The token was sent to the storage')
        repo, part = self.repo(storage), request.args.get('part')
        if request.method == 'POST':
            parts = sorted(request.get_json(force=True)['parts'], key=lambda part: part['partNumber'])
            content = b''.join((repo.folder / 'blobs' / f'{oid}.{part["partNumber"]}').read_bytes() for part in parts)
        else:
            content = b''
            for chunk in iter(lambda: request.stream.read(_CHUNK), b''):
                content += chunk
                self.on_event('uploading')
            if part:
                repo.store(content, f'{oid}.{part}')
                return Response(headers={'ETag': f'"{part}"'})
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refusal(400, 'The content is not what the digest says')
        repo.store(content, oid)
        return Response()

    def _lfs_verify(self, request, repo):
        wanted = request.get_json()
        file = repo.folder / 'blobs' / wanted['oid']
        if not file.exists() or file.stat().st_size != wanted['size']:
            raise Refusal(404, 'The object is not there')
        return Response()

    def _commit(self, request, repo, revision):
        lines = [json.loads(line) for line in request.get_data().splitlines()]
        header = next(line['value'] for line in lines if line['key'] == 'header')
        with self._lock:
            repo.load()
            parent = repo.resolve(revision)
            if header.get('parentCommit') not in (None, parent):
                raise Refusal(412, 'A commit has happened since. Please refresh and try again.')
            tree = dict(repo.tree(revision))
            for line in lines:
                value = line['value']
                if line['key'] == 'file':
                    content = base64.b64decode(value['content'])
                    repo.store(content, git_oid(content))
                    tree[value['path']] = regular_entry(content)
                elif line['key'] == 'lfsFile':
                    file = repo.folder / 'blobs' / value['oid']
                    if not file.exists():
                        raise Refusal(422, f'LFS pointer of {value["path"]} pointed to a file that does not exist')
                    tree[value['path']] = lfs_entry(value['oid'], file.stat().st_size)
                elif line['key'] == 'deletedFile' and tree.pop(value['path'], None) is None:
                    raise Refusal(404, 'A file with this name doesn\'t exist', 'EntryNotFound')
            ref = revision if revision.startswith('refs/') else f'refs/heads/{revision}'
            number = None
            if request.args.get('create_pr'):
                number = next(i for i in itertools.count(1) if f'refs/pr/{i}' not in repo.data['refs'])
                ref = f'refs/pr/{number}'
            elif ref not in repo.data['refs']:
                raise Refusal(400, f'{revision} is no branch')
            oid = repo.commit(ref, parent, tree, header['summary'])
        repo_id = repo.folder.relative_to(self.folder).as_posix()
        pull_request = f'{self.url}/{repo_id}/discussions/{number}' if number else None
        return _json(dict(
            success=True, commitOid=oid, commitUrl=f'{self.url}/{repo_id}/commit/{oid}', hookOutput='',
            pullRequestUrl=pull_request))

    def _resolve(self, request, repo, revision, path):
        commit = repo.resolve(revision)
        entry = repo.tree(revision).get(path)
        if entry is None:
            refusal = Refusal(404, 'Entry not found', 'EntryNotFound')
            refusal.response.headers['X-Repo-Commit'] = commit
            raise refusal
        if 'sha256' not in entry:
            return _content(request, repo.blob(entry), entry['oid'], {'X-Repo-Commit': commit})
        repo_id = repo.folder.relative_to(self.folder).as_posix()
        return Response(status=302, headers={
            'Location': f'{self.cdn}/cdn/{repo_id}/{entry["sha256"]}', 'X-Repo-Commit': commit,
            'X-Linked-Size': str(entry['size']), 'X-Linked-ETag': f'"{entry["sha256"]}"',
        })

    def _cdn(self, request, storage, oid):
        if 'Authorization' in request.headers:
            raise Refusal(400, 'The token was sent to the storage')
        return _content(request, (self.folder / storage / 'blobs' / oid).read_bytes(), oid, {})


class _Handler(WSGIRequestHandler):
    protocol_version = 'HTTP/1.1'

    def setup(self):
        super().setup()
        self.server.app.connections.add(self.connection)

    def finish(self):
        self.server.app.connections.discard(self.connection)
        super().finish()

    def log(self, *args, **kwargs):
        pass


def _json(data: Any, status: int = 200) -> Response:
    return Response(json.dumps(data), status, content_type='application/json')


def _listed(path: str, entry: Dict[str, Any]) -> Dict[str, Any]:
    listed = dict(type='file', path=path, size=entry['size'], oid=entry['oid'])
    if 'sha256' in entry:
        listed['lfs'] = dict(oid=entry['sha256'], size=entry['size'], pointerSize=entry['pointer_size'])
    return listed


def _content(request: Request, content: bytes, etag: str, headers: Dict[str, str]) -> Response:
    """The file, or the part of it that is asked for."""
    response = Response(content, headers=headers, content_type='application/octet-stream')
    response.set_etag(etag)
    return response.make_conditional(request, accept_ranges=True, complete_length=len(content))


def status(code: int, error: str = '', **headers: str) -> Fault:
    """A fault: an answer with this status, and headers such as retry_after."""
    def answer(hub, request):
        named = {name.replace('_', '-'): str(value) for name, value in headers.items()}
        return Response(json.dumps(dict(error=error or f'status {code}')), code, named, content_type='application/json')
    return answer


def drop(after: int = 0) -> Fault:
    """A fault: a connection that breaks when this many bytes of the request's body have come."""
    def answer(hub, request):
        request.stream.read(after)
        _close(request)
        raise ConnectionResetError
    return answer


def cut(share: float = 0.5) -> Fault:
    """A fault: a connection that breaks when this share of the answer has been sent."""
    def answer(hub, request):
        response = hub._answer(request)
        content = response.get_data()

        def body():
            yield content[:int(len(content) * share)]
            _close(request)
            raise ConnectionResetError
        return Response(body(), response.status, response.headers, direct_passthrough=True)
    return answer


def _close(request: Request) -> None:
    request.environ['werkzeug.socket'].shutdown(socket.SHUT_RDWR)


_ID = '(?P<repo_id>[^/]+/[^/]+?)'
_ROUTES = [  # methods, path, answer, whether it needs the right to write
    ('GET', '/api/whoami-v2', Hub._whoami, False),
    ('POST', '/api/repos/create', Hub._create, True),
    ('POST', '/api/validate-yaml', Hub._validate_yaml, False),
    ('GET', f'/api/models/{_ID}', Hub._model, False),
    ('GET', f'/api/models/{_ID}/revision/(?P<revision>.+)', Hub._model, False),
    ('GET', f'/api/models/{_ID}/refs', Hub._refs, False),
    ('POST', f'/api/models/{_ID}/branch/(?P<branch>.+)', Hub._branch, True),
    ('GET', f'/api/models/{_ID}/tree/(?P<revision>.+)', Hub._tree, False),
    ('POST', f'/api/models/{_ID}/paths-info/(?P<revision>.+)', Hub._paths_info, False),
    ('POST', f'/api/models/{_ID}/preupload/(?P<revision>.+)', Hub._preupload, True),
    ('POST', f'/{_ID}.git/info/lfs/objects/batch', Hub._lfs_batch, False),
    ('PUT POST', '/lfs/(?P<storage>[^/]+/[^/]+)/(?P<oid>[0-9a-f]+)', Hub._lfs_upload, False),
    ('POST', f'/{_ID}/lfs-verify', Hub._lfs_verify, False),
    ('POST', f'/api/models/{_ID}/commit/(?P<revision>.+)', Hub._commit, True),
    ('GET HEAD', f'/{_ID}/resolve/(?P<revision>[^/]+|refs/pr/[0-9]+)/(?P<path>.+)', Hub._resolve, False),
    ('GET HEAD', '/cdn/(?P<storage>[^/]+/[^/]+)/(?P<oid>[0-9a-f]+)', Hub._cdn, False),
]


if __name__ == '__main__':  # python tests/hub_double.py FOLDER PORT, for user with token hf_user
    hub = Hub(Path(sys.argv[1]), users={'hf_user': 'user'}, port=int(sys.argv[2]))
    print(f'HF_ENDPOINT={hub.url} HF_TOKEN=hf_user HF_HUB_DISABLE_XET=1', flush=True)
    threading.Event().wait()
