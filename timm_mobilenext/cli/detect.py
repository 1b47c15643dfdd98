""" The `detect` commands, each importing its tool when it runs"""
import dataclasses
import inspect
import sys
from pathlib import Path
from typing import Annotated, Any, get_type_hints, List, Optional

import typer
import yaml

from ..detection.settings import TrainSettings
from .errors import plain_errors

__all__ = ['app', 'main']

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


def _read_recipe(context: typer.Context, file: Optional[Path]) -> Optional[Path]:
    """ Take the settings of a recipe as defaults."""
    if file is not None:
        with plain_errors():
            try:
                recipe = yaml.safe_load(file.read_text(encoding='utf-8'))
            except (yaml.YAMLError, UnicodeDecodeError) as e:
                raise ValueError(f'{file} is no YAML: {" ".join(str(e).split())}') from None
            if not isinstance(recipe, dict):
                raise ValueError(f'{file} holds no settings: give lines such as "lr: 0.01".')
            known = {setting.name for setting in dataclasses.fields(TrainSettings)}
            for key in recipe:
                if key not in known:
                    raise ValueError(f'{file} has a setting {key!r}, which detect train does not know.')
            context.default_map = {**(context.default_map or {}), **recipe}
    return file


def _train(**settings: Any) -> None:
    """Train a detector."""
    with plain_errors():
        from ..detection.train import run_train

        settings.pop('config')
        run_train(TrainSettings(**settings))


# the settings are the options
_hints = get_type_hints(TrainSettings, include_extras=True)
_hints['config'] = Annotated[Optional[Path], typer.Option(
    '--config', exists=True, dir_okay=False, is_eager=True, callback=_read_recipe,
    help='Recipe, YAML of these settings; what is given beside it goes before.')]
_keyword = inspect.Parameter.KEYWORD_ONLY
_train.__signature__ = inspect.Signature([  # type: ignore[attr-defined]
    inspect.Parameter('config', _keyword, default=None, annotation=_hints['config']),
    *(
        inspect.Parameter(
            setting.name, _keyword, annotation=_hints[setting.name],
            default=inspect.Parameter.empty if setting.default is dataclasses.MISSING else setting.default)
        for setting in dataclasses.fields(TrainSettings)
    ),
])
_train.__annotations__ = _hints
app.command('train')(_train)


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
    with plain_errors():
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
    with plain_errors():
        from ..detection.predict import run_predict

        run_predict(images, detector, output, score_thresh=score_thresh, device=device)


@app.command('export')
def _export(
        detector: _Detector,
        output: Annotated[Path, typer.Option('--output', '-o', help='ONNX file to write.')],
) -> None:
    """Export a detector to ONNX, for one image of a fixed size, NMS included."""
    with plain_errors():
        from ..detection.export import run_export

        run_export(detector, output)


def main(command: str) -> None:
    """ Run one of the commands with the arguments of the process."""
    app([command, *sys.argv[1:]], prog_name=f'python -m timm_mobilenext.detection.{command}')
