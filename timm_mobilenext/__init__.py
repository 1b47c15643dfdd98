""" MobileNeXt for timm: importing this registers the models, and so does timm itself once this is installed"""
from .models.builder import BlockStringError, decode_arch_def, SandglassNetBuilder
from .models.mobilenext import create_mobilenext, MobileNeXt, MobileNeXtFeatures
from .models.sandglass import GhostSandglassBlock, SandglassBlock
from .version import __version__

__all__ = [
    'BlockStringError', 'create_mobilenext', 'decode_arch_def', 'GhostSandglassBlock', 'MobileNeXt',
    'MobileNeXtFeatures', 'SandglassBlock', 'SandglassNetBuilder', '__version__',
]
