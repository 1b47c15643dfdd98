"""Answers of a Hub that is out of order or hostile: pull and push end whole, or in a line with nothing half written."""
import json

import pytest
import torch
from helpers import hub_env, randomize, TOKEN
from hub_double import Hub
from hypothesis import given
from hypothesis import strategies as st
from oracle import fuzz, is_told, STRANGE
from processes import start_cli
from werkzeug import Response

import timm
from timm.models import save_for_hf

CODES = [200, 200, 200, 204, 206, 301, 302, 304, 307, 400, 401, 403, 404, 409, 412, 416, 418, 429, 500, 503]
HEADERS = dict(
    ETag=['', '"', 'W/"x"', 'x' * 3000, '../../evil'],
    Location=['', '/', 'http://127.0.0.1:9/', 'file:///etc/passwd', '//'],
    X_Repo_Commit=['', 'main', '../..', 'f' * 40], X_Linked_Size=['', '-1', '1', 'x'], X_Linked_Etag=['', '"../.."'],
    X_Error_Code=['RepoNotFound', 'EntryNotFound', 'GatedRepo', '?'], X_Error_Message=['no', 'x' * 3000, TOKEN],
    Content_Type=['application/json', 'text/html', '', 'x'], Link=['<http://127.0.0.1:9/>; rel="next"', 'x'])
headers = st.fixed_dictionaries(
    {'Retry_After': st.just('0')}, optional={name: st.sampled_from(values) for name, values in HEADERS.items()})
bodies = st.one_of(
    st.none(), st.none(), STRANGE.map(lambda value: json.dumps(value).encode()), st.binary(max_size=40),
    st.just(b'<!DOCTYPE html><title>Proxy login</title>'),
    st.sampled_from([0.1, 0.5, 0.99]),
    st.tuples(st.sampled_from([b'"sha"', b'"path"', b'"rfilename"', b'"oid"', b'"size"', b'"href"', b'"config.json"']),
              st.sampled_from([b'"x"', b'"../../evil"', b'"/evil"', b'null'])))
faults = st.lists(st.tuples(st.integers(0, 12), st.sampled_from(CODES), headers, bodies), min_size=1, max_size=3)


def fault_of(code, headers, body):
    def answer(hub, request):
        response = hub._answer(request)
        content = response.get_data()
        if isinstance(body, bytes):
            content = body
        elif isinstance(body, float):
            content = content[:int(len(content) * body)]
        elif body is not None:
            content = content.replace(*body)
        named = {**dict(response.headers), **{name.replace('_', '-'): value for name, value in headers.items()}}
        named.pop('Content-Length', None)
        return Response(content, code, named)
    return answer


@pytest.mark.parametrize('command', ['pull', 'push'])
def test_answers(command, tmp_path):
    model = randomize(timm.create_model('mobilenext_035', num_classes=3))
    source = tmp_path / 'source'
    save_for_hf(model, str(source), safe_serialization=True)
    runs = iter(range(10 ** 6))

    @fuzz(0.05, is_quick=False)
    @given(faults)
    def run(faults):
        folder = tmp_path / f'run{next(runs)}'
        hub = Hub(folder / 'hub', users={TOKEN: 'alice'})
        hub.create('alice/model')
        hub.put('alice/model', {file.name: file.read_bytes() for file in source.iterdir()})
        last = 0
        for number, code, headers, body in sorted(faults, key=lambda fault: fault[0]):
            hub.fail('', *[lambda hub, request: None] * (number - last), fault_of(code, headers, body))
            last = number + 1
        output, log = folder / 'work' / 'out', folder / 'log'
        output.parent.mkdir()
        arguments = ['pull', 'alice/model', '-o', output] if command == 'pull' else ['push', source, 'alice/new']
        process = start_cli(hub_env(hub, folder / 'home', TIMM_MOBILENEXT_DEBUG=''), arguments, log)
        process.join(timeout=120)
        hub.stop()
        printed = ''.join((folder / f'log.{name}').read_text() for name in ('stdout', 'stderr'))
        assert process.exitcode in (0, 1), printed
        assert TOKEN not in printed and 'Traceback' not in printed
        errors = [line for line in printed.splitlines() if line.startswith('Error: ')]
        assert len(errors) == process.exitcode, printed
        if errors:
            is_told(errors[0])
        if command == 'pull':
            assert output.exists() == (process.exitcode == 0), printed
            assert [file.name for file in output.parent.iterdir()] == ['out'] * output.exists()
            if output.exists():
                loaded = timm.create_model(f'local-dir:{output}', pretrained=True).state_dict()
                assert all(torch.equal(value, loaded[key]) for key, value in model.state_dict().items())

    run()
