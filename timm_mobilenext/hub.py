""" Hub folders: config.json, model.safetensors and a README.md, for `local-dir:` and for the Hugging Face Hub"""
import json
from pathlib import Path
from typing import Any, Dict, List, Optional

import timm
from timm.models import save_for_hf

from .files import tidy

__all__ = ['check_hub_folder', 'save_hub_folder']

_FILES = {'config.json', 'model.safetensors', 'pytorch_model.bin', 'README.md'}

_CARD = """---
license: {license}
library_name: timm
pipeline_tag: image-classification
tags:
- image-classification
- timm
---
# {title}

{about}

```python
import timm

model = timm.create_model('local-dir:path/of/this/folder', pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
{label_names}```

MobileNeXt models need `pip install timm-mobilenext` beside timm, and no import.
"""
_LABEL_NAMES = "model.pretrained_cfg['label_names']  # the classes, in the order of the logits\n"


def check_hub_folder(folder: Path) -> None:
    """ Make sure that nothing but a Hub folder would be replaced.

    Raises:
        ValueError: If there is a file, a folder with anything else in it, or the one that we are in.
    """
    if Path.cwd().is_relative_to(folder.resolve()):
        raise ValueError(f'{folder} is the current folder or one around it: give a folder of its own.')
    tidy(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f'{folder} is a file: give a folder.')
    others = {file.name for file in folder.glob('*')} - _FILES
    if others:
        raise ValueError(f'{folder} would be replaced, but {min(others)} there is not its own: move it away.')


def save_hub_folder(
        folder: Path,
        model: Any,
        title: str,
        about: str,
        license: str,
        label_names: Optional[List[str]] = None,
        model_args: Optional[Dict[str, Any]] = None,
) -> None:
    """ Save a model, with what timm needs to create it and a model card.

    Args:
        folder: Folder to write to.
        model: Model of timm, its `pretrained_cfg` saying how it is used.
        title: Title of README.md, the model card.
        about: What the card says of the weights.
        license: Their licence, in the Hub's spelling.
        label_names: Classes, in the order of the logits.
        model_args: Arguments that the model was created with, for a timm that does not record them.
    """
    # the local-dir: of timm before 1.0.29 reads no safetensors
    safe: Any = tuple(map(int, timm.__version__.split('.')[:3])) >= (1, 0, 29) or 'both'
    model_config = dict(label_names=label_names) if label_names else {}
    save_for_hf(model, str(folder), model_config=model_config, model_args=model_args, safe_serialization=safe)
    # the root of config.json has it, and transformers passes both and fails
    config = json.loads((folder / 'config.json').read_text(encoding='utf-8'))
    config.get('model_args', {}).pop('num_classes', None)
    (folder / 'config.json').write_text(json.dumps(config, indent=2) + '\n', encoding='utf-8')
    shown_names = _LABEL_NAMES if label_names else ''
    card = _CARD.format(title=title, about=about, license=license, label_names=shown_names)
    (folder / 'README.md').write_text(card, encoding='utf-8')
