""" What `pip install 'timm-mobilenext[extra]'` brings"""
from importlib.util import find_spec

from .errors import UserError

__all__ = ['need']


def need(*modules: str, extra: str) -> None:
    """ Raise a UserError that names an extra if a module of it is not installed.

    Call it when the arguments have been checked and before the work begins; import the modules where they are used.
    """
    for module in modules:
        if find_spec(module) is None:
            raise UserError(f"This needs {module}: pip install 'timm-mobilenext[{extra}]'")
