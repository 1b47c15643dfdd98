""" SSDLite on any backbone of timm, with the default boxes, losses and thresholds of the authors

It is composed of torchvision's SSD, SSDLite head and generator of default boxes. Where the authors differ from
torchvision, it follows the authors: https://github.com/Andrew-Qibin/ssdlite-pytorch-mobilenext
"""
import math
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from huggingface_hub import ModelCard, ModelCardData, PyTorchModelHubMixin
from torch import nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import clip_boxes_to_image, nms, sigmoid_focal_loss

import timm
from timm.data import resolve_data_config

from ..hub.cards import escape
from ..shared.counts import count
from ..shared.errors import shown, UserError
from ..shared.names import check_model
from .backbone import SSDLiteBackbone

__all__ = ['create_ssdlite', 'PRESETS', 'SSDLite', 'ssdlite320_mobilenetv2_100', 'ssdlite320_mobilenext_100']

CARD = """---
{metadata}
---
# SSDLite on {backbone}

A detector of timm-mobilenext: SSDLite, with the boxes and losses of
MobileNeXt's authors, on a backbone of timm.

| | |
|---|---|
| Backbone | {backbone} |
| Classes | {num_classes}: {classes} |
| Image size | {img_size} x {img_size} |
| Parameters | {params:,.0f} |
| MACs | {macs:,.1f}M |
| Trained with | {loss} |

```python
import torch
from torchvision.io import decode_image
from timm_mobilenext.detection import SSDLite

detector = SSDLite.from_pretrained("path/of/this/folder")  # or user/name on the Hub
image = decode_image("image.jpg", mode="RGB") / 255
with torch.inference_mode():
    found = detector([image])[0]  # boxes (x1, y1, x2, y2 in pixels), scores, labels from 1 on
names = [detector.class_names[label - 1] for label in found["labels"]]
```

`timm-mobilenext detect predict path/of/this/folder image.jpg -o boxes` draws them.
"""

_SIZE = 320  # pixels of the images that these sizes and steps are for
_MIN_SIZES = (45, 90, 135, 180, 225, 270)
_STEPS = (16, 32, 64, 120, 160, 320)
_FOCAL_WEIGHT = 5.0  # of the classification
_PRIOR = 0.01  # probability of any class at the start of training with the focal loss


@dataclass(frozen=True)
class Preset:
    """ The authors' settings for a data set (their `configs/mobilenext_ssd320_*.yaml`)."""
    num_classes: int
    loss: str
    max_sizes: Sequence[int]
    last_aspect_ratios: Sequence[int]
    score_thresh: float
    nms_thresh: float


PRESETS = {
    'coco': Preset(80, 'focal', (90, 135, 180, 225, 270, 315), (2,), score_thresh=0.05, nms_thresh=0.5),
    'voc': Preset(20, 'multibox', (120, 180, 220, 260, 300, 320), (2, 3), score_thresh=0.01, nms_thresh=0.45),
}


class DefaultBoxes(DefaultBoxGenerator):
    """ Default boxes. The larger square of each map has its own size, as in the authors' `prior_box.py`."""

    def __init__(self, preset: Preset, img_size: int):
        """
        Args:
            preset: Sizes and aspect ratios.
            img_size: Size of images in pixels. At 320 the distances between boxes are the authors'. At any other size
                the boxes of a map are spread evenly.
        """
        super().__init__(
            [[2, 3]] * (len(_MIN_SIZES) - 1) + [list(preset.last_aspect_ratios)],
            scales=[size / _SIZE for size in (*_MIN_SIZES, preset.max_sizes[-1])],
            steps=list(_STEPS) if img_size == _SIZE else None,
        )
        for pairs, min_size, max_size in zip(self._wh_pairs, _MIN_SIZES, preset.max_sizes, strict=True):
            pairs[1] = math.sqrt(min_size * max_size) / _SIZE


class FixedSizeTransform(GeneralizedRCNNTransform):
    """ torchvision's transform, but images are resized with antialiasing, as timm does."""

    def resize(
            self,
            image: torch.Tensor,
            target: Optional[Dict[str, torch.Tensor]] = None,
    ) -> Tuple[torch.Tensor, Optional[Dict[str, torch.Tensor]]]:
        size: Any = self.fixed_size
        height, width = image.shape[-2:]
        if (height, width) == tuple(size):
            return image, target
        image = F.interpolate(image[None], size=size, mode='bilinear', antialias=True)[0]
        if target is not None:
            scale = torch.tensor([size[1] / width, size[0] / height], device=image.device).repeat(2)
            target = {**target, 'boxes': target['boxes'] * scale}
        return image, target


class SSDLite(
    SSD,
    PyTorchModelHubMixin,
    library_name='timm-mobilenext',
    pipeline_tag='object-detection',
    tags=['object-detection', 'timm', 'ssdlite'],
    coders={SSDLiteBackbone: (attrgetter('name'), str)},  # config.json holds the name of a backbone
):
    """ SSDLite detector on a network of timm, as the authors ran it

    It is used like any detector of torchvision. Input is a list of images, each (3, H, W), in the range of 0 to 1.
    Output is a dict for each image: boxes (x1, y1, x2, y2 in pixels), scores and labels. In training, targets are the
    second argument and output is a dict of losses. Label 0 is the background, as in torchvision, and the classes go
    from 1 to num_classes.
    """

    def __init__(
            self,
            backbone: Union[str, SSDLiteBackbone] = 'mobilenext_100',
            num_classes: int = 80,
            preset: str = 'coco',
            img_size: int = _SIZE,
            class_names: Optional[List[str]] = None,
            score_thresh: Optional[float] = None,
            nms_thresh: Optional[float] = None,
            detections_per_img: int = 100,
            image_mean: Optional[List[float]] = None,
            image_std: Optional[List[float]] = None,
    ):
        """ The arguments are what config.json holds. The weights are random; `create_ssdlite` loads some.

        Args:
            backbone: Model of timm with feature maps of strides 16 and 32, or a backbone made for img_size.
            num_classes: Number of classes, without the background.
            preset: The authors' settings: 'coco' (focal loss) or 'voc' (MultiBox loss with hard negatives).
            img_size: Size in pixels that images are resized to, in width and height.
            class_names: Names of the classes, from label 1 on.
            score_thresh: Scores up to this one are left out. The preset's if None.
            nms_thresh: If two boxes of a class have a larger IoU, the weaker is left out. The preset's if None.
            detections_per_img: Largest number of detections in an image.
            image_mean: Mean of each channel. The backbone's if None.
            image_std: Standard deviation of each channel. The backbone's if None.

        Raises:
            UserError: If an argument is impossible.
        """
        settings = find_preset(preset)
        check_arguments(
            num_classes=num_classes, img_size=img_size, class_names=class_names, score_thresh=score_thresh,
            nms_thresh=nms_thresh, detections_per_img=detections_per_img, image_mean=image_mean, image_std=image_std)
        anchor_generator = DefaultBoxes(settings, img_size)
        features = backbone if isinstance(backbone, SSDLiteBackbone) else SSDLiteBackbone(backbone, img_size)
        config = resolve_data_config(model=features.body)
        # sigmoids need no column for the background
        num_columns = num_classes + (settings.loss == 'multibox')
        num_anchors = anchor_generator.num_anchors_per_location()
        super().__init__(
            features,
            anchor_generator,
            (img_size, img_size),
            num_classes,
            head=_create_head(features.out_channels, num_anchors, num_columns, is_focal=settings.loss == 'focal'),
            score_thresh=settings.score_thresh if score_thresh is None else score_thresh,
            nms_thresh=settings.nms_thresh if nms_thresh is None else nms_thresh,
            detections_per_img=detections_per_img,
        )
        self.transform: Any = FixedSizeTransform(
            img_size, img_size, image_mean or list(config['mean']), image_std or list(config['std']),
            size_divisible=1, fixed_size=(img_size, img_size))
        self.img_size = img_size
        self.num_classes = num_classes
        self.class_names = class_names or [f'class {i}' for i in range(1, num_classes + 1)]
        self.loss = settings.loss
        self._counts: Dict[str, float] = {}

    def compute_loss(
            self,
            targets: List[Dict[str, torch.Tensor]],
            head_outputs: Dict[str, torch.Tensor],
            anchors: List[torch.Tensor],
            matched_idxs: List[torch.Tensor],
    ) -> Dict[str, torch.Tensor]:
        """ Loss of torchvision's SSD, or the focal loss as in the authors' `box_head/loss.py`."""
        head_outputs = {name: output.float() for name, output in head_outputs.items()}
        if self.loss == 'multibox':
            return super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        logits, regression = head_outputs['cls_logits'], head_outputs['bbox_regression']
        classes = torch.zeros_like(logits)
        wanted, found = [], []
        for i, (target, boxes, matched) in enumerate(zip(targets, anchors, matched_idxs, strict=True)):
            positive = torch.where(matched >= 0)[0]
            truth = matched[positive]
            wanted.append(self.box_coder.encode_single(target['boxes'][truth], boxes[positive]))
            found.append(regression[i, positive])
            classes[i, positive, target['labels'][truth] - 1] = 1.
        box_loss = F.smooth_l1_loss(torch.cat(found), torch.cat(wanted), reduction='sum')
        class_loss = sigmoid_focal_loss(logits, classes, alpha=0.25, gamma=2., reduction='sum')
        num_positive = max(1, sum(len(boxes) for boxes in wanted))  # there may be no box in any image
        return {
            'bbox_regression': box_loss / num_positive,
            'classification': _FOCAL_WEIGHT * class_loss / num_positive,
        }

    def postprocess_detections(
            self,
            head_outputs: Dict[str, torch.Tensor],
            image_anchors: List[torch.Tensor],
            image_shapes: List[Tuple[int, int]],
    ) -> List[Dict[str, torch.Tensor]]:
        """ As in torchvision's SSD, but with the scores of the focal loss, and without a loop over classes."""
        scores = self.score_classes(head_outputs['cls_logits'].float())
        detections = []
        for regression, classes, anchors, shape in zip(
                head_outputs['bbox_regression'].float(), scores, image_anchors, image_shapes, strict=True):
            boxes = clip_boxes_to_image(self.box_coder.decode_single(regression, anchors), shape)
            top_scores, top = classes.T.topk(min(self.topk_candidates, classes.shape[0]))
            labels = torch.arange(1, self.num_classes + 1, device=top.device)[:, None].expand_as(top)
            kept = top_scores > self.score_thresh
            box, score, label = boxes[top[kept]], top_scores[kept], labels[kept]
            # moved apart, so that classes do not overlap; torchvision's batched_nms fails in ONNX without a box
            apart = label[:, None].to(box.dtype) * (max(shape) + 1)
            keep = nms(box + apart, score, self.nms_thresh)[:self.detections_per_img]
            detections.append({'boxes': box[keep], 'scores': score[keep], 'labels': label[keep]})
        return detections

    def score_classes(self, logits: torch.Tensor) -> torch.Tensor:
        """ Turn the head's logits into scores of the classes, without the background."""
        return logits.sigmoid() if self.loss == 'focal' else logits.softmax(-1)[..., 1:]

    def count(self) -> Dict[str, float]:
        """ Count the parameters, and for one image the MACs and activations of convolutions and linear layers."""
        if not self._counts:  # each epoch of a training writes a card
            # not on the meta device, for how many boxes there are depends on values
            self._counts = count(self, (3, self.img_size, self.img_size), 'cpu')
        return self._counts

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """ Write the model card, for huggingface_hub when it saves or pushes the detector."""
        data = self._hub_mixin_info.model_card_data
        counts = self.count()
        metadata = ModelCardData(**{**data.to_dict(), **kwargs}).to_yaml()
        return ModelCard(CARD.format(
            metadata=metadata,
            backbone=self.backbone.name,
            classes=', '.join(escape(name) for name in self.class_names),
            num_classes=self.num_classes,
            img_size=self.img_size,
            loss={'focal': 'focal loss', 'multibox': 'MultiBox loss with hard negatives'}[self.loss],
            params=counts['params'],
            macs=counts['macs'] / 1e6,
        ), ignore_metadata_errors=True)

    @classmethod
    def _from_pretrained(cls, *, strict: bool = True, **kwargs: Any) -> Any:  # type: ignore[override]
        # huggingface_hub would leave the weights random that a file lacks
        return super()._from_pretrained(strict=strict, **kwargs)


def find_preset(name: str) -> Preset:
    """ Preset of this name; raise a UserError if there is none."""
    if name not in PRESETS:
        raise UserError(f'preset {shown(name)!r} is not one of {", ".join(PRESETS)}.')
    return PRESETS[name]


def _is_count(value: Any, low: int = 1) -> bool:
    return isinstance(value, int) and value >= low


def _are_numbers(values: Any, count: int, low: float = -1e9, high: float = 1e9) -> bool:
    return isinstance(values, (list, tuple)) and len(values) == count and all(
        isinstance(value, (int, float)) and low <= value <= high for value in values)


# of each argument, whether a value is right, and what it should be
_ARGUMENTS: Dict[str, Tuple[Callable[[Any], bool], str]] = {
    'num_classes': (_is_count, 'a number of at least 1: the background is not counted'),
    'img_size': (lambda n: _is_count(n, 32), 'a number of at least 32 pixels, the largest stride of the backbone'),
    'class_names': (lambda names: isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names),
                    'a list of names'),
    'score_thresh': (lambda n: _are_numbers([n], 1, 0, 1), 'a number from 0 to 1'),
    'nms_thresh': (lambda n: _are_numbers([n], 1, 0, 1), 'a number from 0 to 1'),
    'detections_per_img': (_is_count, 'a number of at least 1'),
    'image_mean': (lambda means: _are_numbers(means, 3), 'three numbers'),
    'image_std': (lambda deviations: _are_numbers(deviations, 3, low=1e-9), 'three numbers above 0'),
}


def check_arguments(**arguments: Any) -> None:
    """ Raise a UserError if a detector cannot have these arguments. A stranger's config.json may say anything."""
    for name, value in arguments.items():
        is_right, expected = _ARGUMENTS[name]
        if value is not None and not is_right(value):
            raise UserError(f'{name} {shown(repr(value))} is not {expected}.')
    num_classes, class_names = arguments['num_classes'], arguments['class_names']
    if class_names is not None and len(class_names) != num_classes:
        raise UserError(f'There are {len(class_names)} class names for {num_classes} classes: give one for each.')


def _create_head(in_chs: List[int], num_anchors: List[int], num_columns: int, is_focal: bool) -> SSDLiteHead:
    """ torchvision's head with a 1x1 convolution as its last module, initialized as in the authors'
    `box_predictor.py`."""
    head = SSDLiteHead(in_chs, num_anchors, num_columns, partial(nn.BatchNorm2d))
    for branch, columns in ((head.classification_head, num_columns), (head.regression_head, 4)):
        branch.module_list[-1] = nn.Conv2d(in_chs[-1], num_anchors[-1] * columns, 1)
        for module in branch.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    if is_focal:
        for module in head.classification_head.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.constant_(module.bias, -math.log((1 - _PRIOR) / _PRIOR))
    return head


def create_ssdlite(
        backbone: str = 'mobilenext_100',
        num_classes: Optional[int] = None,
        preset: str = 'coco',
        img_size: int = _SIZE,
        pretrained: bool = False,
        checkpoint_path: Optional[Union[str, Path]] = None,
        **kwargs: Any,
) -> SSDLite:
    """ Create a detector.

    Args:
        backbone: Any model of timm with feature maps of strides 16 and 32.
        num_classes: Number of classes, without the background. The preset's if None: 80 or 20.
        preset: The authors' settings: 'coco' (focal loss) or 'voc' (MultiBox loss with hard negatives).
        img_size: Size in pixels that images are resized to, in width and height.
        pretrained: Load timm's pretrained weights of the backbone.
        checkpoint_path: Load a checkpoint of the backbone, with any number of classes.
        **kwargs: More arguments of `SSDLite`.

    Raises:
        UserError: If an argument is impossible, or if weights cannot be loaded.
    """
    if num_classes is None:
        num_classes = find_preset(preset).num_classes
    check_arguments(num_classes=num_classes, img_size=img_size, class_names=kwargs.get('class_names'))
    if pretrained and checkpoint_path:
        raise UserError('Both pretrained and checkpoint_path are given: give one of them.')
    check_model(backbone)
    cfg: Any = timm.get_pretrained_cfg(backbone)
    config = resolve_data_config(pretrained_cfg=cfg.to_dict() if cfg else {})
    has_weights = pretrained or checkpoint_path
    return SSDLite(
        backbone=SSDLiteBackbone(backbone, img_size, pretrained, checkpoint_path) if has_weights else backbone,
        num_classes=num_classes,
        preset=preset,
        img_size=img_size,
        **{'image_mean': list(config['mean']), 'image_std': list(config['std']), **kwargs},
    )


def ssdlite320_mobilenext_100(**kwargs: Any) -> SSDLite:
    """ Create SSDLite at 320 pixels on MobileNeXt-1.0, with arguments of `create_ssdlite`."""
    return create_ssdlite('mobilenext_100', **kwargs)


def ssdlite320_mobilenetv2_100(**kwargs: Any) -> SSDLite:
    """ Create SSDLite at 320 pixels on MobileNetV2-1.0, with arguments of `create_ssdlite`."""
    return create_ssdlite('mobilenetv2_100', **kwargs)
