"""Registers the MobileNeXt models as soon as timm has been imported, with no import of theirs by anybody.

A start-up file in site-packages calls `arm()` in every interpreter: `_timm_mobilenext_autoload.pth` up to Python 3.14,
`_timm_mobilenext_autoload.start` (PEP 829) from 3.15 on. This is a module beside the package, since to import a
submodule would run the package's `__init__` and with it torch; it imports nothing but sys and os until timm itself is
imported.

`TIMM_MOBILENEXT_AUTOLOAD=0` in the environment turns it off.
"""
import sys

_TRIGGER = 'timm.models'


class _Finder:
    """Meta path finder that waits for timm.models, and lets everything else and then itself pass."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname != _TRIGGER:
            return None
        from importlib.util import find_spec

        disarm()  # the search below comes by here again, and once is enough
        spec = find_spec(fullname)
        if spec is None or spec.loader is None:
            arm()
        else:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec


class _Loader:
    """Loads timm.models by its own loader, then registers ours."""

    def __init__(self, loader):
        self._loader = loader

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        # from here on the module knows its own loader alone, for reload, inspect and pickle
        module.__loader__ = module.__spec__.loader = self._loader
        try:
            self._loader.exec_module(module)
        except BaseException:
            arm()  # a timm that could not be imported now may be later
            raise
        _register()


def _register():
    try:
        import timm_mobilenext.models  # noqa: F401
    except Exception as e:  # whatever it is, timm itself must stay usable
        import warnings

        warnings.warn(
            f'timm-mobilenext could not register its models with timm: {type(e).__name__}: {e}'
            ' (TIMM_MOBILENEXT_AUTOLOAD=0 turns this off)',
            stacklevel=2,
        )


def arm(always=False):
    """Wait for timm.models; TIMM_MOBILENEXT_AUTOLOAD=0 turns this off, except `always`, for who imports the package."""
    import os

    is_off = os.environ.get('TIMM_MOBILENEXT_AUTOLOAD', '1') == '0' and not always
    if not is_off and _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


def disarm():
    """Stop waiting."""
    if _Finder in sys.meta_path:
        sys.meta_path.remove(_Finder)
