"""Faults of timm-mobilenext push: each is reported in a line. The repository is whole or as it was."""
import itertools
import json
import random
import re
import signal
import threading
import time

import pytest
import torch
from helpers import hub_env, randomize, run_cli, TOKEN
from hub_double import drop, Hub, status
from processes import start_cli
from safetensors.torch import save, save_file
from werkzeug import Response

import timm

pytestmark = [pytest.mark.tools, pytest.mark.slow]


@pytest.fixture
def env(hub, tmp_path):
    return hub_env(hub, tmp_path / 'home')


@pytest.fixture
def checkpoint(tmp_path):
    file = tmp_path / 'checkpoint.pth.tar'
    model = randomize(timm.create_model('mobilenext_035', num_classes=3))
    torch.save(dict(arch='mobilenext_035', state_dict=model.state_dict()), file)
    return file


def old_model(hub):
    """What was on the Hub before."""
    state_dict = timm.create_model('mobilenext_035', num_classes=3).state_dict()
    hub.create('alice/model')
    hub.put('alice/model', {'model.safetensors': save(state_dict), 'config.json': b'{"old": 1}'})
    return hub.repo('alice/model').files()


def is_whole(hub, checkpoint) -> bool:
    """Whether main holds the checkpoint, put there by a single commit."""
    expected = torch.load(checkpoint, weights_only=True)['state_dict']
    repo = hub.repo('alice/model')
    files = repo.files()
    titles = [repo.data['commits'][commit]['title'] for commit in repo.history()]
    return (
        sorted(files) == ['.gitattributes', 'README.md', 'config.json', 'model.safetensors']
        and files['model.safetensors'] == save(expected)
        and b'"architecture": "mobilenext_035"' in files['config.json']
        and titles == ['Push a model by timm-mobilenext', *titles[1:]]
        and titles.count('Push a model by timm-mobilenext') == 1)


@pytest.mark.parametrize('more, words', [
    (dict(HF_TOKEN=''), ['There is no token', 'hf auth login', 'HF_TOKEN']),
    (dict(HF_TOKEN='hf_wrong'), ['refuses the token (401)']),
    (dict(HF_TOKEN='hf_bad\x01secret'), ['characters that are never part of a token']),
    (dict(HF_TOKEN='hf_bäd'), ['characters that are never part of a token']),
    (dict(HF_TOKEN='hf_reads'), ['may only read']),
    (dict(HF_HUB_OFFLINE='1'), ['HF_HUB_OFFLINE is set']),
    (dict(HF_ENDPOINT='http://127.0.0.1:9'), ['connection to http://127.0.0.1:9 failed', 'repeat the command']),
], ids=['none', 'wrong', 'control character', 'umlaut', 'may only read', 'offline', 'no server'])
def test_before_anything_is_created(more, words, hub, env, checkpoint):
    hub.users['hf_reads'] = 'alice'
    hub.readers.append('hf_reads')
    error = run_cli(dict(env, **more), 'push', checkpoint, 'alice/model', code=1)
    assert all(word in error for word in words), error
    assert not (hub.folder / 'alice').exists() and not [line for line in hub.requests if 'POST' in line]


def changed(change):
    """A fault: an answer whose content is changed."""
    def answer(hub, request):
        return Response(json.dumps(change(hub._answer(request).get_json())), content_type='application/json')
    return answer


@pytest.mark.parametrize('request_line, change, options', [
    ('GET /api/whoami', lambda answer: 'alice', []),
    ('GET /api/whoami', lambda answer: dict(answer, name=['alice'], auth='x'), []),
    ('GET /api/models/', lambda answer: dict(answer, id=5), []),
    ('GET /api/models/', lambda answer: dict(answer, sha=None), []),
    ('GET /api/models/', lambda answer: dict(answer, siblings=[dict(rfilename=['x'])]), []),
    ('GET .*/refs', lambda answer: dict(answer, tags=[dict(answer['branches'][0], name=['x'])]), ['--revision', 'new']),
    ('POST .*/commit/', lambda answer: dict(answer, commitOid=5), []),
])
def test_answer_of_another_form(request_line, change, options, hub, env, checkpoint):
    old_model(hub)
    hub.fail(request_line, *[changed(change)] * 2)
    error = run_cli(env, 'push', checkpoint, 'alice/model', *options, code=1)
    assert f'{hub.url} gave an answer of another form' in error and 'check HF_ENDPOINT, and repeat the command' in error


def evil_names(checkpoint):
    file = checkpoint.with_name('names.txt')
    file.write_text('cat\ndog\n')
    return ['--label-names', file]


def json_of(checkpoint, text):
    file = checkpoint.with_name('names.json')
    file.write_text(text)
    return ['--label-names', file]


@pytest.mark.parametrize('repo_id, options, words', [
    ('alice/mo del', lambda _: [], ['alice/mo del']),
    ('alice/a/b', lambda _: [], ['alice/a/b']),
    ('model', lambda _: [], ['user/name']),
    ('alice/model', evil_names, ['2 class names for 3 classes']),
    ('alice/model', lambda c: json_of(c, '{"a": 1}'), ['names no classes']),
    ('alice/model', lambda c: json_of(c, '["a", '), ['cannot be read']),
    ('alice/model', lambda _: ['--model', 'mobilenext_050'], ['another network']),
    ('alice/model', lambda _: ['--model', 'mobilenext_0350'], ['did you mean']),
    ('alice/model', lambda _: ['--ema'], ['no EMA weights']),
    ('alice/model', lambda _: ['--revision', 'a b'], ['cannot be a revision']),
])
def test_bad_arguments_reach_no_server(repo_id, options, words, hub, env, checkpoint):
    error = run_cli(env, 'push', checkpoint, repo_id, *options(checkpoint), code=1)
    assert all(word in error for word in words), error
    assert [line for line in hub.requests if 'whoami' in line or 'models' in line or 'repos' in line] == []


@pytest.mark.parametrize('damage, words', [
    (lambda folder: (folder / 'model.safetensors').write_bytes(b'\0' * 100),
     ['model.safetensors', 'is not a checkpoint']),
    (lambda folder: (folder / 'config.json').write_text('{"architecture": "mobilenext_999"}'),
     ['mobilenext_999', 'pip install --upgrade git+https://']),
    (lambda folder: (folder / 'README.md').write_text('---\nlicense: [\n---\n'), ['README.md', 'not YAML']),
    (lambda folder: (folder / 'config.json').unlink(), ['neither a Hub folder', 'model_best.pth.tar']),
    (lambda folder: (folder / 'model.safetensors').unlink(), ['has no weights']),
])
def test_bad_folder_reaches_no_server(damage, words, hub, env, checkpoint, tmp_path):
    folder = tmp_path / 'folder'
    model = timm.create_model('mobilenext_035', num_classes=3)
    timm.models.save_for_hf(model, str(folder), safe_serialization=True)
    damage(folder)
    error = run_cli(env, 'push', folder, 'alice/model', code=1)
    assert all(word in error for word in words), error
    assert [line for line in hub.requests if 'whoami' in line or 'models' in line or 'repos' in line] == []


def test_damaged_args_beside_weights(hub, env, checkpoint, tmp_path):
    save_file(torch.load(checkpoint, weights_only=True)['state_dict'], tmp_path / 'model.safetensors')
    (tmp_path / 'args.yaml').write_text('a: [')
    assert 'args.yaml is damaged' in run_cli(env, 'push', tmp_path / 'model.safetensors', 'alice/model', code=1)


def test_forbidden(hub, env, checkpoint):
    assert '403' in run_cli(env, 'push', checkpoint, 'bob/new', code=1)
    assert not (hub.folder / 'bob').exists()
    hub.create('bob/model')
    before = hub.repo('bob/model').files()
    assert '403' in run_cli(env, 'push', checkpoint, 'bob/model', code=1)
    assert hub.repo('bob/model').files() == before and not [line for line in hub.requests if line.startswith('PUT')]


def test_private_push_to_a_public_repository_is_refused(hub, env, checkpoint):
    before = old_model(hub)
    error = run_cli(env, 'push', checkpoint, 'alice/model', '--private', code=1)
    assert 'there already and public' in error and hub.repo('alice/model').files() == before


@pytest.mark.parametrize('is_new', [True, False])
@pytest.mark.parametrize('options', [
    ['--revision', 'refs/pr/7'], ['--revision', 'dev', '--create-pr'], ['--revision', 'a' * 40], ['--license', 'MITT'],
])
def test_what_the_hub_would_refuse_after_an_upload(options, is_new, hub, env, checkpoint):
    before = None if is_new else old_model(hub)
    dry_run = ['--dry-run'] if is_new else []
    error = run_cli(env, 'push', checkpoint, 'alice/model', *options, *dry_run, code=1)
    assert (options[1] if options[0] == '--revision' else 'license') in error
    assert not (hub.folder / 'alice').exists() if is_new else hub.repo('alice/model').files() == before


def test_gitignore_that_would_keep_weights_out(hub, env, checkpoint):
    old_model(hub)
    hub.put('alice/model', {'.gitignore': b'*.safetensors'})
    assert '.gitignore' in run_cli(env, 'push', checkpoint, 'alice/model', code=1)


@pytest.mark.parametrize('fault', [status(429, retry_after=0), status(503, retry_after=0), drop(100_000)],
                         ids=['429', '503', 'dropped'])
def test_waits_and_continues(fault, hub, env, checkpoint):
    for request_line in ('POST .*/preupload/', 'POST .*/objects/batch', 'PUT /lfs/'):
        hub.fail(request_line, fault)
    run_cli(env, 'push', checkpoint, 'alice/model')
    assert hub.faults == [] and is_whole(hub, checkpoint)


FAILURES = [
    ('PUT /lfs/', status(403, 'the signature has expired'), ['403', 'signature']),
    ('GET /api/whoami', status(429, retry_after=137), ['429', 'wait 137 s', 'repeat']),
    ('GET /api/models/', status(503, 'maintenance'), ['503', 'maintenance', 'repeat the command']),
    ('POST .*/commit/', status(503, 'maintenance', retry_after=1), ['503', 'maintenance', 'repeat the command']),
    ('POST .*/commit/', drop(), ['repeat the command']),
    ('POST .*/commit/', status(412, 'A commit has happened since'), ['changed by someone else', 'repeat']),
]


@pytest.mark.parametrize('is_new', [True, False])
def test_fails_and_a_repeat_completes(is_new, hub, env, checkpoint):
    before = None if is_new else old_model(hub)
    created = [('POST /api/repos/create', status(500), ['500', 'repeat the command'])] if is_new else []
    for request_line, fault, words in created + FAILURES:
        hub.fail(request_line, fault)
        error = run_cli(env, 'push', checkpoint, 'alice/model', code=1)
        assert all(word in error for word in words), error
        if before:
            assert hub.repo('alice/model').files() == before
        elif (hub.folder / 'alice' / 'model').exists():
            assert list(hub.repo('alice/model').files()) == ['.gitattributes']
    run_cli(env, 'push', checkpoint, 'alice/model')
    assert is_whole(hub, checkpoint)


def test_someone_else_commits_in_between(hub, env, checkpoint):
    """Nothing of theirs is lost, and a repeat says what it keeps."""
    old_model(hub)

    def theirs(hub, request):
        hub.put('alice/model', {'README.md': b'# Theirs\n'})

    hub.fail('PUT /lfs/', theirs)
    assert 'changed by someone else' in run_cli(env, 'push', checkpoint, 'alice/model', code=1)
    assert b'old' in hub.repo('alice/model').files()['config.json']
    assert 'kept     README.md' in run_cli(env, 'push', checkpoint, 'alice/model')
    assert hub.repo('alice/model').files()['README.md'] == b'# Theirs\n'


def test_server_restarts_between_preupload_and_commit(hub, env, checkpoint):
    before = old_model(hub)
    servers = []

    def restart(hub, request):
        threading.Thread(target=lambda: servers.append(hub.restart())).start()
        return drop()(hub, request)

    hub.fail('POST .*/objects/batch', restart)  # the client tries again
    run_cli(env, 'push', checkpoint, 'alice/model')
    assert is_whole(servers[0], checkpoint) and before != servers[0].repo('alice/model').files()
    servers[0].stop()


def test_a_commit_whose_answer_is_lost_is_not_made_twice(hub, env, checkpoint):
    def lost(hub, request):
        hub._answer(request)
        return drop()(hub, request)

    hub.fail('POST .*/commit/', lost)
    error = run_cli(env, 'push', checkpoint, 'alice/model', code=1)
    assert 'repeat the command' in error and 'nothing was' not in error
    assert 'nothing, all of it was there' in run_cli(env, 'push', checkpoint, 'alice/model')
    assert is_whole(hub, checkpoint)


def events_of(push, hub) -> list:
    """What the server sees of a push: each request, before and after it is answered, and each 64 KiB of an upload."""
    events = []
    hub.on_event = events.append
    push(hub)
    return events


@pytest.mark.parametrize('is_new', [True, False])
def test_kill_and_repeat(is_new, hub, env, checkpoint, tmp_path):
    """kill -9 at five random moments of a push to a new repository, and of one to an old one. A repeat follows each.

    And around the requests that change the repository.
    """
    def prepare(number):
        other = Hub(tmp_path / f'hub{number}', hub.users)
        return other, None if is_new else old_model(other)

    def push(hub):
        return run_cli(dict(env, HF_ENDPOINT=hub.url), 'push', checkpoint, 'alice/model')

    counted, _ = prepare('counted')
    events = events_of(push, counted)
    assert events.count('uploading') > 20
    # an answer more or less is the system's affair, so the last ones are left to be named
    moments = random.Random(is_new).sample(range(len(events) - 5), 5)
    moments += ['before POST .*/commit/', 'answered POST .*/commit/']
    moments += ['answered POST .*/repos/create'] if is_new else []
    for number, moment in enumerate(moments):
        other, before = prepare(number)
        seen = itertools.count()
        processes = []

        def kill(event, moment=moment, seen=seen, processes=processes):
            if next(seen) == moment or isinstance(moment, str) and re.match(moment, event):
                processes[0].kill()

        other.on_event = kill
        killed_env = dict(env, HF_ENDPOINT=other.url, TMPDIR=str(tmp_path))
        processes.append(start_cli(killed_env, ['push', str(checkpoint), 'alice/model'], tmp_path / 'killed'))
        processes[0].join(timeout=300)
        assert processes[0].exitcode == -signal.SIGKILL, moment
        deadline = time.monotonic() + 30
        while other.busy and time.monotonic() < deadline:  # the server may still be at the last request
            time.sleep(0.01)
        other.on_event = lambda event: None

        # the old state, or the new one
        if (other.folder / 'alice' / 'model' / 'repo.json').exists() and not is_whole(other, checkpoint):
            files = other.repo('alice/model').files()
            assert files == before if before else list(files) == ['.gitattributes']
        assert 'pushed   ' in push(other) and is_whole(other, checkpoint), moment
        other.stop()


def test_debug_log_shows_no_token(hub, env, checkpoint):
    """run_cli looks for it, here in all that huggingface_hub can log."""
    assert TOKEN == env['HF_TOKEN']
    run_cli(dict(env, HF_DEBUG='1', HF_HUB_VERBOSITY='debug'), 'push', checkpoint, 'alice/model')


def test_server_that_repeats_the_token(hub, env, checkpoint):
    hub.fail('POST .*/commit/', status(403, f'{TOKEN} has no rights'))
    assert '<token> has no rights' in run_cli(env, 'push', checkpoint, 'alice/model', code=1)
