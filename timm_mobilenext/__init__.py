""" MobileNeXt for timm: importing this registers the models, at once and whenever timm is imported"""
import sys
from typing import Any, TYPE_CHECKING

from _timm_mobilenext_autoload import arm

from .version import __version__

if TYPE_CHECKING:
    from .models import (
        BlockStringError,
        create_mobilenext,
        decode_arch_def,
        GhostSandglassBlock,
        MobileNeXt,
        MobileNeXtFeatures,
        SandglassBlock,
        SandglassNetBuilder,
    )

__all__ = [
    'BlockStringError', 'create_mobilenext', 'decode_arch_def', 'GhostSandglassBlock', 'MobileNeXt',
    'MobileNeXtFeatures', 'SandglassBlock', 'SandglassNetBuilder', '__version__',
]


def __getattr__(name: str) -> Any:
    """ The names above, which need torch and timm, when they are asked for."""
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from . import models

    return getattr(models, name)


arm(always=True)
if 'timm.models' in sys.modules:
    from . import models  # noqa: F401
