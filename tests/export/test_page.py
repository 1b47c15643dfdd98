"""docs/deployment.md: its commands and programs run, and print what it says they print."""
import re
import shlex
import shutil

import pytest
import torch
from environments import read_versions
from formats import CONSTRAINTS, find_installs, FORMATS, PAGE, run
from helpers import ROOT, SHIPPED

import timm
from timm.models import save_for_hf

pytestmark = [pytest.mark.slow, pytest.mark.tools]  # it exports whole networks

TITLES = dict(onnx='ONNX Runtime', openvino='OpenVINO', executorch='ExecuTorch', litert='LiteRT', ncnn='ncnn')
BLOCKS = re.findall(r'^```(\w*)\n(.*?)^```$', PAGE, flags=re.M | re.S)
CONSOLE = '\n'.join(block for language, block in BLOCKS if not language).replace('\\\n', ' ')
PROGRAMS = [block for language, block in BLOCKS if language == 'python']
VERIFIED = r'verify: cosine similarity ([\d.]+), max abs diff ([\d.e+-]+) vs PyTorch'
PRELUDE, = (program for program in PROGRAMS if 'from PIL' in program)


def export(format_name, folder, command):
    """Run a command of timmx. Returns its lines, without the folder."""
    return run(format_name, folder, *shlex.split(command)).replace(f'{folder}/', '').splitlines()


def find_commands(format_name):
    """Command of timmx -> the last lines that it prints, as the page has them."""
    commands = {}
    for block in re.split(r'^\$ ', CONSOLE, flags=re.M):
        command, *lines = block.splitlines() or ['']
        if command.startswith(f'timmx export {format_name} '):
            commands[' '.join(command.split())] = [line for line in lines if line]
    return commands


def check_lines(lines, expected):
    """The page has all lines or some, of the same words. Its numbers are those of an image drawn at random."""
    for wanted in expected:
        line, = (line for line in lines if line.split()[0] == wanted.split()[0])
        if not wanted.startswith('verify: cosine'):
            assert line == wanted
            continue
        (similarity, difference), (_, said) = (re.fullmatch(VERIFIED, text).groups() for text in (line, wanted))
        assert float(similarity) > 0.999 and float(difference) <= 10 * float(said)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with what the page's commands are given, and what they write."""
    folder = tmp_path_factory.mktemp('page')
    shutil.copy(ROOT / 'timm_mobilenext' / 'photographs' / 'cat.jpg', folder)
    (folder / 'train' / 'digits').mkdir(parents=True)
    torch.manual_seed(0)
    model = timm.create_model('mobilenext_035', num_classes=10)
    checkpoint = dict(arch='mobilenext_035', state_dict=model.state_dict())
    torch.save(checkpoint, folder / 'train' / 'digits' / 'model_best.pth.tar')
    model.pretrained_cfg = {**model.pretrained_cfg, 'input_size': (3, 64, 64)}
    save_for_hf(model, folder / 'digits_hub', safe_serialization=True)
    return folder


@pytest.fixture(scope='module')
def exported(folder):
    """Run the page's commands of a format, once, and return their lines beside the page's."""
    done = {}

    def run_commands(format_name):
        if format_name not in done:
            done[format_name] = [
                (export(format_name, folder, command), lines) for command, lines in find_commands(format_name).items()]
        return done[format_name]
    return run_commands


@pytest.mark.parametrize('format_name', FORMATS)
def test_command_prints_what_the_page_says(format_name, exported):
    outcomes = exported(format_name)
    assert outcomes
    for lines, expected in outcomes:
        check_lines(lines, expected)


def find_program(format_name):
    """The page's program for a format: the block below its name in bold."""
    program, = re.findall(rf'^\*\*{TITLES[format_name]}\*\*\n\n```python\n(.*?)^```', PAGE, flags=re.M | re.S)
    return program


@pytest.mark.parametrize('format_name', TITLES)
def test_program_prints_what_the_page_says(format_name, exported, folder):
    exported(format_name)
    said = dict(re.findall(r'(print|ncnn) `(3 [\d.]+%)`', PAGE))
    answer = run(format_name, folder, 'python', '-c', PRELUDE + find_program(format_name))
    assert answer.strip() == said['ncnn' if format_name == 'ncnn' else 'print']


@pytest.mark.parametrize('format_name', [name for name in TITLES if name != 'onnx'])
@pytest.mark.parametrize('source', ['checkpoint', 'Hub folder'])
def test_every_format_takes_every_source(source, format_name, folder):
    """The page shows the two with ONNX."""
    for_onnx, = (command for command in find_commands('onnx') if ('--checkpoint' in command) == (source == 'checkpoint')
                 and SHIPPED not in command)
    command = for_onnx.replace('export onnx', f'export {format_name}').replace('digits.onnx', f'{format_name}.xml')
    lines = export(format_name, folder, command)
    similarity, = (float(found[1]) for line in lines if (found := re.fullmatch(VERIFIED, line)))
    assert similarity > 0.99 if format_name == 'openvino' else similarity == 1  # in bfloat16, see the page's traps


@pytest.mark.parametrize('model', ['mobilenext_100_id050', 'mobilenext_100_ca', 'mobilenext_s', 'mobilenext_l_ghost'])
def test_every_kind_of_block_goes_to_ncnn(model, tmp_path):
    """Its converter knows the fewest operators, and writes what it does not know as it is."""
    lines = export('ncnn', tmp_path, f'timmx export ncnn {model} --no-fp16 --input-size 3 64 64')
    assert any(re.fullmatch(VERIFIED, line) for line in lines)


@pytest.mark.parametrize('format_name', ['onnx', 'openvino', 'executorch'])
def test_any_batch(format_name, folder, tmp_path):
    """Three images at once, by the options of the page's table and the page's program."""
    row, = re.findall(rf'^\| {TITLES[format_name]}[^|]*\| `(--dynamic-batch[^`]*)`', PAGE, flags=re.M)
    shutil.copy(folder / 'cat.jpg', tmp_path)
    export(format_name, tmp_path, f'timmx export {format_name} {SHIPPED} --pretrained --normalize --softmax {row}')
    program = f'{PRELUDE}pixels = pixels.repeat(3, 0)\n{find_program(format_name)}'
    assert re.match(r'3 69\.\d%$', run(format_name, tmp_path, 'python', '-c', program))


def test_any_height_and_width(tmp_path):
    """The page's program exports, and ONNX Runtime then takes other sizes than 64 by 64."""
    program, = (program for program in PROGRAMS if 'torch.onnx.export' in program)
    program += (
        'import onnxruntime\n'
        'session = onnxruntime.InferenceSession("dynamic.onnx", providers=["CPUExecutionProvider"])\n'
        'for shape in ((1, 3, 64, 64), (3, 3, 96, 80)):\n'
        '    image = torch.randn(shape)\n'
        '    logits = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: image.numpy()})[0])\n'
        '    print((logits - model(image)).abs().max().item())\n')
    differences = run('onnx', tmp_path, 'python', '-c', program).split()[-2:]
    assert max(float(difference) for difference in differences) < 2e-5


def test_pixels_of_an_android_image(folder, tmp_path):
    """LiteRT takes height, width, channels, if timmx is asked for it."""
    assert '`timmx export litert --nhwc-input`' in PAGE
    command = f'timmx export litert {SHIPPED} --pretrained --normalize --softmax --nhwc-input'
    shutil.copy(folder / 'cat.jpg', tmp_path)
    export('litert', tmp_path, command)
    program = f'{PRELUDE}pixels = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))\n{find_program("litert")}'
    assert run('litert', tmp_path, 'python', '-c', program).startswith('3 69.2%')


def test_versions_are_those_that_are_tested():
    said = PAGE[PAGE.index('Versions:'):]
    said = said[:said.index('\n\n')].lower()
    tested = read_versions(CONSTRAINTS)
    assert len(tested) == 17
    for package in ('torch', 'timm', 'timmx', 'openvino', 'nncf', 'executorch', 'torchao', 'litert-torch',
                    'ai-edge-quantizer', 'coremltools'):
        assert f'{package} {tested[package]}' in said.replace('\n', ' ')


@pytest.mark.parametrize('format_name', FORMATS)
def test_environment_is_made_of_lines_of_the_page(format_name):
    installs = find_installs(format_name)
    assert len(installs) == (2 if FORMATS[format_name] else 1) and installs[0] == f"pip install 'timmx[{format_name}]'"
