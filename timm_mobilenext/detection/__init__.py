""" SSDLite on any backbone of timm: boxes around what is in a photograph"""
from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from .ssdlite import create_ssdlite, SSDLite, ssdlite320_mobilenetv2_100, ssdlite320_mobilenext_100

__all__ = ['create_ssdlite', 'SSDLite', 'ssdlite320_mobilenetv2_100', 'ssdlite320_mobilenext_100']


def __getattr__(name: str) -> Any:
    """ Import the detector only when it is asked for: it needs torch and timm, and the command line needs neither."""
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from . import ssdlite

    return getattr(ssdlite, name)
