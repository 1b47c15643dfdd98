""" A model as ONNX files, in float32, float16 and int8, and what transformers.js needs beside them

torch exports the network, and ONNX Runtime makes the smaller files of that one. Each is compared with PyTorch.
transformers and transformers.js demand different things of `model_type` in config.json, so that no folder serves both:
`onnx/` is a folder of its own, for transformers.js.
"""
import json
import logging
import math
import warnings
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import torch
from rich.console import Console

from timm.data import create_transform, ImageDataset, resolve_data_config

from ..shared.errors import first_line, shown, UserError
from ..shared.extras import need
from ..shared.images import read_image
from ..shared.names import name_classes
from .folders import ONNX_FILES

__all__ = [
    'check_onnx', 'export_onnx', 'find_images', 'halve_onnx', 'prepare_images', 'quantize_onnx', 'write_onnx_folder',
]

_PACKAGES = 'onnx', 'onnxruntime', 'onnxscript'
_INPUT = 'pixel_values'  # as transformers.js names it
_CONFIG, _FLOAT32, _FLOAT16, _INT8, _PROCESSOR = ONNX_FILES
_MODES = {1: 'L', 3: 'RGB'}  # of PIL, for so many channels
_MAX_IMAGES = 256
# of the logits, relative to the largest; in int8, the images say what it costs
_MAX_DIFFERENCE = {_FLOAT32: 1e-3, _FLOAT16: 0.1, _INT8: math.inf}
_MIN_AGREEMENT = 0.95  # share of the images that get the same class; int8 kept 97.6 % of the shipped network's
_NEAREST, _LANCZOS = 0, 1  # of PIL


def check_onnx(calibration: Path) -> None:
    """ Raise a UserError if a package is missing, or if there are no images to calibrate on."""
    find_images(calibration)
    need(*_PACKAGES, extra='onnx')


def find_images(folder: Path) -> List[Path]:
    """ Find the images of a folder and of those in it, at most 256 from all over them.

    Raises:
        UserError: If there are none.
    """
    try:
        files = ImageDataset(str(folder)).filenames(absolute=True)
    except (AssertionError, RuntimeError) as e:  # timm found none
        raise UserError(f'{folder} has no images to calibrate int8 on: {shown(first_line(e)).rstrip(".")}.') from None
    return [Path(file) for file in files[::-(-len(files) // _MAX_IMAGES)]]


def prepare_images(files: Sequence[Path], model: Any) -> Iterator[torch.Tensor]:
    """ Read images and prepare them by timm's transform, one at a time.

    Args:
        files: The images, of any sizes.
        model: Model of timm that they are prepared for.

    Yields:
        Batches of one image.

    Raises:
        UserError: If the network does not take photographs, or if a file is not an image.
    """
    config = resolve_data_config(model=model)
    channels = config['input_size'][0]
    if channels not in _MODES:
        raise UserError(f'The network takes images of {channels} channels, and int8 is calibrated on images of 3 or 1:'
                        ' leave out --onnx.')
    transform: Any = create_transform(**config)
    for file in files:
        yield transform(read_image(file, turn=False).convert(_MODES[channels]))[None]


@contextmanager
def _quietly() -> Iterator[None]:
    """ Keep back what the exporters say of their steps."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)


def export_onnx(model: Any, file: Path) -> None:
    """ Write a classifier as ONNX: `pixel_values` (batch, channels, height, width) to `logits` (batch, classes).

    The metadata has `class_names`, one a line, and `data_config`, which is timm's, as JSON.

    Args:
        model: Model of timm, in evaluation mode.
        file: File to write.

    Raises:
        UserError: If the network has what ONNX cannot take.
    """
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass  # of onnxscript

    config, name = resolve_data_config(model=model), name_classes(model)
    images = torch.zeros(2, *config['input_size'])  # of two: for one, the exporter would fix the batch
    try:
        with _quietly():
            program: Any = torch.onnx.export(
                model, (images,), input_names=[_INPUT], output_names=['logits'], dynamic_shapes=({0: 'batch'},),
                dynamo=True, verbose=False)
    except torch.onnx.OnnxExporterError as e:
        raise UserError(f'The network cannot be written as ONNX: {_reason(e)}.') from e
    ClearMetadataAndDocStringPass()(program.model)  # stack traces, with the paths of this machine
    program.model.metadata_props.update(
        class_names='\n'.join(map(name, range(model.num_classes))), data_config=json.dumps(config))
    program.save(str(file), external_data=False)


def _reason(error: BaseException) -> str:
    """ Why torch refuses a network: what it says of the first cause, which names the operator."""
    while error.__cause__ is not None:
        error = error.__cause__
    return shown(first_line(error)).rstrip('.')


def halve_onnx(exported: Path, file: Path) -> None:
    """ Write an ONNX file with the weights in 16 bits, which computes in 16 bits too. Input and output stay float32.

    Args:
        exported: File of `export_onnx`.
        file: File to write.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with _quietly():
        onnx.save(convert_float_to_float16(onnx.load(exported), keep_io_types=True), file)


def quantize_onnx(exported: Path, file: Path, images: Iterable[torch.Tensor]) -> None:
    """ Write an ONNX file in int8, with a scale for each channel. Input and output stay float32.

    Args:
        exported: File of `export_onnx`.
        file: File to write.
        images: Batches of images to calibrate on, as the network takes them.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static, QuantType
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        remaining = iter(images)

        def get_next(self) -> Optional[Dict[str, Any]]:
            return next(({_INPUT: batch.numpy()} for batch in self.remaining), None)

    with TemporaryDirectory(prefix='timm-mobilenext-') as folder, _quietly():
        prepared = Path(folder, 'prepared.onnx')
        try:
            quant_pre_process(str(exported), str(prepared))
        except Exception:  # ONNX Runtime's own inference of shapes fails on some networks, such as ConvNeXt V2
            quant_pre_process(str(exported), str(prepared), skip_symbolic_shape=True)
        # between layers 8 bits without a sign: with one, ONNX Runtime leaves the layers beside a shortcut in float32
        quantize_static(
            str(prepared), str(file), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8)


def write_onnx_folder(folder: Path, model: Any, calibration: Path, console: Console) -> None:
    """ Add the ONNX files to a Hub folder, and print how far each is from PyTorch.

    Args:
        folder: The Hub folder.
        model: Its model, in evaluation mode.
        calibration: Folder of images.
        console: Console that is printed to.

    Raises:
        UserError: If the network has no classes or takes no photographs, if ONNX cannot take it, if an image cannot be
            read, or if a file computes anything else than PyTorch.
    """
    if not model.num_classes:
        raise UserError('The network has no classifier, and --onnx is for networks with classes: leave it out.')
    images = find_images(calibration)
    next(prepare_images(images, model))  # whether it takes photographs is told before the export
    (folder / _FLOAT32).parent.mkdir()
    export_onnx(model, folder / _FLOAT32)
    halve_onnx(folder / _FLOAT32, folder / _FLOAT16)
    quantize_onnx(folder / _FLOAT32, folder / _INT8, prepare_images(images, model))
    count = f'{len(images):,} images' if len(images) > 1 else 'one image'
    console.print(f'onnx     int8 calibrated on {count} of {calibration}, and all checked on that:')
    for name, (difference, largest, same) in _compare(folder, model, images).items():
        name = Path(name).name
        console.print(f'onnx     {name:15} logits within {difference:.1g} of {largest:.2g}, {same:.1%} the same class')
        if same < _MIN_AGREEMENT:
            console.print(f'warning  {name} changes the class of {1 - same:.1%}: measure it on labelled images, as'
                          ' docs/deployment.md shows')
    _write_texts(folder, model, console)


@torch.inference_mode()
def _compare(folder: Path, model: Any, images: Sequence[Path]) -> Dict[str, Tuple[float, float, float]]:
    """ Compare the logits of the ONNX files with PyTorch's.

    Returns:
        Largest difference, PyTorch's largest logit, and share of the images that get the same class, of each file.

    Raises:
        UserError: If a file does not hold the same network, or one whose numbers 16 bits cannot hold.
    """
    from onnxruntime import InferenceSession

    names = _FLOAT32, _FLOAT16, _INT8
    sessions = [InferenceSession(str(folder / name), providers=['CPUExecutionProvider']) for name in names]
    rows = []
    for batch in prepare_images(images, model):
        answers = (torch.from_numpy(session.run(None, {_INPUT: batch.numpy()})[0]) for session in sessions)
        rows.append(torch.cat([model(batch), *answers]))
    expected, *others = torch.stack(rows, 1)
    largest = expected.abs().max().item()
    found = {}
    for name, logits in zip(names, others, strict=True):
        difference = (logits - expected).abs().max().item()
        if not difference <= _MAX_DIFFERENCE[name] * max(1., largest):  # nor is it if it is not a number
            raise UserError(f'{name} is not the same network: its logits differ by {difference:.2g} of {largest:.2g}'
                            " from PyTorch's: leave out --onnx.")
        found[name] = difference, largest, (logits.argmax(1) == expected.argmax(1)).double().mean().item()
    return found


def _write_texts(folder: Path, model: Any, console: Console) -> None:
    """ Write the two files that transformers.js reads, and print where it cannot prepare images as timm does."""
    config = resolve_data_config(model=model)
    channels, height, width = config['input_size']
    crop_mode, crop = config['crop_mode'], {'height': height, 'width': width}
    before = {key: math.floor(side / config['crop_pct']) for key, side in crop.items()}
    size = {'shortest_edge': max(before.values())} if crop_mode == 'center' else before
    name = name_classes(model)
    texts: Dict[str, Dict[str, Any]] = {
        _CONFIG: {
            # a type that transformers.js knows: it runs the file, whatever network that holds
            'model_type': 'mobilenet_v2',
            'id2label': {i: name(i) for i in range(model.num_classes)},
            # or else a browser would ask for model_quantized.onnx
            'transformers.js_config': {'dtype': 'fp32'},
        },
        _PROCESSOR: {
            'image_processor_type': 'MobileNetV2ImageProcessor',  # which does what is said here, and no more
            'do_convert_rgb': channels == 3,
            'do_resize': True,
            'size': size,
            # in Node, the others skip pixels of an image that gets smaller, as neither PIL nor timm does
            'resample': _NEAREST if config['interpolation'] == 'nearest' else _LANCZOS,
            'do_center_crop': True,
            'crop_size': crop,
            'do_rescale': True,
            'rescale_factor': 1 / 255,
            'do_normalize': True,
            'image_mean': config['mean'],
            'image_std': config['std'],
        },
    }
    for file, content in texts.items():
        (folder / file).write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
    for is_so, what in (
        (channels == 1, 'takes images that are grey already'),
        (crop_mode == 'border', 'squashes an image where timm pads it'),
        (crop_mode == 'center' and height != width, 'crops another part of an image than timm'),
    ):
        if is_so:
            console.print(f'onnx     transformers.js {what}')
