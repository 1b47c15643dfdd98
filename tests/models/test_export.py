"""Compilers, exporters and number formats give what eager gives, and folded networks give what unfolded ones give."""
import shutil
from copy import deepcopy

import numpy as np
import onnxruntime
import pytest
import torch
from helpers import COORD, NORMS, randomize, rel_error, reparameterize_model, TINY
from torch import nn

import timm
from timm.layers import convert_sync_batchnorm

from timm_mobilenext import create_mobilenext

pytestmark = pytest.mark.slow  # it starts processes, or exports whole networks

VARIANTS = dict(
    paper=dict(), id050=dict(identity_multiplier=1 / 2), id033=dict(identity_multiplier=1 / 3),
    id017=dict(identity_multiplier=1 / 6), before=dict(dw_position='before'), after=dict(dw_position='after'),
    bottleneck=dict(dw_position='bottleneck'), nonlinear=dict(linear_bottleneck=False), noskip=dict(noskip=True),
    linear_output=dict(dw_position='before', linear_output=True),
    same=dict(pad_type='same'),
)
# torch.fx cannot follow the arithmetic on sizes in timm's "same" padding, timm's own tracer does
FX_VARIANTS = [variant for variant in VARIANTS if variant != 'same']
each_mode = pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
# for what takes seconds a network
each_mode_once = pytest.mark.parametrize('variant, training', [('id033', True), ('paper', False)])
each_variant = pytest.mark.parametrize('variant', VARIANTS)


def tiny(variant='paper', **kwargs):
    return randomize(create_mobilenext(TINY, num_classes=5, **VARIANTS[variant], **kwargs))


def image(batch=4, **kwargs):
    return torch.randn(batch, 3, 32, 32, **kwargs)


def check_as_eager(transform, model, x, tolerance=1e-9, buffers=True):
    """Same outputs and, where they are kept as the model's own, same statistics afterwards."""
    model = model.double()
    eager, transformed = model, transform(deepcopy(model))
    with torch.no_grad():
        for _ in range(2):
            assert rel_error(transformed(x), eager(x)) < tolerance
    if buffers:
        ours = dict(transformed.named_buffers())
        for (name, theirs), value in zip(eager.named_buffers(), ours.values(), strict=True):
            torch.testing.assert_close(value, theirs, msg=name)


@each_mode
@each_variant
def test_script(variant, training):
    check_as_eager(torch.jit.script, tiny(variant).train(training), image(dtype=torch.float64))


@each_mode
@each_variant
def test_trace(variant, training):
    x = image(dtype=torch.float64)
    # tracing itself is a pass, so that training statistics are one ahead
    check_as_eager(
        lambda model: torch.jit.trace(model, x, check_trace=False), tiny(variant).train(training), x, buffers=False)


@each_mode
@pytest.mark.parametrize('variant', FX_VARIANTS)
def test_fx(variant, training):
    check_as_eager(torch.fx.symbolic_trace, tiny(variant).train(training), image(dtype=torch.float64), buffers=False)


@each_mode
@pytest.mark.parametrize('transform', [torch.jit.script, torch.fx.symbolic_trace])
def test_mobilenext_035(transform, training):
    model = randomize(timm.create_model('mobilenext_035', identity_multiplier=0.5, scriptable=True)).train(training)
    check_as_eager(transform, model, torch.randn(4, 3, 64, 64, dtype=torch.float64), buffers=False)


@each_mode_once
def test_export_with_a_dynamic_batch(variant, training):
    model = tiny(variant).double().train(training)
    batch = torch.export.Dim('batch', min=1, max=64)
    exported = torch.export.export(deepcopy(model), (image(4, dtype=torch.float64),), dynamic_shapes=({0: batch},))
    assert {str(node.target) for node in exported.graph.nodes if 'scatter' in str(node.target)} == set()
    module = exported.module()
    for size in (2, 7):
        x = image(size, dtype=torch.float64)
        with torch.no_grad():
            assert rel_error(module(x), model(x)) < 1e-9


@each_mode_once
def test_compile(variant, training):
    """Gradients too."""
    torch._dynamo.reset()
    model = tiny(variant).double().train(training)
    compiled_model = deepcopy(model)
    compiled = torch.compile(compiled_model, backend='aot_eager', fullgraph=True)
    x = image(dtype=torch.float64)
    out, expected = compiled(x), model(x)
    assert rel_error(out, expected) < 1e-9
    out.square().sum().backward()
    expected.square().sum().backward()
    for ours, theirs in zip(compiled_model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    for ours, theirs in zip(compiled_model.buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.skipif(not shutil.which('g++'), reason='needs a C++ compiler')
def test_compile_inductor():
    """One block each with a full and a partial shortcut, since code generation takes its time."""
    torch._dynamo.reset()
    model = create_mobilenext(
        [['sg_r1_k3_s2_e2_c16', 'sg_r1_k3_s1_e2_c16_id1/3']], num_classes=3, stem_size=8)
    randomize(model).eval()
    x = image(2)
    with torch.no_grad():
        assert rel_error(torch.compile(model)(x), model(x)) < 1e-4


@each_mode
@each_variant
def test_channels_last(variant, training):
    model = tiny(variant).train(training)
    other = deepcopy(model).to(memory_format=torch.channels_last)
    x = image()
    with torch.no_grad():
        features = other.forward_features(x.contiguous(memory_format=torch.channels_last))
        assert features.is_contiguous(memory_format=torch.channels_last)
        assert rel_error(features, model.forward_features(x)) < 1e-4


@each_mode
@each_variant
def test_bfloat16(variant, training):
    model = tiny(variant).train(training)
    x = image()
    with torch.no_grad():
        out = deepcopy(model).to(torch.bfloat16)(x.to(torch.bfloat16))
        assert out.dtype == torch.bfloat16
        assert rel_error(out, model(x)) < 0.1


@each_mode
def test_autocast(training):
    model = tiny().train(training)
    x = image()
    expected = deepcopy(model)(x)
    with torch.autocast('cpu', torch.bfloat16):
        out = model(x)
    assert rel_error(out, expected) < 0.1


# ONNX

def export_onnx(model, x, **kwargs):
    program = torch.onnx.export(model, (x,), dynamo=True, verbose=False, **kwargs)
    graph = program.model_proto.graph
    assert not {node.domain for node in graph.node} - {''}
    return program.model_proto.SerializeToString(), [node.op_type for node in graph.node]


def run_onnx(model_bytes, x):
    session = onnxruntime.InferenceSession(model_bytes, providers=['CPUExecutionProvider'])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: np.asarray(x)})[0])


@pytest.mark.parametrize('variant, folded', [
    ('paper', False), ('paper', True), ('id050', True), ('id033', False), ('id017', True), ('bottleneck', True),
    ('noskip', True),
])
def test_onnx(variant, folded):
    model = tiny(variant).eval()
    exported = reparameterize_model(model) if folded else model
    x = image(2)
    model_bytes, ops = export_onnx(exported, x)
    plain = {'Conv', 'Clip', 'Add', 'ReduceMean', 'Reshape', 'Gemm', 'Sigmoid', 'Mul', 'GlobalAveragePool'}
    assert not {op for op in ops if op.startswith(('Scatter', 'Gather', 'Where'))}
    # a shortcut is one addition, of a product where it is partial; the second blocks of the last two rows have one
    assert set(ops) <= plain
    assert ops.count('Add') == (0 if variant == 'noskip' else 2)
    num_se = sum(name.endswith('.se.gate') for name, _ in model.named_modules())
    assert ops.count('Mul') == num_se + (2 if variant.startswith('id') else 0)
    with torch.no_grad():
        assert rel_error(run_onnx(model_bytes, x), model(x)) < 1e-4


def test_onnx_dynamic_batch():
    model = reparameterize_model(tiny('id033').eval())
    batch = torch.export.Dim('batch', min=1, max=64)
    model_bytes, _ = export_onnx(model, image(2), dynamic_shapes=({0: batch},))
    for size in (1, 5):
        x = image(size)
        with torch.no_grad():
            assert rel_error(run_onnx(model_bytes, x), model(x)) < 1e-4


def check_dynamic_batch_height_and_width(model):
    """By torch.export, and by ONNX of its program."""
    model = reparameterize_model(randomize(model).eval())
    sizes = {0: torch.export.Dim('batch'), **{i: torch.export.Dim(f'size{i}', min=33, max=1024) for i in (2, 3)}}
    exported = torch.export.export(model, (torch.randn(2, 3, 64, 96),), dynamic_shapes=(sizes,))
    model_bytes, _ = export_onnx(exported, None)
    for shape in ((1, 3, 64, 64), (3, 3, 77, 50)):
        x = torch.randn(shape)
        with torch.no_grad():
            expected = model(x)
            assert rel_error(exported.module()(x), expected) < 1e-5
            assert rel_error(run_onnx(model_bytes, x), expected) < 1e-4


@pytest.mark.parametrize('variant, block_type', [('paper', 'sg'), ('id033', 'sg'), ('same', 'sg'), ('paper', 'gsg')])
def test_dynamic_batch_height_and_width(variant, block_type):
    arch_def = [[string.replace('sg', block_type) for string in stage] for stage in TINY]
    check_dynamic_batch_height_and_width(create_mobilenext(arch_def, num_classes=5, **VARIANTS[variant]))


@pytest.mark.parametrize('name', ['mobilenext_050_se', pytest.param('mobilenext_050_ca', marks=COORD)])
def test_attention_with_a_dynamic_batch_height_and_width(name):
    """Coordinate Attention splits by height and width."""
    check_dynamic_batch_height_and_width(timm.create_model(name, num_classes=5))


# timm's reparameterize_model

def norm_names(model):
    return [name for name, m in model.named_modules() if isinstance(m, NORMS)]


@torch.no_grad()
def check_folded(model, x=None, left=()):
    model.eval()
    x = image() if x is None else x
    expected = model(x)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded = reparameterize_model(model)
    assert norm_names(folded) == list(left)
    actual = folded(x)
    for ours, theirs in zip(*[out if isinstance(out, list) else [out] for out in (actual, expected)], strict=True):
        assert rel_error(ours, theirs) < 1e-4
    # the model itself stays as it was
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(m.training for m in folded.modules())
    return folded


@each_variant
def test_reparameterize(variant):
    folded = check_folded(tiny(variant))
    check_folded(folded)  # nothing more to fold
    x = image()
    expected = folded(x)
    torch.testing.assert_close(torch.jit.script(folded)(x), expected)
    if variant in FX_VARIANTS:
        torch.testing.assert_close(torch.fx.symbolic_trace(folded)(x), expected)


@pytest.mark.parametrize('name', ['mobilenext_035', 'mobilenext_100', 'mobilenext_100_id017'])
def test_reparameterize_registered(name):
    check_folded(randomize(timm.create_model(name)), torch.randn(1, 3, 64, 64))


def test_reparameterize_in_place():
    model = tiny().eval()
    x = image()
    expected = model(x)
    assert reparameterize_model(model, inplace=True) is model
    assert norm_names(model) == []
    assert rel_error(model(x), expected) < 1e-4


def test_reparameterized_exports():
    folded = check_folded(tiny('id033'))
    x = image()
    exported = torch.export.export(folded, (x,)).module()
    torch.testing.assert_close(exported(x), folded(x))


@pytest.mark.parametrize('kwargs', [
    dict(), dict(act_layer='silu'), dict(aa_layer='blur'), dict(drop_path_rate=0.1), dict(norm_layer='batchnorm2d')])
def test_reparameterized_saves(kwargs, tmp_path):
    folded = check_folded(tiny(**kwargs))
    torch.save(folded.state_dict(), tmp_path / 'folded.pth')
    fresh = reparameterize_model(create_mobilenext(TINY, num_classes=5, **kwargs)).eval()
    fresh.load_state_dict(torch.load(tmp_path / 'folded.pth'))
    x = image()
    assert torch.equal(fresh(x), folded(x))


class Adapter(nn.Module):
    """Something a user wraps around a convolution, as LoRA does."""

    def __init__(self, base):
        super().__init__()
        self.base = base
        self.extra = nn.Conv2d(base.in_channels, base.out_channels, 3, 2, 1)

    def forward(self, x):
        return self.base(x) + self.extra(x)


STEMS = dict(
    own=lambda conv: nn.Conv2d(3, conv.out_channels, 3, 2, 1),
    patches=lambda conv: nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, conv.out_channels, 1)),
    adapter=Adapter,
    more=lambda conv: nn.Sequential(conv, nn.ReLU()),
    dropout=lambda conv: nn.Sequential(nn.Dropout(0.1), conv),
)


@pytest.mark.parametrize('stem', STEMS)
def test_reparameterize_replaced_stem(stem):
    model = tiny()
    model.conv_stem = randomize(STEMS[stem](model.conv_stem))
    x = image()
    expected = model.eval()(x)
    assert rel_error(reparameterize_model(model)(x), expected) < 1e-4


@pytest.mark.parametrize('norm', ['more', 'group'])
def test_reparameterize_replaced_stem_norm(norm):
    model = tiny()
    chs = model.conv_stem.out_channels
    model.bn1 = nn.Sequential(nn.ReLU(), model.bn1) if norm == 'more' else nn.GroupNorm(1, chs)
    x = image()
    expected = model.eval()(x)
    assert rel_error(reparameterize_model(model)(x), expected) < 1e-4


@pytest.mark.parametrize('rewrap', [
    lambda model: model.as_sequential(),
    lambda model: nn.Sequential(*model.children()),
    lambda model: nn.Sequential(*list(model.children())[:-2]),
    lambda model: nn.Sequential(model.conv_stem, model.bn1, model.blocks),
], ids=['as_sequential', 'children', 'without-head', 'trunk'])
def test_reparameterize_layers_moved_elsewhere(rewrap):
    """As people cut heads off."""
    model = rewrap(tiny()).eval()
    x = image()
    with torch.no_grad():
        expected = model(x)
        assert rel_error(reparameterize_model(model)(x), expected) < 1e-4
        assert rel_error(reparameterize_model(model, inplace=True)(x), expected) < 1e-4


def test_reparameterize_stem_replaced_after_a_copy():
    """What was met in one network is nothing to another."""
    model = tiny().eval()
    reparameterize_model(model)
    model.conv_stem = randomize(nn.Conv2d(3, model.conv_stem.out_channels, 3, 2, 1))
    x = image()
    assert rel_error(reparameterize_model(model)(x), model(x)) < 1e-4


def test_reparameterize_sync_batchnorm():
    model = convert_sync_batchnorm(tiny()).eval()
    x = image()
    assert any(isinstance(m, nn.SyncBatchNorm) for m in model.modules())
    folded = reparameterize_model(model)
    assert rel_error(folded(x), model(x)) < 1e-4
    assert all(name == 'bn1' for name in norm_names(folded))


def test_reparameterize_frozen():
    model = tiny().eval()
    timm.utils.freeze(model, ['bn1', 'blocks.0', 'blocks.1.0.bn2'])
    x = image()
    assert rel_error(reparameterize_model(model)(x), model(x)) < 1e-4


@pytest.mark.parametrize('norm_layer', ['groupnorm1', 'layernorm2d'])
def test_reparameterize_other_norms(norm_layer):
    model = tiny(norm_layer=norm_layer).eval()
    x = image()
    assert torch.equal(reparameterize_model(model)(x), model(x))


@pytest.mark.parametrize('kwargs', [
    dict(), *[dict(feature_location=location) for location in ('expansion', 'downsample')],
    dict(out_indices=(0, 1)), dict(feature_cls='list', out_indices=(0, 1)), dict(feature_cls='hook', out_indices=(1,)),
    dict(feature_cls='getter', out_indices=(0, 1)),
], ids=str)
@pytest.mark.parametrize('variant', ['paper', 'before', 'bottleneck'])
def test_reparameterize_features(variant, kwargs):
    model = randomize(create_mobilenext(TINY, features_only=True, **VARIANTS[variant], **kwargs))
    # timm's list and hook wrappers take stem and blocks out of the network, which then cannot fold its stem
    check_folded(model, left=['bn1'] if kwargs.get('feature_cls') in ('list', 'hook') else [])


def test_reparameterize_fx_features():
    """torch.fx keeps no blocks, so all but the stem stays unfolded."""
    model = randomize(create_mobilenext(TINY, features_only=True, feature_cls='fx', out_indices=(0, 1))).eval()
    x = image()
    folded = reparameterize_model(model).eval()  # copying a graph puts it in training mode
    assert all(rel_error(a, b) < 1e-4 for a, b in zip(folded(x), model(x), strict=True))


def test_reparameterize_part_of_another_network():
    check_folded(nn.Sequential(nn.Identity(), nn.Sequential(tiny())))


@pytest.mark.parametrize('kwargs', [
    dict(),
    dict(feature_cls='getter', out_indices=(0, 1, 2)),
    dict(feature_cls='getter', out_indices=(0, 1), identity_multiplier=1 / 3),
    dict(narrow_skip=True, out_indices=(0, 1, 2)),
    dict(narrow_skip=True, out_indices=(0, 1)),
], ids=str)
def test_features_script(kwargs):
    model = randomize(create_mobilenext(TINY, features_only=True, **kwargs)).eval()
    x = image()
    for ours, theirs in zip(torch.jit.script(model)(x), model(x), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('location', ['bottleneck', 'expansion', 'downsample'])
def test_features_trace(location):
    model = create_mobilenext(TINY, features_only=True, feature_location=location).eval()
    x = image()
    for ours, theirs in zip(torch.jit.trace(model, x, check_trace=False)(x), model(x), strict=True):
        torch.testing.assert_close(ours, theirs)
