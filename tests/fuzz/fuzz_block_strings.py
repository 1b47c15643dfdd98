"""Block strings that nobody would write: a network, or a BlockStringError."""
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import fuzz, STRANGE, tell

import timm

from timm_mobilenext.models.block_strings import BlockStringError

KEYS = [
    'r', 'k', 's', 'e', 'c', 'se', 'gs', 'pg', 'n', 'id', 'dw', 'noskip', 'keepdw', 'keepc', 'nonlinear', 'd', 'h', '']
VALUES = [
    '', '0', '1', '2', '3', '6', '16', '0.5', '1/3', '-1', '9999', '99999', '1e3', 're', 'before', '\u0663', 'nan', ' ']
TYPES = ['sg', 'gsg', 'ir', 'ds', 'cn', 'er', 'uir', 'mqa', 'xx', '']
tokens = st.builds(str.__add__, st.sampled_from(KEYS), st.sampled_from(VALUES)) | st.text(max_size=6)
sane = st.sampled_from(['sg_r1_k3_s2_e2_c16', 'gsg_r1_k3_s1_e2_c16', 'ir_r1_k3_s2_e2_c16', 'sg_r2_k3_s1_e6_c32_se0.25'])


@st.composite
def block_strings(draw):
    """A sound string with tokens that came, went or changed places, or anything at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(STRANGE)
    kind, *rest = draw(sane).split('_')
    rest += draw(st.lists(tokens, max_size=3))
    rest = draw(st.permutations(rest))[:draw(st.integers(0, len(rest)))] if draw(st.booleans()) else rest
    return '_'.join([draw(st.sampled_from(TYPES)) if draw(st.integers(0, 4)) == 0 else kind, *rest])


@fuzz()
@given(st.lists(st.lists(block_strings(), min_size=1, max_size=2), min_size=1, max_size=2))
def test_block_strings(arch_def):
    def create():
        with torch.device('meta'):
            timm.create_model('mobilenext_035', arch_def=arch_def, channel_multiplier=0.1)

    tell(create, errors=(BlockStringError,))
