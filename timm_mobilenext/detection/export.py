""" Export of a detector to ONNX. Input is an image of fixed size, output are boxes, scores and labels after NMS."""
import logging
import warnings
from pathlib import Path
from typing import Any, Tuple

import torch
from torch import nn

from ..shared.console import create_console
from ..shared.errors import UserError
from ..shared.extras import need
from ..shared.files import replacing
from ..shared.paths import check_folder
from .predict import load_detector

__all__ = ['export_onnx', 'run_export']


class _OneImage(nn.Module):
    """ A detector with tensors as input and output."""

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector

    def forward(self, image: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        found = self.detector([image[0]])[0]
        return found['boxes'], found['scores'], found['labels']


def export_onnx(model: Any, file: Path) -> None:
    """ Write a detector as ONNX.

    Input `image` is (1, 3, img_size, img_size), in the range of 0 to 1. Outputs are `boxes` (N, 4), which are
    x1, y1, x2, y2 in pixels of that size, `scores` (N,) and `labels` (N,), sorted by score from high to low. The
    metadata has the class names.

    Args:
        model: Detector, in evaluation mode.
        file: File to write.
    """
    import onnx  # of the extra `detection`

    image = torch.rand(1, 3, model.img_size, model.img_size, generator=torch.Generator().manual_seed(0))
    outputs = ('boxes', 'scores', 'labels')
    with replacing(file) as new, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # a trace warns of constants, which are right for a fixed size
        logging.getLogger('torch.onnx').setLevel(logging.ERROR)
        torch.onnx.export(
            _OneImage(model).eval(),
            (image,),
            str(new),
            input_names=['image'],
            output_names=list(outputs),
            dynamic_axes={name: {0: 'detections'} for name in outputs},
            opset_version=18,
            dynamo=False,
        )
        exported = onnx.load(new)
        onnx.checker.check_model(exported)
        for key, value in (('class_names', '\n'.join(model.class_names)), ('img_size', str(model.img_size))):
            exported.metadata_props.add(key=key, value=value)
        onnx.save(exported, new)


def run_export(model_name: str, output: Path) -> None:
    """ Export a detector, and print what was written.

    Args:
        model_name: Folder of a detector, or `hf-hub:` and a repository.
        output: ONNX file to write.

    Raises:
        UserError: If the file or the detector cannot be used.
    """
    if output.suffix != '.onnx':
        raise UserError(f'{output} is not the name of an ONNX file: give a name that ends in .onnx.')
    if output.is_dir():
        raise UserError(f'{output} is a folder: give the name of a file.')
    check_folder(output.absolute().parent, 'a file in a folder that exists')
    model = load_detector(model_name)
    need('onnx', extra='detection')
    export_onnx(model, output)
    size = model.img_size
    console = create_console()
    console.print(f'written  {output}, {output.stat().st_size / 1e6:.1f} MB: image (1, 3, {size}, {size}) of 0 to 1 ->'
                  f' boxes, scores, labels of {", ".join(model.class_names)}')
