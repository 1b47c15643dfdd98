""" config.json and model card of each registered model, as hub_configs/ holds them

All facts come from the default cfgs and from the models themselves; a test fails when the folder has drifted.
"""
import json
import re
from pathlib import Path
from typing import Any, Dict

import torch
import torch.nn as nn
from huggingface_hub import EvalResult, ModelCardData

import timm
from timm.models import model_entrypoint

from .files import replacing

__all__ = ['write_cards', 'make_card', 'make_config', 'count']

CITATION = """@inproceedings{zhou2020rethinking,
  title={Rethinking Bottleneck Structure for Efficient Mobile Network Design},
  author={Zhou, Daquan and Hou, Qibin and Chen, Yunpeng and Feng, Jiashi and Yan, Shuicheng},
  booktitle={European Conference on Computer Vision},
  year={2020}
}"""

CARD = """---
{metadata}
---
# Model card for {full_name}

{summary}

{weights}

| | |
|---|---|
{facts}

## Use

MobileNeXt models are a plugin: `pip install timm-mobilenext` beside timm, and no import of it.

### Classify an image

```python
import timm
import torch
from PIL import Image

model = timm.create_model("{name}"{pretrained}).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
with torch.inference_mode():
    logits = model(transform(Image.open("image.jpg").convert("RGB"))[None])  # (1, 1000)
top5_probabilities, top5_classes = logits.softmax(1).topk(5)
```

### Feature maps

```python
model = timm.create_model("{name}"{pretrained}, features_only=True).eval()
maps = model(torch.randn(1, 3, {size}, {size}))
# {maps}
```

### Embeddings

```python
model = timm.create_model("{name}"{pretrained}, num_classes=0).eval()
embedding = model(torch.randn(1, 3, {size}, {size}))  # (1, {num_features})
```

## Citation

```bibtex
{citation}
```
"""


def write_cards(folder: Path) -> None:
    """ Write config.json and README.md of every registered model, each to a folder of its name."""
    for name in timm.list_models(module='mobilenext'):
        (folder / name).mkdir(parents=True, exist_ok=True)
        config = json.dumps(make_config(name), indent=2) + '\n'
        for file, text in (('config.json', config), ('README.md', make_card(name))):
            with replacing(folder / name / file) as new:
                new.write_text(text, encoding='utf-8')


def make_config(name: str) -> Dict[str, Any]:
    """ What timm reads from a Hub repository of this model."""
    cfg: Any = timm.get_pretrained_cfg(name)
    model: Any = timm.create_model(name, device='meta')
    return dict(
        architecture=name,
        num_classes=cfg.num_classes,
        num_features=model.num_features,
        global_pool=model.global_pool.pool_type,
        pretrained_cfg={
            key: getattr(cfg, key) for key in (
                'tag', 'input_size', 'interpolation', 'crop_pct', 'crop_mode', 'mean', 'std', 'num_classes',
                'pool_size', 'first_conv', 'classifier', 'license', 'origin_url', 'paper_name', 'paper_ids', 'notes',
            ) if getattr(cfg, key) is not None
        },
    )


def count(name: str) -> Dict[str, float]:
    """ Parameters, and for one image: MACs and activations (outputs) of convolutions and linear layers."""
    model: Any = timm.create_model(name, device='meta')
    counts: Dict[str, float] = dict(params=sum(p.numel() for p in model.parameters()), macs=0, activations=0)

    def add(module: Any, args: Any, out: torch.Tensor) -> None:
        counts['macs'] += out.numel() * module.weight[0].numel()
        counts['activations'] += out.numel()

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(add)
    model(torch.zeros(1, *model.pretrained_cfg['input_size'], device='meta'))
    return counts


def make_card(name: str) -> str:
    """ README.md of a model."""
    cfg: Any = timm.get_pretrained_cfg(name)
    description: str = model_entrypoint(name).__doc__ or ''
    counts = count(name)
    full_name = f'{name}.{cfg.tag}' if cfg.url else name
    accuracy = re.match(r'ImageNet-1k top-1 ([\d.]+)(?:, top-5 ([\d.]+))? (.+)', cfg.notes[0])
    assert accuracy is not None
    top1, top5, whose = accuracy.groups()
    size = cfg.input_size[-1]
    info: Any = timm.create_model(name, features_only=True, device='meta').feature_info
    maps = [f'{chs} x {size // r} x {size // r}' for chs, r in zip(info.channels(), info.reduction(), strict=True)]
    facts = {
        'Parameters': f'{counts["params"] / 1e6:.2f}M',
        'MACs': f'{counts["macs"] / 1e6:.1f}M',
        'Activations': f'{counts["activations"] / 1e6:.1f}M',
        'Image size': f'{size} x {size}',
        'ImageNet-1k top-1' + (', top-5' if top5 else ''): ', '.join(filter(None, (top1, top5))) + f' ({whose})',
        'Paper': f'[{cfg.paper_name}](https://arxiv.org/abs/{cfg.paper_ids.removeprefix("arXiv:")})',
        'Original code': cfg.origin_url,
    }
    if cfg.url:
        weights = (
            f"The weights are the authors', from [their checkpoint]({cfg.url}), licensed as their repository is"
            f' ({cfg.license}). Whose measurement the accuracy is, the table says; it was not repeated here.')
    else:
        weights = 'There are no weights of this model yet. The accuracy is that of the authors, who released none.'
    return CARD.format(
        metadata=make_metadata(full_name, cfg, top1, top5),
        full_name=full_name,
        summary=f'{description.strip().replace("w/", "with")}. An image classification model of sandglass blocks, from'
                ' timm-mobilenext, a plugin of timm.',
        weights=weights,
        facts='\n'.join(f'| {key} | {value} |' for key, value in facts.items()),
        name=full_name,
        pretrained=', pretrained=True' if cfg.url else '',
        size=size,
        maps=', '.join(maps),
        num_features=info.channels()[-1],
        citation=CITATION,
    )


def make_metadata(full_name: str, cfg: Any, top1: str, top5: str) -> str:
    """ YAML front matter of a card, as the Hub reads it."""
    data: Dict[str, Any] = dict(
        license=cfg.license,
        library_name='timm',
        pipeline_tag='image-classification',
        tags=['image-classification', 'timm', 'mobilenext'],
    )
    if cfg.url:
        result: Dict[str, Any] = dict(
            task_type='image-classification',
            dataset_type='imagenet-1k',
            dataset_name='ImageNet-1k',
            dataset_split='validation',
            metric_type='accuracy',
            source_name="the authors' log",
            source_url=cfg.origin_url,
        )
        data.update(
            datasets=['imagenet-1k'],
            metrics=['accuracy'],
            model_name=full_name,
            eval_results=[
                EvalResult(metric_name=name, metric_value=float(value), **result)
                for name, value in (('Top-1', top1), ('Top-5', top5))
            ],
        )
    return ModelCardData(**data).to_yaml()
