""" Export of a detector for one image of fixed size: to ONNX with NMS, or without NMS to ONNX and torch.export"""
import io
import logging
import warnings
from pathlib import Path
from typing import Any, Dict, Tuple

import torch
from torch import nn
from torchvision.models.detection.image_list import ImageList

from ..shared.console import create_console
from ..shared.extras import need
from ..shared.files import replacing
from .predict import load_detector

__all__ = ['export_onnx', 'export_program', 'RawDetector', 'run_export']

_NMS = ('score_thresh', 'nms_thresh', 'topk_candidates', 'detections_per_img')


class _OneImage(nn.Module):
    """ A detector with tensors as input and output."""

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector

    def forward(self, image: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        found = self.detector([image[0]])[0]
        return found['boxes'], found['scores'], found['labels']


class RawDetector(nn.Module):
    """ A detector without NMS: all shapes are fixed, and phones' runtimes have all its operators.

    Input is one image (1, 3, img_size, img_size), in the range of 0 to 1. Outputs are boxes (1, N, 4), which are
    x1, y1, x2, y2 in pixels of that size, clipped to the image, and scores (1, N, num_classes). The first score is
    that of label 1.
    """
    centers: torch.Tensor
    sizes: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, detector: Any):
        """
        Args:
            detector: Detector, in evaluation mode.
        """
        super().__init__()
        self.detector = detector
        image = _draw_image(detector)
        with torch.no_grad():
            maps = list(detector.backbone(image).values())
        corners = detector.anchor_generator(ImageList(image, [image.shape[-2:]]), maps)[0][None].split(2, -1)
        self.register_buffer('centers', (corners[0] + corners[1]) / 2)
        self.register_buffer('sizes', corners[1] - corners[0])
        for name in ('mean', 'std'):
            self.register_buffer(name, torch.tensor(getattr(detector.transform, f'image_{name}')).view(1, 3, 1, 1))
        self.eval()

    def forward(self, image: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        outputs = self.detector.head(list(self.detector.backbone((image - self.mean) / self.std).values()))
        # as the coder's decode_single, whose slices with a step ncnn lacks
        coder, codes = self.detector.box_coder, outputs['bbox_regression']
        centers = codes[..., :2] / coder.weights[0] * self.sizes + self.centers
        halves = (codes[..., 2:] / coder.weights[2]).clamp(max=coder.bbox_xform_clip).exp() * self.sizes / 2
        boxes = torch.cat((centers - halves, centers + halves), -1).clamp(0, self.detector.img_size)
        return boxes, self.detector.score_classes(outputs['cls_logits'])


def _draw_image(model: Any) -> torch.Tensor:
    return torch.rand(1, 3, model.img_size, model.img_size, generator=torch.Generator().manual_seed(0))


def _describe(model: Any, raw: bool) -> Dict[str, str]:
    """ What an app has to know of a file."""
    nms = {name: str(getattr(model, name)) for name in _NMS if raw}
    return {'class_names': '\n'.join(model.class_names), 'img_size': str(model.img_size), **nms}


def export_onnx(model: Any, file: Path, raw: bool = False) -> None:
    """ Write a detector as ONNX.

    Input `image` is (1, 3, img_size, img_size), in the range of 0 to 1. Outputs are `boxes` (N, 4), which are
    x1, y1, x2, y2 in pixels of that size, `scores` (N,) and `labels` (N,), sorted by score from high to low. Raw
    outputs are `boxes` and `scores` of `RawDetector`. The metadata has the class names, and for raw outputs the
    settings of NMS.

    Args:
        model: Detector, in evaluation mode.
        file: File to write.
        raw: Leave NMS out.
    """
    import onnx  # of the extra `detection`

    outputs = ['boxes', 'scores'] if raw else ['boxes', 'scores', 'labels']
    with replacing(file) as new, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # a trace warns of constants, which are right for a fixed size
        logging.getLogger('torch.onnx').setLevel(logging.ERROR)
        torch.onnx.export(
            RawDetector(model) if raw else _OneImage(model).eval(),
            (_draw_image(model),),
            str(new),
            input_names=['image'],
            output_names=outputs,
            dynamic_axes=None if raw else {name: {0: 'detections'} for name in outputs},
            opset_version=18,
            dynamo=False,
        )
        exported = onnx.load(new)
        onnx.checker.check_model(exported)
        for key, value in _describe(model, raw).items():
            exported.metadata_props.add(key=key, value=value)
        onnx.save(exported, new)


def export_program(model: Any, file: Path) -> None:
    """ Write a detector without NMS as a program of torch.export, which ExecuTorch's and LiteRT's converters take.

    Input and outputs are those of `RawDetector`. The extra files have the class names and the settings of NMS.

    Args:
        model: Detector, in evaluation mode.
        file: File to write.
    """
    program = torch.export.export(RawDetector(model), (_draw_image(model),))
    written = io.BytesIO()  # torch's own writer aborts the process on a full disk
    torch.export.save(program, written, extra_files=_describe(model, raw=True))
    with replacing(file) as new:
        new.write_bytes(written.getvalue())


def run_export(model_name: str, output: Path, raw: bool = False) -> None:
    """ Export a detector, and print what was written.

    Args:
        model_name: Folder of a detector, or `hf-hub:` and a repository.
        output: File to write, .onnx, or .pt2 of raw outputs.
        raw: Leave NMS out.

    Raises:
        UserError: If the detector cannot be used.
    """
    model = load_detector(model_name)
    boxes, scores = 'boxes', 'scores, labels'
    if raw:
        count = RawDetector(model).sizes.shape[1]
        boxes, scores = f'boxes (1, {count}, 4)', f'scores (1, {count}, {model.num_classes})'
    if output.suffix == '.pt2':
        export_program(model, output)
    else:
        need('onnx', extra='detection')
        export_onnx(model, output, raw)
    size = model.img_size
    console = create_console()
    console.print(f'written  {output}, {output.stat().st_size / 1e6:.1f} MB: image (1, 3, {size}, {size}) of 0 to 1 ->'
                  f' {boxes}, {scores} of {", ".join(model.class_names)}')
    if raw:
        console.print('NMS      ' + ', '.join(f'{name} {getattr(model, name)}' for name in _NMS))
