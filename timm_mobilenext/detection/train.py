""" Training a detector, in one process or in several that torchrun starts

    timm-mobilenext detect train --data-dir BCCD --train-split trainval --val-split test -o out
    torchrun --nproc-per-node 8 -m timm_mobilenext detect train --config hub_configs/.../coco.yaml ...

Each epoch draws its random numbers anew, from the seed and the number of the epoch. So a training that was resumed is
equal to one that was not interrupted. Its state is one file, which is written as a whole or not at all.
"""
import csv
import dataclasses
import math
import time
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch
import torch.distributed
import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, Subset

from timm.layers import convert_sync_batchnorm
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import dispatch_clip_grad, distribute_bn, init_distributed_device, ModelEmaV3, random_seed
from timm.utils.distributed import is_distributed_env, world_info_from_env

from ..checkpoints.read import read_checkpoint
from ..shared.console import create_console
from ..shared.device import check_device
from ..shared.errors import first_line, shown, UserError
from ..shared.extras import need
from ..shared.files import replacing
from ..shared.names import check_model
from .data import BCCD, collate, create_transform, DetectionDataset, DetectionSplit, load_split
from .evaluate import coco_figures, detect, Detections
from .settings import TrainSettings
from .ssdlite import create_ssdlite, find_preset, SSDLite

__all__ = ['run_train']

STATE = 'training.pth'
# there until the first epoch is kept: what a training left that ended before may be replaced
UNFINISHED = '.unfinished'
# settings that may change when a training is resumed
_FREE = ('output', 'resume', 'device', 'workers', 'data_dir', 'initial_checkpoint', 'channels_last')


def run_train(settings: TrainSettings) -> None:
    """ Train a detector.

    The output folder gets the detectors `best` and `last`, metrics.csv, curves.png, args.yaml, and training.pth to
    resume from.

    Raises:
        UserError: If a setting is impossible, if the data cannot be used, if the output folder has another training, if
            weights cannot be loaded, or if the loss is not a finite number.
    """
    check_settings(settings)
    place = Namespace(device=settings.device)
    device = init_distributed_device(place)
    try:
        _Training(settings, device, place.rank, place.world_size).run()
    finally:
        if place.distributed:
            torch.distributed.destroy_process_group()


def check_settings(settings: TrainSettings) -> None:
    """ Raise a UserError if settings are impossible, whatever the data."""
    if settings.amp_dtype not in ('bfloat16', 'float16'):
        raise UserError(f'amp_dtype {shown(settings.amp_dtype)!r} is neither bfloat16 nor float16.')
    if settings.sched == 'plateau':
        raise UserError('The schedule plateau depends on measurements, and this training changes the rate at every'
                        ' step: give another schedule, such as cosine.')
    check_model(settings.backbone)
    find_preset(settings.preset)
    kind = settings.device.partition(':')[0]
    # of several processes each opens its own alone, the one that timm takes
    check_device(f'{kind}:{world_info_from_env()[0]}' if kind != 'cpu' and is_distributed_env() else settings.device)
    if settings.sync_bn and not settings.device.startswith('cuda'):
        raise UserError(f'sync_bn needs GPUs, and the device is {settings.device}: leave it out.')


class _Training:
    """ One training, in one of its processes."""

    def __init__(self, settings: TrainSettings, device: torch.device, rank: int, world_size: int):
        self.settings = settings
        self.device, self.rank, self.world_size = device, rank, world_size
        self.is_first = self.rank == 0
        self.console = create_console(quiet=not self.is_first)
        self.file = settings.output / STATE
        self.rows: List[Dict[str, Any]] = []
        self.has_best = False
        state = self._read_state()
        self.train_split, self.val_split = self._load_splits()
        need('matplotlib', 'pycocotools', extra='detection')

        random_seed(settings.seed, 0)  # the same weights in all processes
        self.model = self._create_model(is_new=state is None)
        self.ema = ModelEmaV3(
            self.model, decay=settings.model_ema_decay, use_warmup=settings.model_ema_warmup,
        ) if settings.model_ema else None
        # the last one is measured and kept
        self.models = [self.model] if self.ema is None else [self.model, self.ema.module]

        mean, size = self.model.transform.image_mean, settings.img_size
        cache_size = size if settings.cache else None
        dataset = DetectionDataset(self.train_split, create_transform(size, mean, True, settings.no_aug), cache_size)
        self.sampler: DistributedSampler = DistributedSampler(
            dataset, self.world_size, self.rank, seed=settings.seed, drop_last=True)
        self.loader = DataLoader(
            dataset, settings.batch_size, sampler=self.sampler, num_workers=settings.workers, collate_fn=collate,
            drop_last=True, pin_memory=self.device.type == 'cuda')
        self.val_dataset = DetectionDataset(self.val_split, create_transform(size, mean), cache_size)

        self.optimizer, self.scheduler = self._create_optimizer()
        self.amp_dtype = getattr(torch, settings.amp_dtype)
        # does nothing unless enabled
        self.scaler = torch.amp.GradScaler(  # type: ignore[attr-defined]
            self.device.type, enabled=settings.amp and settings.amp_dtype == 'float16')
        self.wrapped: Any = self.model
        if world_size > 1:
            device_ids = [self.device.index] if self.device.type == 'cuda' else None
            self.wrapped = DistributedDataParallel(self.model, device_ids=device_ids)
        if state is not None:
            self._restore(state)

    def _load_splits(self) -> Tuple[DetectionSplit, DetectionSplit]:
        """ Load, check and describe the data."""
        settings = self.settings
        data_dir = settings.data_dir or BCCD
        train = load_split(data_dir, settings.train_split)
        val = load_split(data_dir, settings.val_split, train.class_names)
        for split in (train, val):
            self.console.print(f'data       {split.name}: {len(split.samples):,} images,'
                               f' {sum(len(sample.boxes) for sample in split.samples):,} boxes')
            for note in split.notes:
                self.console.print(f'           {note}')
        tiny = train.count_tiny(settings.img_size)
        if tiny:
            self.console.print(f'           {tiny:,} boxes to train on are smaller than a pixel at'
                               f' {settings.img_size} px, and are left out')
        if not any(sample.boxes for sample in train.samples):
            raise UserError(f'{train.name} has no boxes at all: there is nothing to learn.')
        total = settings.batch_size * self.world_size
        if len(train.samples) < total:
            least = 2 * self.world_size  # batch norm learns nothing from one image
            advice = f'at least {least} images' if len(train.samples) < least else 'a smaller --batch-size'
            raise UserError(f'{train.name} has too few images for a batch of {total}, {len(train.samples)}: give'
                            f' {advice}.')
        return train, val

    def _create_model(self, is_new: bool) -> SSDLite:
        """ Create and describe the detector. A resumed training has weights of its own."""
        settings, class_names = self.settings, self.train_split.class_names
        model: Any = create_ssdlite(
            settings.backbone, len(class_names), settings.preset, settings.img_size,
            pretrained=settings.pretrained and is_new,
            checkpoint_path=settings.initial_checkpoint if is_new else None,
            class_names=class_names,
        ).to(self.device)
        if settings.sync_bn:
            model = convert_sync_batchnorm(model)
        if settings.channels_last:
            model = model.to(memory_format=torch.channels_last)
        counts = model.count()
        self.console.print(f'detector   SSDLite on {settings.backbone}, {len(class_names)} classes:'
                           f' {counts["params"]:,.0f} parameters, {counts["macs"] / 1e6:,.1f}M MACs')
        return model

    def _create_optimizer(self) -> Tuple[Any, Any]:
        """ Create timm's optimizer and schedule; there is no schedule of the name `none`."""
        settings = self.settings
        if settings.sched == 'step' and settings.decay_epochs * len(self.loader) < 1:
            raise UserError(f'decay_epochs {settings.decay_epochs} is less than a training step: give more.')
        try:
            optimizer = create_optimizer_v2(
                self.model, opt=settings.opt, lr=settings.lr, weight_decay=settings.weight_decay,
                momentum=settings.momentum)
        except (AssertionError, ImportError, TypeError, ValueError) as e:
            raise UserError(
                f'timm cannot create the optimizer {shown(settings.opt)} with these settings: {first_line(e)}') from e
        scheduler, _ = create_scheduler_v2(
            optimizer, sched=settings.sched, num_epochs=settings.epochs,
            decay_epochs=settings.decay_epochs, decay_milestones=settings.decay_milestones or [],
            decay_rate=settings.decay_rate, min_lr=settings.min_lr,
            warmup_lr=settings.warmup_lr, warmup_epochs=settings.warmup_epochs, step_on_epochs=False,
            updates_per_epoch=len(self.loader))
        return optimizer, scheduler

    def run(self) -> None:
        """ Train all epochs that are left."""
        settings = self.settings
        start = len(self.rows)
        if start >= settings.epochs:
            self.console.print(f'{settings.output} is complete: {start} epochs.')
            return
        if self.is_first and not start:
            settings.output.mkdir(parents=True, exist_ok=True)
            (settings.output / UNFINISHED).touch()
            with replacing(settings.output / 'args.yaml') as new:
                new.write_text(yaml.safe_dump(_plain(settings), sort_keys=False), encoding='utf-8')
        with Progress(
                TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TextColumn('{task.fields[state]}'),
                TimeRemainingColumn(), console=self.console, transient=True, disable=not self.console.is_terminal,
        ) as progress:
            for epoch in range(start, settings.epochs):
                self._run_epoch(epoch, progress)
        best = max(self.rows, key=_ap)
        if math.isfinite(best['AP']):
            self.console.print(f'\nbest       AP {100 * best["AP"]:.2f} % after epoch {best["epoch"]}')
        self.console.print(f'written    {settings.output}: best/ and last/, metrics.csv, curves.png')

    def _run_epoch(self, epoch: int, progress: Progress) -> None:
        settings = self.settings
        started = time.monotonic()
        random_seed(settings.seed + 1000 * epoch, self.rank)
        self.sampler.set_epoch(epoch)
        losses = self._train_epoch(epoch, progress)
        if self.world_size > 1:  # until here, each process has its own statistics of batch norm
            for model in self.models:
                distribute_bn(model, self.world_size, reduce=True)
        row: Dict[str, Any] = dict(epoch=epoch + 1, lr=self.optimizer.param_groups[0]['lr'], **losses)
        is_last = epoch + 1 == settings.epochs
        figures: Dict[str, float] = {}
        classes: Dict[str, float] = {}
        if is_last or (epoch + 1) % settings.val_interval == 0:
            figures, classes = self._validate()
        row.update(
            AP=figures.get('AP', math.nan), AP50=figures.get('AP50', math.nan),
            **{f'AP {name}': classes.get(name, math.nan) for name in self.train_split.class_names},
            seconds=round(time.monotonic() - started, 1),
        )
        # if nothing can be found, the first one that was measured
        is_best = bool(figures) and (_ap(row) > max(map(_ap, self.rows), default=-math.inf) or not self.has_best)
        self.has_best |= is_best
        self.rows.append(row)
        for model in self.models:
            if not all(value.isfinite().all() for value in model.state_dict().values()):
                raise UserError(f'Some weights are not finite after epoch {epoch + 1}, and are not kept: lower the'
                                ' learning rate, or clip gradients (--clip-grad).')
        if self.is_first:
            try:
                self._save(is_best)
            except (OSError, SafetensorError) as e:
                way_out = ', with --resume' if self.file.exists() else ''
                raise UserError(f'{settings.output} cannot be written after epoch {epoch + 1} ({first_line(e)}): mend'
                                f' this, then repeat the command{way_out}.') from e
        parts = f'boxes {row["bbox_regression"]:.3f}, classes {row["classification"]:.3f}'
        ap = f'  AP {100 * row["AP"]:6.2f} %  AP50 {100 * row["AP50"]:6.2f} %' if figures else ''
        self.console.print(f'epoch {row["epoch"]:4}  loss {row["loss"]:.3f} ({parts}){ap}  {row["seconds"]:.0f} s')

    def _train_epoch(self, epoch: int, progress: Progress) -> Dict[str, float]:
        """ Train an epoch, and return the mean of each loss."""
        settings = self.settings
        self.wrapped.train()
        sums: Dict[str, float] = {}
        num_updates = epoch * len(self.loader)
        measured = [row['AP'] for row in self.rows if math.isfinite(row['AP'])]
        last = f'AP {100 * measured[-1]:.2f} %' if measured else ''
        task = progress.add_task(f'epoch {epoch + 1}', total=len(self.loader), state=last)
        for step, (images, targets) in enumerate(self.loader):
            images = [image.to(self.device, non_blocking=True) for image in images]
            truth = [{key: target[key].to(self.device) for key in ('boxes', 'labels')} for target in targets]
            with torch.autocast(self.device.type, self.amp_dtype, enabled=settings.amp):
                losses = self.wrapped(images, truth)
            loss = losses['bbox_regression'] + losses['classification']
            values = dict(loss=loss.item(), **{name: value.item() for name, value in losses.items()})
            if not math.isfinite(values['loss']):
                files = ', '.join(self.train_split.samples[target['index']].file.name for target in targets)
                raise UserError(f'The loss is {values["loss"]} in epoch {epoch + 1}, step {step + 1}, with'
                                f' {shown(files)}: lower the learning rate, or clip gradients (--clip-grad).')
            self.optimizer.zero_grad()
            self.scaler.scale(loss).backward()
            if settings.clip_grad is not None:
                self.scaler.unscale_(self.optimizer)
                dispatch_clip_grad(self.model.parameters(), settings.clip_grad)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            num_updates += 1
            if self.ema is not None:
                self.ema.update(self.model, step=num_updates)
            if self.scheduler is not None:
                self.scheduler.step_update(num_updates)
            for name, value in values.items():
                sums[name] = sums.get(name, 0.) + value
            parts = f'boxes {values["bbox_regression"]:.3f}, classes {values["classification"]:.3f}'
            progress.update(task, advance=1, state=f'loss {values["loss"]:.3f} ({parts})  {last}')
        progress.remove_task(task)
        means = torch.tensor([total / len(self.loader) for total in sums.values()], dtype=torch.float64)
        if self.world_size > 1:
            means = means.to(self.device)
            torch.distributed.all_reduce(means)
            means /= self.world_size
        return dict(zip(sums, means.tolist(), strict=True))

    def _validate(self) -> Tuple[Dict[str, float], Dict[str, float]]:
        """ COCO's figures. Every process finds the boxes in its share of the images."""
        model = self.models[-1]
        share = Subset(self.val_dataset, range(self.rank, len(self.val_dataset), self.world_size))
        detections: Detections = detect(
            model, share, self.val_split, self.settings.batch_size, self.settings.workers, self.device)
        if self.world_size > 1:
            shares: List[Any] = [None] * self.world_size
            torch.distributed.all_gather_object(shares, detections)
            detections = [detection for found in shares for detection in found]
        return coco_figures(self.val_split, detections)

    def _read_state(self) -> Optional[Dict[str, Any]]:
        """ State of the training to resume, None for a new one.

        Raises:
            UserError: If the output folder has something else than these settings expect.
        """
        settings = self.settings
        if not settings.resume:
            if self.file.exists():
                raise UserError(f'{settings.output} has a training: give --resume to continue it, or another'
                                ' --output.')
            for name in ('best', 'last', 'metrics.csv', 'curves.png', 'args.yaml'):
                if (settings.output / name).exists() and not (settings.output / UNFINISHED).exists():
                    raise UserError(f'{settings.output / name} would be replaced: give another --output.')
            return None
        if not self.file.exists():
            raise UserError(f'{settings.output} has no training to resume ({STATE}): leave out --resume.')
        state = read_checkpoint(self.file)
        now, then = _plain(settings), state.get('settings', {})
        for key, value in now.items():
            if key not in _FREE and value != then.get(key):
                raise UserError(f'{settings.output} was trained with {key} {shown(then.get(key))}, not {shown(value)}:'
                                ' resume it with its own settings, which are in args.yaml.')
        if state.get('world_size') != self.world_size:
            raise UserError(f'{settings.output} was trained by {state.get("world_size")} processes, not'
                            f' {self.world_size}: resume it with as many.')
        return state

    def _restore(self, state: Dict[str, Any]) -> None:
        if state['class_names'] != self.model.class_names:
            names = shown(', '.join(state['class_names']))
            raise UserError(f'{self.settings.output} was trained on other classes, {names}: give the same data.')
        self.model.load_state_dict(state['state_dict'])
        if self.ema is not None:
            self.ema.module.load_state_dict(state['state_dict_ema'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.scaler.load_state_dict(state['scaler'])
        self.rows = state['rows']
        if self.scheduler is not None:
            self.scheduler.step_update(len(self.rows) * len(self.loader))
        self.has_best = any(math.isfinite(row['AP']) for row in self.rows)

    def _save(self, is_best: bool) -> None:
        """ Save the detectors, the log, its picture, and the state to resume from."""
        from .plots import draw_curves  # needs matplotlib

        output = self.settings.output
        model: SSDLite = self.models[-1]
        for name in ('last', 'best') if is_best else ('last',):
            with replacing(output / name) as folder:
                model.save_pretrained(folder)
        with replacing(output / 'metrics.csv') as new:
            with open(new, 'w', newline='', encoding='utf-8') as lines:
                writer = csv.DictWriter(lines, list(self.rows[0]))
                writer.writeheader()
                writer.writerows(self.rows)
        with replacing(output / 'curves.png') as new:
            draw_curves(new, f'SSDLite on {self.settings.backbone}', self.rows)
        state = dict(
            settings=_plain(self.settings), world_size=self.world_size, class_names=self.model.class_names,
            rows=self.rows, state_dict=self.model.state_dict(), optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict())
        if self.ema is not None:
            state['state_dict_ema'] = self.ema.module.state_dict()
        # last, for a resumed training starts from it
        with replacing(self.file) as new:
            try:
                torch.save(state, new)
            except RuntimeError as e:  # torch's error of a full disk
                raise OSError(first_line(e)) from e
        (output / UNFINISHED).unlink(missing_ok=True)


def _ap(row: Dict[str, Any]) -> float:
    return row['AP'] if math.isfinite(row['AP']) else -1.


def _plain(settings: TrainSettings) -> Dict[str, Any]:
    """ Settings in a form that YAML and torch can store."""
    values = dataclasses.asdict(settings)
    return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
