""" Training a detector: one process, or several by torchrun

    timm-mobilenext detect train --data-dir BCCD --train-split trainval --val-split test --output out
    torchrun --nproc-per-node 8 -m timm_mobilenext.detection.train --config hub_configs/.../coco.yaml ...

Random numbers are drawn anew from seed and epoch at the start of each epoch, so that a resumed training is the one that
was not interrupted. What is resumed is one file, written whole or not at all.
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

from ..checkpoints.convert import read_checkpoint
from ..classify.plots import draw_curves
from ..shared.console import create_console
from ..shared.errors import UserError
from ..shared.files import replacing
from .data import BCCD, collate, create_transform, DetectionDataset, load_split
from .evaluate import coco_figures, detect, Detections
from .predict import check_device
from .settings import TrainSettings
from .ssdlite import create_ssdlite, SSDLite

__all__ = ['run_train']

STATE = 'training.pth'
# what may differ when a training is resumed
_FREE = ('output', 'resume', 'device', 'workers', 'data_dir', 'initial_checkpoint', 'channels_last')


def run_train(settings: TrainSettings) -> None:
    """ Train a detector, and leave the `best` and the `last` as folders, metrics.csv, curves.png and args.yaml.

    Raises:
        UserError: If a setting is impossible, the data can't be used, or the output folder is another training's.
        UserError: If weights can't be had, or if the loss is no number any more.
    """
    if settings.amp_dtype not in ('bfloat16', 'float16'):
        raise UserError(f'amp_dtype {settings.amp_dtype!r} is neither bfloat16 nor float16.')
    if settings.sched == 'plateau':
        raise UserError('The schedule plateau goes by what is measured, and this training steps at every update: take'
                         ' another, cosine for instance.')
    check_device(settings.device)
    if settings.sync_bn and not settings.device.startswith('cuda'):
        raise UserError(f'sync_bn needs GPUs, and the device is {settings.device}: leave it out.')
    place = Namespace(device=settings.device)
    device = init_distributed_device(place)
    try:
        _Training(settings, device, place.rank, place.world_size).run()
    finally:
        if place.distributed:
            torch.distributed.destroy_process_group()


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
            self.console.print(f'           {tiny:,} boxes to train on are less than a pixel at {settings.img_size} px,'
                               ' and are left out')
        if not any(sample.boxes for sample in train.samples):
            raise UserError(f'{train.name} has no boxes at all: there is nothing to learn.')
        total = settings.batch_size * self.world_size
        if len(train.samples) < total:
            raise UserError(f'{train.name} has {len(train.samples)} images, fewer than a batch of {total}: give a'
                             ' smaller --batch-size.')

        random_seed(settings.seed, 0)  # the same weights in all processes
        self.model = create_ssdlite(
            settings.backbone, len(train.class_names), settings.preset, settings.img_size,
            pretrained=settings.pretrained and state is None,
            checkpoint_path=settings.initial_checkpoint if state is None else None,
            class_names=train.class_names,
        ).to(self.device)
        if settings.sync_bn:
            self.model = convert_sync_batchnorm(self.model)
        if settings.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        counts = self.model.count()
        self.console.print(f'detector   SSDLite on {settings.backbone}, {len(train.class_names)} classes:'
                           f' {counts["params"]:,.0f} parameters, {counts["macs"] / 1e6:,.1f}M MACs')
        self.ema = ModelEmaV3(
            self.model, decay=settings.model_ema_decay, use_warmup=settings.model_ema_warmup,
        ) if settings.model_ema else None
        # the last is the one that is measured and kept
        self.models = [self.model] if self.ema is None else [self.model, self.ema.module]

        mean, size = self.model.transform.image_mean, settings.img_size
        cache_size = size if settings.cache else None
        dataset = DetectionDataset(train, create_transform(size, mean, True, settings.no_aug), cache_size)
        self.sampler: DistributedSampler = DistributedSampler(
            dataset, self.world_size, self.rank, seed=settings.seed, drop_last=True)
        self.loader = DataLoader(
            dataset, settings.batch_size, sampler=self.sampler, num_workers=settings.workers, collate_fn=collate,
            drop_last=True, pin_memory=self.device.type == 'cuda')
        self.train_split, self.val_split = train, val
        self.val_dataset = DetectionDataset(val, create_transform(size, mean), cache_size)

        self.optimizer = create_optimizer_v2(
            self.model, opt=settings.opt, lr=settings.lr, weight_decay=settings.weight_decay,
            momentum=settings.momentum)
        self.scheduler: Any = create_scheduler_v2(
            self.optimizer, sched=settings.sched, num_epochs=settings.epochs,
            decay_epochs=settings.decay_epochs, decay_milestones=settings.decay_milestones or [],
            decay_rate=settings.decay_rate, min_lr=settings.min_lr,
            warmup_lr=settings.warmup_lr, warmup_epochs=settings.warmup_epochs, step_on_epochs=False,
            updates_per_epoch=len(self.loader))[0]
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

    def run(self) -> None:
        """ Train epoch by epoch, from wherever the training is."""
        settings = self.settings
        start = len(self.rows)
        if start >= settings.epochs:
            self.console.print(f'{settings.output} is complete: {start} epochs.')
            return
        if self.is_first and not start:
            settings.output.mkdir(parents=True, exist_ok=True)
            with replacing(settings.output / 'args.yaml') as new:
                new.write_text(yaml.safe_dump(_plain(settings), sort_keys=False), encoding='utf-8')
        with Progress(
                TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TextColumn('{task.fields[said]}'),
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
        if self.world_size > 1:  # statistics of batch norm are each process's own until here
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
        # the first that was measured, where there is nothing to find
        is_best = bool(figures) and (_ap(row) > max(map(_ap, self.rows), default=-math.inf) or not self.has_best)
        self.has_best |= is_best
        self.rows.append(row)
        for model in self.models:
            if not all(value.isfinite().all() for value in model.state_dict().values()):
                raise UserError(f'The weights are no numbers any more after epoch {epoch + 1}, and are not kept:'
                                   ' lower the learning rate, or clip gradients (--clip-grad).')
        if self.is_first:
            try:
                self._save(is_best)
            except (OSError, RuntimeError, SafetensorError) as e:
                way_out = ', with --resume' if self.file.exists() else ''
                raise UserError(f'{settings.output} can not be written after epoch {epoch + 1} ({e}): once it can,'
                                   f' repeat the command{way_out}.') from e
        parts = f'boxes {row["bbox_regression"]:.3f}, classes {row["classification"]:.3f}'
        ap = f'  AP {100 * row["AP"]:6.2f} %  AP50 {100 * row["AP50"]:6.2f} %' if figures else ''
        self.console.print(f'epoch {row["epoch"]:4}  loss {row["loss"]:.3f} ({parts}){ap}  {row["seconds"]:.0f} s')

    def _train_epoch(self, epoch: int, progress: Progress) -> Dict[str, float]:
        """ Mean losses of an epoch."""
        settings = self.settings
        self.wrapped.train()
        sums: Dict[str, float] = {}
        num_updates = epoch * len(self.loader)
        measured = [row['AP'] for row in self.rows if math.isfinite(row['AP'])]
        last = f'AP {100 * measured[-1]:.2f} %' if measured else ''
        task = progress.add_task(f'epoch {epoch + 1}', total=len(self.loader), said=last)
        for step, (images, targets) in enumerate(self.loader):
            images = [image.to(self.device, non_blocking=True) for image in images]
            truth = [{key: target[key].to(self.device) for key in ('boxes', 'labels')} for target in targets]
            with torch.autocast(self.device.type, self.amp_dtype, enabled=settings.amp):
                losses = self.wrapped(images, truth)
            loss = losses['bbox_regression'] + losses['classification']
            values = dict(loss=loss.item(), **{name: value.item() for name, value in losses.items()})
            if not math.isfinite(values['loss']):
                files = ', '.join(self.train_split.samples[target['index']].file.name for target in targets)
                raise UserError(f'The loss is {values["loss"]} in epoch {epoch + 1}, step {step + 1}, with {files}:'
                                   ' lower the learning rate, or clip gradients (--clip-grad).')
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
            progress.update(task, advance=1, said=f'loss {values["loss"]:.3f} ({parts})  {last}')
        progress.remove_task(task)
        means = torch.tensor([total / len(self.loader) for total in sums.values()], dtype=torch.float64)
        if self.world_size > 1:
            means = means.to(self.device)
            torch.distributed.all_reduce(means)
            means /= self.world_size
        return dict(zip(sums, means.tolist(), strict=True))

    def _validate(self) -> Tuple[Dict[str, float], Dict[str, float]]:
        """ COCO's figures, every process finding boxes in its share of the images."""
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
        """ State of a training to go on with, None at a new one."""
        settings = self.settings
        if not settings.resume:
            if self.file.exists():
                raise UserError(f'{settings.output} has a training: give --resume to go on with it, or another'
                                 ' --output.')
            for name in ('best', 'last', 'metrics.csv'):
                if (settings.output / name).exists():
                    raise UserError(f'{settings.output} has a {name}, which would be replaced: give another --output.')
            return None
        if not self.file.exists():
            raise UserError(f'{settings.output} has no training to resume, no {STATE}: leave out --resume.')
        state = read_checkpoint(self.file)
        now, then = _plain(settings), state.get('settings', {})
        for key, value in now.items():
            if key not in _FREE and value != then.get(key):
                raise UserError(f'{settings.output} was trained with {key} {then.get(key)}, not {value}: resume it'
                                 ' with the settings that it has, in args.yaml.')
        if state.get('world_size') != self.world_size:
            raise UserError(f'{settings.output} was trained by {state.get("world_size")} processes, not'
                             f' {self.world_size}: resume it with as many.')
        return state

    def _restore(self, state: Dict[str, Any]) -> None:
        if state['class_names'] != self.model.class_names:
            raise UserError(f'{self.settings.output} was trained on other classes:'
                             f' {", ".join(state["class_names"])}.')
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
        """ Save the state, and what people look at."""
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
        # last, since it is what is gone on from
        with replacing(self.file) as new:
            torch.save(state, new)


def _ap(row: Dict[str, Any]) -> float:
    return row['AP'] if math.isfinite(row['AP']) else -1.


def _plain(settings: TrainSettings) -> Dict[str, Any]:
    """ Settings as YAML and torch can keep them."""
    values = dataclasses.asdict(settings)
    return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
