""" Model cards: for each of our models, with its config.json, as hub_configs/ holds them; and for a user's weights

All facts come from the default cfgs, from the models themselves, and from what a training wrote. A test fails when
hub_configs/ differs from what is made here.
"""
import json
import re
from pathlib import Path
from typing import Any, Dict, List, Optional

from huggingface_hub import EvalResult, ModelCardData

import timm
from timm.models import model_entrypoint

from ..shared.counts import count
from ..shared.files import replacing
from ..shared.names import is_ours, list_ours
from ..version import SOURCE
from .runs import Training

__all__ = ['escape', 'LOCAL_NAME', 'make_card', 'make_config', 'make_weights_card', 'write_cards']

LOCAL_NAME = 'local-dir:path/of/this/folder'

# of the papers that the cfgs name by these ids
CITATIONS = {
    'arXiv:2007.02269': """@inproceedings{zhou2020rethinking,
  title={Rethinking Bottleneck Structure for Efficient Mobile Network Design},
  author={Zhou, Daquan and Hou, Qibin and Chen, Yunpeng and Feng, Jiashi and Yan, Shuicheng},
  booktitle={European Conference on Computer Vision},
  year={2020}
}""",
    'arXiv:2103.02907': """@inproceedings{hou2021coordinate,
  title={Coordinate Attention for Efficient Mobile Network Design},
  author={Hou, Qibin and Zhou, Daquan and Feng, Jiashi},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2021}
}""",
}

CARD = """---
{metadata}
---
# Model card for {title}

{about}

| | |
|---|---|
{facts}

{sections}
"""

CLASSIFY = """### Classify an image

```python
import timm
import torch
from PIL import Image

model = timm.create_model("{name}"{pretrained}).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
with torch.inference_mode():
    logits = model(transform(Image.open("image.jpg").convert("{mode}"))[None])  # (1, {num_classes})
top{k}_probabilities, top{k}_classes = logits.softmax(1).topk({k})
```"""

LABEL_NAMES = """`model.pretrained_cfg["label_names"]` names the classes, in the order of the logits: {}."""

FEATURES = """### Feature maps

```python
model = timm.create_model("{name}"{pretrained}, features_only=True).eval()
maps = model(torch.randn(1, {in_chans}, {size}))
# {maps}
```"""

EMBEDDINGS = """### Embeddings

```python
model = timm.create_model("{name}"{pretrained}, num_classes=0).eval()
embedding = model(torch.randn(1, {in_chans}, {size}))  # (1, {num_features})
```"""

ONNX = """### ONNX Runtime and transformers.js

`onnx/` holds this network as `model.onnx`, `model_fp16.onnx` and `model_int8.onnx`. Each takes normalized images,
`pixel_values` (batch, {in_chans}, {size}), and gives `logits` (batch, {num_classes}). In transformers.js, `dtype` is
`fp32`, `fp16` or `int8`:

```js
import {{ env, pipeline }} from "@huggingface/transformers";

env.remotePathTemplate = "{{model}}/resolve/{{revision}}/onnx/"; // the config.json above it is timm's
const classify = await pipeline("image-classification", "{repository}", {{ subfolder: "", dtype: "fp32" }});
console.log(await classify("image.jpg"));
```"""

PLUGIN = f'MobileNeXt is a plugin of timm: `pip install timm {SOURCE}`. It needs no import.'


def write_cards(folder: Path) -> None:
    """ Write config.json and README.md of each of our models, to a folder with its name.

    Weights that come with the package have a folder of their own, since their classes and image size differ from the
    model's.

    Args:
        folder: Folder to write to.
    """
    tagged = timm.list_models(module='mobilenext', include_tags=True)
    for name in list_ours() + [name for name in tagged if _is_shipped(name)]:
        config = json.dumps(make_config(name), indent=2) + '\n'
        for file, text in (('config.json', config), ('README.md', make_card(name))):
            with replacing(folder / name / file) as new:
                new.write_text(text, encoding='utf-8')


def _is_shipped(name: str) -> bool:
    cfg: Any = timm.get_pretrained_cfg(name)
    return bool(cfg.file)


def make_config(name: str) -> Dict[str, Any]:
    """ Make the config.json that timm reads from a Hub repository of this model."""
    cfg: Any = timm.get_pretrained_cfg(name)
    model: Any = timm.create_model(name, device='meta')
    return dict(
        architecture=name.partition('.')[0],
        num_classes=cfg.num_classes,
        **(dict(label_names=cfg.label_names) if cfg.label_names else {}),
        num_features=model.num_features,
        global_pool=model.global_pool.pool_type,
        pretrained_cfg={
            key: getattr(cfg, key) for key in (
                'tag', 'input_size', 'interpolation', 'crop_pct', 'crop_mode', 'mean', 'std', 'num_classes',
                'pool_size', 'first_conv', 'classifier', 'license', 'origin_url', 'paper_name',
                'paper_ids', 'notes',
            ) if getattr(cfg, key) is not None
        },
    )


def make_card(name: str) -> str:
    """ Make the README.md of one of our models."""
    cfg: Any = timm.get_pretrained_cfg(name)
    model: Any = timm.create_model(name, device='meta')
    architecture = name.partition('.')[0]
    description: str = model_entrypoint(architecture).__doc__ or ''
    has_weights = bool(cfg.url or cfg.file)
    full_name = f'{architecture}.{cfg.tag}' if has_weights else name
    accuracy = re.match(r'(\S+) top-1 ([\d.]+)(?:, top-5 ([\d.]+))? (.+)', cfg.notes[0])
    dataset, top1, top5, whose = accuracy.groups() if accuracy else ('ImageNet-1k', None, None, '')
    # ImageNet's id is that of the Hub, which does not have our copy of CIFAR-10
    dataset_id = {'CIFAR-10': 'cifar10-jpeg', 'ImageNet-1k': 'imagenet-1k'}[dataset]
    figures = {key: float(value) for key, value in (('Top-1', top1), ('Top-5', top5)) if value}
    results: List[EvalResult] = []
    if cfg.file:
        weights = (
            f'The weights ({Path(cfg.file).stat().st_size / 1e6:.1f} MB) come with the package and need no network.'
            " They were trained from scratch by timm's train.py with the recipe [train.yaml](train.yaml)."
            f' {cfg.notes[1]}.')
        results = make_results(figures, dataset, dataset_id, 'test', whose)
    elif cfg.url:
        weights = (
            f"The weights are the authors', from [their checkpoint]({cfg.url}). They have the licence of the authors'"
            f' repository ({cfg.license}). The table says who measured the accuracy. It was not measured again here.')
        log = "the authors' log"
        results = make_results(figures, dataset, dataset_id, 'validation', log, cfg.origin_url)
    else:
        weights = f'This model has no {dataset} weights yet: the authors released none. ' + (
            'Its accuracy is quoted, not measured here.' if accuracy else f'{cfg.notes[0]}.')
    facts = facts_of(model)
    if accuracy:
        facts[f'{dataset} top-1' + (', top-5' if top5 else '')] = (
            ', '.join(filter(None, (top1, top5))) + f' ({whose})')
    papers = [
        f'[{re.findall("title={(.+)}", CITATIONS[paper_id])[0]}](https://arxiv.org/abs/{paper_id.partition(":")[2]})'
        for paper_id in list_papers(architecture)
    ]
    facts['Paper' if len(papers) == 1 else 'Papers'] = ', '.join(papers)
    facts['Original code'] = cfg.origin_url
    return render(
        full_name,
        model,
        title=full_name,
        about=f'{description.strip().replace("w/", "with")}. An image classification model made of sandglass blocks,'
              f' from timm-mobilenext, a plugin of timm.\n\n{weights}',
        license=cfg.license,
        facts=facts,
        datasets=None if cfg.file else [dataset_id],
        results=results,
        label_names=cfg.label_names and list(cfg.label_names),
        pretrained=has_weights,
    )


def make_weights_card(
        name: str,
        model: Any,
        about: str,
        license: str,
        title: Optional[str] = None,
        label_names: Optional[List[str]] = None,
        training: Optional[Training] = None,
        onnx: bool = False,
) -> str:
    """ Make the README.md of a user's weights.

    Args:
        name: Name that `timm.create_model` takes, such as `hf-hub:user/name` or `LOCAL_NAME`.
        model: The model, with weights.
        about: Where the weights come from.
        license: Licence of the weights, in the Hub's spelling.
        title: Title of the card. If None, it is the name without its scheme.
        label_names: Classes, in the order of the logits.
        training: What is known of the training.
        onnx: Whether ONNX files are beside it.
    """
    title = title or name.partition(':')[2]
    facts = {'Architecture': model.pretrained_cfg['architecture'], **facts_of(model)}
    results, recipe = [], ''
    if training and training.dataset:
        facts['Data set'] = training.dataset
    if training and training.accuracy:
        figures = ', '.join(f'{value:.2f}' for value in training.accuracy.values())
        facts[', '.join(training.accuracy).lower()] = f'{figures} ({training.whose})'
        results = make_results(
            training.accuracy, training.dataset or 'unnamed', training.dataset_id, training.split, training.whose)
    if training and training.recipe:
        rows = '\n'.join(f'| `{key}` | {value} |' for key, value in training.recipe.items())
        recipe = f"## Training\n\nArguments of timm's train.py:\n\n| | |\n|---|---|\n{rows}"
    return render(
        name,
        model,
        title=title,
        about=about,
        license=license,
        facts=facts,
        datasets=[training.dataset_id] if training and training.is_on_hub else None,
        results=results,
        label_names=label_names,
        recipe=recipe,
        onnx=onnx,
    )


def escape(text: str) -> str:
    """ Change a user's text where it would end the cell of a table or begin code."""
    return ' '.join(text.split()).replace('|', '\\|').replace('`', "'")


def list_papers(architecture: str) -> List[str]:
    """ Ids of the papers of one of our models."""
    cfg: Any = timm.get_pretrained_cfg(architecture)
    return [cfg.paper_ids] if isinstance(cfg.paper_ids, str) else list(cfg.paper_ids)


def facts_of(model: Any) -> Dict[str, str]:
    """ Describe the size and the cost of a model, for people."""
    counts = count(model)
    height, width = model.pretrained_cfg['input_size'][-2:]
    return {
        'Parameters': f'{counts["params"] / 1e6:.2f}M',
        'MACs': f'{counts["macs"] / 1e6:.1f}M',
        'Activations': f'{counts["activations"] / 1e6:.1f}M',
        'Image size': f'{height} x {width}',
    }


def make_results(
        accuracy: Dict[str, float],
        dataset_name: str,
        dataset_type: str,
        split: str,
        source_name: str,
        source_url: Optional[str] = None,
) -> List[EvalResult]:
    """ Make accuracies, in percent, what the Hub reads."""
    return [
        EvalResult(
            task_type='image-classification',
            dataset_type=dataset_type,
            dataset_name=dataset_name,
            dataset_split=split,
            metric_type='accuracy',
            metric_name=name,
            metric_value=round(value, 3),
            # the Hub accepts the name of a source only with its address
            source_name=source_name if source_url else None,
            source_url=source_url,
        )
        for name, value in accuracy.items()
    ]


def render(
        name: str,
        model: Any,
        title: str,
        about: str,
        license: str,
        facts: Dict[str, str],
        datasets: Optional[List[str]],
        results: List[EvalResult],
        label_names: Optional[List[str]] = None,
        recipe: str = '',
        pretrained: bool = True,
        onnx: bool = False,
) -> str:
    """ Make a card of its facts."""
    in_chans, height, width = model.pretrained_cfg['input_size']
    values = dict(
        name=name,
        pretrained=', pretrained=True' if pretrained else '',
        mode='L' if in_chans == 1 else 'RGB',
        num_classes=model.num_classes,
        k=min(5, model.num_classes),
        in_chans=in_chans,
        size=f'{height}, {width}',
        num_features=getattr(model, 'head_hidden_size', model.num_features),
    )
    ours = is_ours(model.pretrained_cfg['architecture'])
    sections = [recipe, f'## Use\n\n{PLUGIN if ours else "`pip install timm`"}']
    if model.num_classes and in_chans in (1, 3):  # a picture has one or three
        sections.append(CLASSIFY.format(**values))
    if label_names:
        names = escape(', '.join([*label_names[:20], '...'] if len(label_names) > 20 else label_names))
        sections.append(LABEL_NAMES.format(names))
    if ours:
        maps = [
            f'{info["num_chs"]} x {-(-height // info["reduction"])} x {-(-width // info["reduction"])}'
            for info in model.feature_info
        ]
        sections.append(FEATURES.format(maps=', '.join(maps), **values))
    sections.append(EMBEDDINGS.format(**values))
    if onnx:
        sections.append(ONNX.format(repository=name.partition(':')[2], **values))
    if ours:
        citations = '\n\n'.join(CITATIONS[paper_id] for paper_id in list_papers(model.pretrained_cfg['architecture']))
        sections.append(f'## Citation\n\n```bibtex\n{citations}\n```')
    data: Dict[str, Any] = dict(
        license=license,
        library_name='timm',
        pipeline_tag='image-classification' if model.num_classes else 'image-feature-extraction',
        tags=['image-classification', 'timm', *(['mobilenext'] if ours else [])],
    )
    if results:
        data.update(datasets=datasets, metrics=['accuracy'], model_name=title, eval_results=results)
    return CARD.format(
        metadata=ModelCardData(**data).to_yaml(),
        title=title,
        about=about,
        facts='\n'.join(f'| {key} | {escape(value)} |' for key, value in facts.items()),
        sections='\n\n'.join(filter(None, sections)),
    )
