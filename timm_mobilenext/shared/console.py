""" Where the tools print"""
import sys

from rich.console import Console

__all__ = ['create_console', 'create_table_console']


def create_console(quiet: bool = False) -> Console:
    """ Console for lines. It never breaks them: a terminal wraps them, and a log keeps them whole."""
    return Console(highlight=False, markup=False, soft_wrap=True, quiet=quiet)


def create_table_console() -> Console:
    """ Console for tables. They are as wide as the terminal, or have whole rows where a program reads them."""
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 10_000)
