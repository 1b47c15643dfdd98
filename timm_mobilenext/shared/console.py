""" Where the tools print"""
import sys

from rich.console import Console

__all__ = ['create_console', 'create_table_console']


def create_console(quiet: bool = False) -> Console:
    """ Console for lines, which are never broken: a terminal wraps them, a log keeps them whole."""
    return Console(highlight=False, markup=False, soft_wrap=True, quiet=quiet)


def create_table_console() -> Console:
    """ Console for tables: as wide as the terminal, or with whole rows where another program reads them."""
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 10_000)
