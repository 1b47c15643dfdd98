""" What timm sees: the sandglass block, its block strings, and the registered networks"""
from ..version import blame_timm

try:
    from .block_strings import BlockStringError, decode_arch_def
    from .builder import SandglassNetBuilder
    from .mobilenext import create_mobilenext
    from .network import MobileNeXt, MobileNeXtFeatures
    from .sandglass import GhostSandglassBlock, SandglassBlock
except Exception as e:
    reason = blame_timm(e)
    if reason is None:
        raise
    raise ImportError(reason) from None

__all__ = [
    'BlockStringError', 'create_mobilenext', 'decode_arch_def', 'GhostSandglassBlock', 'MobileNeXt',
    'MobileNeXtFeatures', 'SandglassBlock', 'SandglassNetBuilder',
]
