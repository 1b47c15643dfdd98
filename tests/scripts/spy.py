"""Looks into a run of train.py, which imports it by --device-modules, and leaves what it saw in the file SPY."""
import atexit
import json
import os
from pathlib import Path

import torch

import timm
from timm.layers import DropPath

seen = dict(
    timm=timm.__file__, conv_dtypes=[], layouts=[], shapes=[], stem_calls=0, block_calls=0, samples=0, dropped=0)


def note(key, value):
    if value not in seen[key]:
        seen[key].append(value)


def look(module, args, output):
    if not module.training:
        return
    if isinstance(module, torch.nn.Conv2d):
        note('conv_dtypes', str(output.dtype))
        if module.in_channels == 3:
            seen['stem_calls'] += 1
            note('shapes', list(args[0].shape))
            channels_last = args[0].is_contiguous(memory_format=torch.channels_last)
            note('layouts', 'channels_last' if channels_last else 'contiguous')
    elif isinstance(module, DropPath):
        seen['samples'] += len(output)
        seen['dropped'] += int((output.flatten(1) == 0).all(1).sum())


def count(module, args):
    # before the call: what gradient checkpointing repeats, it leaves as soon as it has what it needs
    if module.training and type(module).__name__ == 'SandglassBlock':
        seen['block_calls'] += 1


torch.nn.modules.module.register_module_forward_pre_hook(count)
torch.nn.modules.module.register_module_forward_hook(look)
atexit.register(lambda: Path(os.environ['SPY']).write_text(json.dumps(seen)))
