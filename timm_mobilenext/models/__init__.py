""" What timm sees: the sandglass block, its block strings, and the registered networks"""
from ..version import wrong_timm

try:
    from .block_strings import BlockStringError, decode_arch_def
    from .builder import SandglassNetBuilder
    from .mobilenext import create_mobilenext
    from .network import MobileNeXt, MobileNeXtFeatures
    from .sandglass import GhostSandglassBlock, SandglassBlock
except ImportError as e:
    if (e.name or '').partition('.')[0] != 'timm':
        raise
    from timm import __version__ as timm_version

    raise ImportError(wrong_timm(timm_version, e)) from None

__all__ = [
    'BlockStringError', 'create_mobilenext', 'decode_arch_def', 'GhostSandglassBlock', 'MobileNeXt',
    'MobileNeXtFeatures', 'SandglassBlock', 'SandglassNetBuilder',
]
