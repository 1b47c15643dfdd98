""" The main job in a few minutes: train with timm's parts, save for the Hub, load with timm alone, look at it

Reads from top to bottom: `run_demo` is the whole of it. Nothing here knows MobileNeXt: any model of timm will do. At
the end, the network whose weights come with the package names what is in photographs.
"""
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress

import timm
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import accuracy, ModelEmaV3, random_seed

from ..hub.cards import LOCAL_NAME, make_weights_card
from ..hub.folders import check_hub_folder, save_hub_folder
from ..shared.console import create_console
from ..shared.device import check_device
from ..shared.errors import first_line, UserError
from ..shared.files import replacing, tidy
from .arguments import check_demo, MARKER
from .image_folder import check_image_folder
from .load import load_model
from .plots import draw_demo, draw_predictions, History
from .predict import name_images, print_table
from .settings import DemoSettings

__all__ = ['run_demo']

DIGITS, MODEL, PICTURE = 'digits', 'model', 'demo.png'
SHIPPED, NAMED = 'mobilenext_050.cifar10', 'photographs.png'
# what is true of each photograph, by photographs/README.md
PHOTOGRAPHS = dict(
    cat='cat', dog='dog', duck='bird', horses='horse', kitten='cat', macaw='bird', moose='deer', owl='bird')

# for a new Python process, which knows timm and the folder and nothing else
RELOAD = """
import sys, timm, torch
from timm.data import create_dataset, create_loader, resolve_data_config

folder, data_dir, batch_size, logits_file = sys.argv[1:]
model = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
dataset = create_dataset('', data_dir, split='validation')
loader_args = dict(use_prefetcher=False, num_workers=0, persistent_workers=False)
loader = create_loader(dataset, batch_size=int(batch_size), **resolve_data_config(model=model), **loader_args)
with torch.inference_mode():
    torch.save(torch.cat([model(images) for images, _ in loader]), logits_file)
"""

ABOUT = """Trained from scratch by `timm-mobilenext demo` with timm {timm_version}, at {img_size} x {img_size} pixels.
These are the averaged (EMA) weights: top-1 {top1:.2f} % on the validation images. Classes: {classes}."""


def run_demo(settings: DemoSettings) -> None:
    """ Train a model on an image folder, save it, load it back, draw how it went, and print what matters.

    Raises:
        UserError: If a setting or the data cannot be used, or if the training diverges.
    """
    started = time.perf_counter()
    console = create_console()
    check_device(settings.device)
    random_seed(settings.seed)
    # two threads gain a tenth on a network this small, and lose minutes when another process wants a core
    if 'OMP_NUM_THREADS' not in os.environ:
        torch.set_num_threads(1)

    # Data
    digits = settings.data_dir is None
    output = settings.output
    data_dir = prepare_data(settings.data_dir, output, console)
    train_dataset = create_dataset('', str(data_dir), split='train', is_training=True)
    validation_dataset = create_dataset('', str(data_dir), split='validation')
    class_names = list(train_dataset.reader.class_to_idx)
    console.print(
        f'data   {data_dir}: {len(class_names)} classes,'
        f' {len(train_dataset)} images to train, {len(validation_dataset)} to validate')

    # Model
    model = build_model(settings.model, len(class_names), settings.img_size)
    param_count = sum(p.numel() for p in model.parameters())
    console.print(f'model  {settings.model}: {param_count / 1e6:.2f} M parameters at {settings.img_size} px')

    # Training, saving, loading in a new process, drawing
    hflip = 0. if digits else 0.5  # a mirrored digit is another sign
    loaders = create_loaders(
        train_dataset, validation_dataset, model, settings.batch_size, hflip, settings.workers)
    model, history = train(model, *loaders, settings.epochs, console, settings.device)
    logits, targets = predict(model, loaders[1])
    raw, ema = history[-1]['raw'], history[-1]['EMA']
    with replacing(output / MODEL) as folder:
        save_model(folder, model, settings.model, class_names, ema, digits)
        difference = reload_difference(folder, data_dir, settings.batch_size, logits)
    with replacing(output / PICTURE) as file:
        title = (
            f'{settings.model}   {param_count / 1e6:.2f} M parameters, {settings.img_size} px,'
            f' {settings.epochs} epochs, seed {settings.seed}')
        files = [file for file, _ in validation_dataset.reader.samples]
        draw_demo(file, title, history, files, logits.softmax(1), targets, class_names)

    seconds = time.perf_counter() - started
    console.print(f"""
model       {settings.model}, {param_count:,} parameters, {settings.img_size} px
top-1       raw {raw:.2f} %, EMA {ema:.2f} % of {len(targets)} images
time        {seconds // 60:.0f} min {seconds % 60:.0f} s
Hub folder  {output / MODEL} (the EMA weights)
reloaded    by timm alone in a new process, largest difference of the logits {difference:.1g}
picture     {output / PICTURE}

import timm; model = timm.create_model({f'local-dir:{(output / MODEL).resolve()}'!r}, pretrained=True).eval()
""")
    name_photographs(output, console)


def prepare_data(data_dir: Optional[Path], output: Path, console: Console) -> Path:
    """ Check the image folder, or write the digits; claim the output folder in between."""
    check_demo(data_dir, output)
    if data_dir is not None:
        check_image_folder(data_dir, console)
    claim_output(output)
    if data_dir is None:
        data_dir = output / DIGITS
        write_digits(data_dir)
    return data_dir


def build_model(model_name: str, num_classes: int, img_size: int) -> torch.nn.Module:
    """ Create a model whose pretrained_cfg says how it is used here, for config.json is made of it.

    Raises:
        UserError: If the model cannot be created, or does not work at this image size.
    """
    cfg: Dict[str, Any] = dict(num_classes=num_classes, input_size=(3, img_size, img_size), crop_pct=1.0)
    # what timm knows of other weights than these
    cfg.update(dict.fromkeys((
        'tag', 'test_input_size', 'test_crop_pct', 'pool_size', 'test_pool_size', 'label_offset', 'label_names',
        'label_descriptions', 'license', 'description', 'origin_url', 'notes',
    )))
    try:
        model = timm.create_model(model_name, pretrained_cfg_overlay=cfg)
        predict(model, [(torch.zeros(1, 3, img_size, img_size), torch.zeros(1))])
    except Exception as e:
        raise UserError(f'{model_name} does not work at --img-size {img_size}: {first_line(e)}') from e
    return model


def create_loaders(
        train_dataset: Any,
        validation_dataset: Any,
        model: Any,
        batch_size: int,
        hflip: float,
        workers: int = 0,
) -> Tuple[Any, Any]:
    """ Create loaders: one to train, with timm's augmentation, and one to validate."""
    data_config = resolve_data_config(model=model)
    loader_args: Dict[str, Any] = dict(use_prefetcher=False, num_workers=workers, persistent_workers=workers > 0)
    train_loader = create_loader(
        train_dataset,
        batch_size=min(batch_size, len(train_dataset)),
        is_training=True,
        train_crop_mode='rkrr',  # resizes, then crops: a random crop of 8 x 8 pixels has few places to go
        scale=(0.8, 1.25),
        hflip=hflip,
        auto_augment='rand-m5-n2-mstd0.5-tweights',  # mostly turns, shears and shifts
        **{k: data_config[k] for k in ('input_size', 'interpolation', 'mean', 'std')},
        **loader_args,
    )
    return train_loader, create_loader(validation_dataset, batch_size=batch_size, **data_config, **loader_args)


def train(
        model: Any,
        train_loader: Any,
        validation_loader: Any,
        epochs: int,
        console: Console,
        device: str = 'cpu',
) -> Tuple[Any, History]:
    """ Train a model.

    Returns:
        Moving average of the model, on the CPU, and the loss and top-1 of each epoch.

    Raises:
        UserError: If the loss is no longer finite.
    """
    model = model.to(device, memory_format=torch.channels_last)  # faster on a CPU
    updates = len(train_loader)
    optimizer = create_optimizer_v2(model, opt='adamw', lr=3e-3, weight_decay=0.05)
    scheduler: Any = create_scheduler_v2(
        optimizer,
        num_epochs=epochs,
        warmup_epochs=min(2, epochs // 2),
        step_on_epochs=False,
        updates_per_epoch=updates,
    )[0]
    model_ema = ModelEmaV3(model, decay=0.99, use_warmup=True)  # an average that starts short suits a short training

    history = []
    update = 0
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task('training', total=epochs * updates)
        for epoch in range(1, epochs + 1):
            started = time.perf_counter()
            total_loss = 0.
            model.train()
            for images, targets in train_loader:
                loss = torch.nn.functional.cross_entropy(model(images.to(device)), targets.to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                update += 1
                scheduler.step_update(update)
                model_ema.update(model, step=update)
                total_loss += loss.item()
                progress.advance(task)
            if not math.isfinite(total_loss):
                raise UserError(
                    f'The loss is no longer finite in epoch {epoch}: take another --model, --img-size or --seed.')

            raw, ema = (accuracy(*predict(m, validation_loader, device))[0].item() for m in (model, model_ema.module))
            history.append({'loss': total_loss / updates, 'raw': raw, 'EMA': ema})
            console.print(
                f'epoch {epoch:{len(str(epochs))}}/{epochs}  loss {total_loss / updates:.3f}'
                f'  top-1 raw {raw:6.2f} %  EMA {ema:6.2f} %  {time.perf_counter() - started:.1f} s')
    return model_ema.module.to('cpu', memory_format=torch.contiguous_format), history  # as safetensors needs it


@torch.inference_mode()
def predict(model: torch.nn.Module, loader: Any, device: str = 'cpu') -> Tuple[torch.Tensor, torch.Tensor]:
    """ Logits and targets of all images, in order, on the CPU."""
    model.eval()
    logits, targets = zip(*((model(images.to(device)).cpu(), targets) for images, targets in loader), strict=True)
    return torch.cat(logits), torch.cat(targets)


def save_model(folder: Path, model: Any, model_name: str, class_names: List[str], top1: float, digits: bool) -> None:
    """ Save a model as a Hub folder."""
    about = ABOUT.format(
        timm_version=timm.__version__,
        img_size=model.pretrained_cfg['input_size'][-1],
        top1=top1,
        classes=', '.join(class_names),
    )
    data, license = ("scikit-learn's handwritten digits", 'apache-2.0') if digits else ('an image folder', 'unknown')
    title = f'{model_name} on {data}'
    card = make_weights_card(LOCAL_NAME, model, about, license, title=title, label_names=class_names)
    save_hub_folder(folder, model, card, label_names=class_names)


def reload_difference(folder: Path, data_dir: Path, batch_size: int, logits: torch.Tensor) -> float:
    """ Load a Hub folder in a new process that imports timm alone, and compare its logits with these.

    Returns:
        Largest difference of the logits.

    Raises:
        RuntimeError: If the folder does not load or does not hold the model. Either would be a bug.
    """
    logits_file = folder / 'logits.pt'
    arguments = [str(folder.resolve()), str(data_dir.resolve()), str(batch_size), str(logits_file.resolve())]
    env = {**os.environ, 'OMP_NUM_THREADS': str(torch.get_num_threads())}  # rounding depends on it
    result = subprocess.run([sys.executable, '-c', RELOAD, *arguments], capture_output=True, text=True, env=env)
    if result.returncode:
        reason = (result.stderr.strip() or f'exit code {result.returncode}').splitlines()[-1]
        raise RuntimeError(f'timm alone, in a new process, cannot load the saved model: {reason}')
    reloaded = torch.load(logits_file, weights_only=True)
    logits_file.unlink()
    difference = (reloaded - logits).abs().max().item()
    if not difference <= 1e-5:
        raise RuntimeError(f'The saved model is not the trained one: reloaded, its logits differ by {difference:.2g}.')
    return difference


def write_digits(folder: Path) -> None:
    """ Write scikit-learn's digits as an image folder, every fifth scan of a class into validation.

    Raises:
        UserError: If scikit-learn is not installed.
    """
    if folder.exists():  # an earlier run has completed it
        return
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise UserError(
            "The digits come with scikit-learn: pip install 'timm-mobilenext[demo]', or give a --data-dir.") from None
    data = load_digits()
    seen = [0] * len(data.target_names)
    with replacing(folder) as new:
        for i, (scan, digit) in enumerate(zip(data.images, data.target, strict=True)):
            class_folder = new / ('train' if seen[digit] % 5 else 'validation') / str(digit)
            class_folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray((scan * (255 / 16)).round().astype('uint8')).save(class_folder / f'{i:04}.png')
            seen[digit] += 1


def claim_output(output: Path) -> None:
    """ Make the output folder, or take over that of an earlier run, without what a killed run left behind."""
    output.mkdir(parents=True, exist_ok=True)
    (output / MARKER).touch()
    for name in (DIGITS, PICTURE, NAMED):
        tidy(output / name)
    check_hub_folder(output / MODEL)


def name_photographs(output: Path, console: Console) -> None:
    """ Name the photographs of the package by the weights of the package, in a table and in a picture."""
    console.print(f'{SHIPPED}, whose weights come with this package, names photographs:\n')
    files = [Path(__file__).parents[1] / 'photographs' / f'{name}.jpg' for name in PHOTOGRAPHS]
    predictions, _ = name_images(load_model(SHIPPED), files, 3, console)
    print_table(predictions, console)
    with replacing(output / NAMED) as file:
        draw_predictions(file, SHIPPED, predictions, truths=list(PHOTOGRAPHS.values()))
    console.print(f'\npicture     {output / NAMED}')
