"""The tools of docs/works-with.md, in a few environments: those get along that share one.

    python tests/clients/tools.py
"""
import json
import sys
from pathlib import Path

if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).parents[1]))

from environments import Environments

__all__ = ['CONSTRAINTS', 'find_script', 'need', 'run_python', 'TOOLS', 'use_script']

CONSTRAINTS = Path(__file__).with_name('constraints.txt')
# environment -> its tools, by their names on PyPI
GROUPS = dict(
    networks=[
        'captum', 'grad-cam', 'segmentation-models-pytorch', 'supervision', 'thop', 'timm-info', 'timmx',
        'torch-pruning', 'torchao', 'torchcam', 'torchinfo', 'torchmetrics', 'torchvision', 'transformers'],
    training=[
        'accelerate', 'anomalib', 'fastai', 'lightly', 'lightning', 'tensorboard', 'wandb'],
    services=['gradio', 'mlflow'],
)
TOOLS = {tool: group for group, tools in GROUPS.items() for tool in tools}
ENVIRONMENTS = Environments('clients', CONSTRAINTS, 'make test-clients')


def find_script(tool: str) -> Path:
    return Path(__file__).with_name(f'use_{tool.replace("-", "_")}.py')


def need(tool: str) -> None:
    """Skip the test where a tool's environment is missing."""
    ENVIRONMENTS.need(TOOLS[tool], tool)


def run_python(tool: str, folder: Path, *command: object, **env: str) -> str:
    """Run Python in a tool's environment, at home in a folder and without a network. Returns what it prints.

    There is no PYTHONPATH: timm knows the models by what `pip install` wrote, or not at all.
    """
    env = dict(HOME=str(folder), HF_HUB_OFFLINE='1', PYTHONPATH='', **env)
    return ENVIRONMENTS.run(TOOLS[tool], folder, 'python', *map(str, command), what=tool, **env)


def use_script(tool: str, folder: Path, *arguments: object, **env: str) -> dict:
    """Run a tool's script, to the JSON that it prints at the end."""
    return json.loads(run_python(tool, folder, find_script(tool), *arguments, **env).splitlines()[-1])


if __name__ == '__main__':
    ENVIRONMENTS.make({group: [f'pip install {" ".join(tools)}'] for group, tools in GROUPS.items()})
