import sys

import pytest


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a script of experiments/ in this process with arguments, and return what it printed."""
    def run(script, *arguments):
        monkeypatch.setattr(sys, 'argv', [script.__file__, *map(str, arguments)])
        script.main()
        return capsys.readouterr().out
    return run
