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
    """Meta path finder that waits for timm.models, the first and any that is imported anew, and lets all else pass."""

    searching = False

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname != _TRIGGER or cls.searching:
            return None
        from importlib.util import find_spec

        cls.searching = True  # the search comes by here again
        try:
            spec = find_spec(fullname)
        finally:
            cls.searching = False
        if spec is not None and spec.loader is not None:
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
        self._loader.exec_module(module)
        _register(module)


def _register(timm_models):
    try:
        ours = sys.modules.get('timm_mobilenext.models._timm')
        if getattr(ours, 'is_model', timm_models.is_model) is not timm_models.is_model:
            # timm was taken out of sys.modules and is imported anew: what of ours knows the old one goes the same way
            for name in [name for name in sys.modules if name.startswith('timm_mobilenext.')]:
                del sys.modules[name]
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
