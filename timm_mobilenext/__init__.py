""" MobileNeXt for timm: importing this registers the models, and so does timm itself once this is installed"""
from .builder import BlockStringError, decode_arch_def, SandglassNetBuilder
from .mobilenext import create_mobilenext, MobileNeXt, MobileNeXtFeatures
from .sandglass import GhostSandglassBlock, SandglassBlock
from .version import __version__

__all__ = [
    'BlockStringError', 'create_mobilenext', 'decode_arch_def', 'GhostSandglassBlock', 'MobileNeXt',
    'MobileNeXtFeatures', 'SandglassBlock', 'SandglassNetBuilder', '__version__',
]
