""" The `detect` commands, each importing its tool when it runs"""
from pathlib import Path
from typing import Annotated, List, Optional

import typer

from ..detection.settings import TrainSettings
from .options import settings_command

__all__ = ['app']

app = typer.Typer(
    name='detect',
    help='SSDLite on any backbone of timm: train, measure, find boxes, export.',
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=dict(help_option_names=['-h', '--help']),
)
_Detector = Annotated[str, typer.Argument(
    metavar='DETECTOR', help='Folder of a detector, such as best/ of a training, or hf-hub: and a repository.')]
_Device = Annotated[str, typer.Option(help='Device of torch.')]


@settings_command(app, 'train', recipe=True)
def _train(settings: TrainSettings) -> None:
    """Train a detector."""
    from ..detection.train import run_train

    run_train(settings)


@app.command('eval')
def _eval(
        detector: Annotated[Optional[str], typer.Argument(
            metavar='DETECTOR', help='Folder of a detector, or hf-hub: and a repository.')] = None,
        data_dir: Annotated[Optional[Path], typer.Option(help='Folder of the data set.')] = None,
        split: Annotated[str, typer.Option(help='JSON file of COCO format, or lists of VOC.')] = 'val',
        detections: Annotated[
            Optional[Path], typer.Option(help="Stored detections, in COCO's format, in place of a detector.")] = None,
        output: Annotated[Optional[Path], typer.Option('--output', '-o', help='JSON to write detections to.')] = None,
        batch_size: Annotated[int, typer.Option('--batch-size', '-b', min=1, help='Batch size.')] = 16,
        workers: Annotated[int, typer.Option('--workers', '-j', min=0, help='Processes that read images.')] = 0,
        device: _Device = 'cpu',
        use_07_metric: Annotated[
            bool, typer.Option('--use-07-metric', help='AP of VOC at eleven recalls, as for VOC2007.')] = False,
) -> None:
    """Measure a detector: COCO's twelve figures, and Pascal VOC's AP50 of each class."""
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


@app.command('predict')
def _predict(
        detector: _Detector,
        images: Annotated[List[Path], typer.Argument(metavar='IMAGE...', help='Photographs.')],
        output: Annotated[Path, typer.Option('--output', '-o', help='Folder to write to.')],
        score_thresh: Annotated[float, typer.Option(min=0, max=1, help='Least score of a box that is shown.')] = 0.5,
        device: _Device = 'cpu',
) -> None:
    """Draw boxes around what is in photographs."""
    from ..detection.predict import run_predict

    run_predict(images, detector, output, score_thresh=score_thresh, device=device)


@app.command('export')
def _export(
        detector: _Detector,
        output: Annotated[Path, typer.Option('--output', '-o', help='ONNX file to write.')],
) -> None:
    """Export a detector to ONNX, for one image of a fixed size, NMS included."""
    from ..detection.export import run_export

    run_export(detector, output)
