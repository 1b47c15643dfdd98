""" The `detect` commands: each checks the paths that it was given, then imports its tool"""
from pathlib import Path
from typing import Annotated, List, Optional

import typer

from ..detection.settings import TrainSettings
from ..shared.errors import UserError
from ..shared.paths import check_file, check_folder, check_output_folder
from .options import Device, PlainCommand, settings_command

__all__ = ['app']

app = typer.Typer(
    name='detect',
    help='Train and use SSDLite on any backbone of timm.',
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=dict(help_option_names=['-h', '--help']),
)
_DETECTOR = 'Folder of a detector, such as best/ of a training, or hf-hub:USER/NAME[@REVISION].'
_Detector = Annotated[str, typer.Argument(metavar='DETECTOR', help=_DETECTOR)]


def check_detector(name: str) -> None:
    """ Raise a UserError if this is neither a folder nor on the Hub."""
    if not name.startswith('hf-hub:'):
        check_folder(Path(name), 'the folder of a detector, or hf-hub: and a repository')


def check_data_dir(data_dir: Optional[Path]) -> None:
    """ Raise a UserError if there is no such data set."""
    if data_dir is not None:
        check_folder(data_dir, 'one of COCO or Pascal VOC format')


def check_export(output: Path, raw: bool) -> None:
    """ Raise a UserError if a detector cannot be written to this file."""
    if output.suffix not in (('.onnx', '.pt2') if raw else ('.onnx',)):
        raise UserError(f'{output} has the name of no export: give a name that ends in .onnx, or with --raw in .pt2.')
    if output.is_dir():
        raise UserError(f'{output} is a folder: give the name of a file.')
    check_folder(output.absolute().parent, 'a file in a folder that exists')


@settings_command(app, 'train', recipe=True)
def _train(settings: TrainSettings) -> None:
    """Train a detector."""
    check_data_dir(settings.data_dir)
    check_output_folder(settings.output)
    from ..detection.train import run_train

    run_train(settings)


@app.command('eval', cls=PlainCommand)
def _eval(
        detector: Annotated[Optional[str], typer.Argument(metavar='DETECTOR', help=_DETECTOR)] = None,
        data_dir: Annotated[Optional[Path], typer.Option(
            metavar='DIR', help='Folder of the data set; photographs of blood cells if not given.')] = None,
        split: Annotated[str, typer.Option(
            metavar='SPLIT', help='JSON file of COCO format, or lists of VOC.')] = 'val',
        detections: Annotated[Optional[Path], typer.Option(
            metavar='FILE', help="Stored detections to measure instead of a detector, in COCO's format.")] = None,
        output: Annotated[Optional[Path], typer.Option(
            '--output', '-o', metavar='FILE', help='JSON to write detections to.')] = None,
        batch_size: Annotated[int, typer.Option(
            '--batch-size', '-b', min=1, metavar='N', help='Batch size.')] = 16,
        workers: Annotated[int, typer.Option(
            '--workers', '-j', min=0, metavar='N', help='Processes that read images.')] = 0,
        device: Device = 'cpu',
        use_07_metric: Annotated[bool, typer.Option(
            '--use-07-metric', help='Measure the AP of VOC at eleven recalls, as for VOC2007.')] = False,
) -> None:
    """Measure a detector.

    Prints COCO's twelve figures, and Pascal VOC's AP50 of each class.
    """
    if detector is not None:
        check_detector(detector)
    if detections is not None:
        check_file(detections, 'a JSON file of detections')
    check_data_dir(data_dir)
    from ..detection.evaluate import run_eval

    run_eval(
        detector,
        data_dir,
        split,
        detections_file=detections,
        output=output,
        batch_size=batch_size,
        workers=workers,
        device=device,
        use_07_metric=use_07_metric,
    )


@app.command('predict', cls=PlainCommand)
def _predict(
        detector: _Detector,
        images: Annotated[List[Path], typer.Argument(metavar='IMAGE...', help='Photographs.')],
        output: Annotated[Path, typer.Option('--output', '-o', metavar='DIR', help='Folder to write to.')],
        score_thresh: Annotated[float, typer.Option(
            min=0, max=1, metavar='X', help='Least score of a box that is shown.')] = 0.5,
        device: Device = 'cpu',
) -> None:
    """Draw boxes around what is in photographs."""
    for image in images:
        check_file(image)
    check_output_folder(output)
    check_detector(detector)
    from ..detection.predict import run_predict

    run_predict(images, detector, output, score_thresh=score_thresh, device=device)


@app.command('export', cls=PlainCommand)
def _export(
        detector: _Detector,
        output: Annotated[Path, typer.Option(
            '--output', '-o', metavar='FILE', help='File to write: .onnx, or with --raw also .pt2, of torch.export.')],
        raw: Annotated[bool, typer.Option(
            '--raw', help='Leave NMS out, for phones: write all boxes and the scores of their classes.')] = False,
) -> None:
    """Export a detector to ONNX, or for phones to torch.export.

    The network takes one image of a fixed size. It includes NMS, unless you ask for --raw.
    """
    check_detector(detector)
    check_export(output, raw)
    from ..detection.export import run_export

    run_export(detector, output, raw)
