""" JSON and YAML that anyone may have written"""
from typing import Any, Callable

__all__ = ['parse']


def parse(read: Callable[[Any], Any], content: Any) -> Any:
    """ Read JSON by json.loads, or YAML by yaml.safe_load.

    Raises:
        ValueError: If it is not JSON, or nested deeper than Python can follow. Of YAML, yaml.YAMLError too.
    """
    try:
        return read(content)
    except RecursionError:
        raise ValueError('it is nested too deeply') from None
