"""What timm's library trains by, over a network of ours: each with an effect that is seen. No script has all of it."""
import pytest
import torch
from helpers import colour_folder, randomize, timm_version, TINY
from torch import nn

import timm
from timm.data import create_dataset, create_loader
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2

from timm_mobilenext import create_mobilenext

if timm_version() < (1, 0, 31):
    pytest.skip('timm has these tasks, losses and schedules from 1.0.31 on', allow_module_level=True)

from timm.loss import MULTI_LABEL_LOSS_TYPES
from timm.task import (
    ClassificationTask,
    FeatureDistillationTask,
    MultiLabelClassificationTask,
    TokenDistillationTask,
)

pytestmark = pytest.mark.slow

LABELS = torch.arange(12) % 3
# a class is bright in its own channel; drawn at import, before a test has its seed
NOISE = torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
IMAGES = NOISE / 2 + 2 * nn.functional.one_hot(LABELS, 3)[:, :, None, None]


def tiny(num_classes=3, **kwargs):
    return create_mobilenext(TINY, num_classes=num_classes, weight_init='timm', **kwargs)


def train(task, targets, steps=12, **how):
    """Loss of each step on all images."""
    module = task.get_trainable_module()
    optimizer = create_optimizer_v2(module, **{**dict(opt='adamw', lr=3e-3), **how})
    task.train()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = task(IMAGES, targets)['loss']
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_muon_makes_all_updates_of_a_pointwise_convolution_as_large():
    """Its steps are orthogonal matrices, so no direction of a 1x1 moves less; depthwise ones fall back to AdamW."""
    spectra = {}
    for opt in ('muon', 'sgd'):
        torch.manual_seed(0)
        model = tiny()
        before = model.blocks[2][1].conv_pw1.weight.detach().clone()
        losses = train(ClassificationTask(model, nn.CrossEntropyLoss(), verbose=False), LABELS, steps=1,
                       opt=opt, lr=0.02, weight_decay=0, momentum=0.95)
        assert len(losses) == 1
        moved = torch.linalg.svdvals((model.blocks[2][1].conv_pw1.weight.detach() - before).flatten(1))
        spectra[opt] = (moved.min() / moved.max()).item()
    assert spectra['muon'] > 0.8 and spectra['sgd'] < 0.4  # about 0.95 and 0.08 to 0.18, over 25 draws of images


def test_muon_lowers_the_loss():
    losses = train(ClassificationTask(tiny(), nn.CrossEntropyLoss(), verbose=False), LABELS,
                   opt='muon', lr=0.02)
    assert losses[-1] < losses[0] / 2


def test_features_of_the_student_move_to_the_teachers():
    teacher = randomize(tiny(channel_multiplier=0.5))
    kept = {key: value.clone() for key, value in teacher.state_dict().items()}
    student = tiny()
    task = FeatureDistillationTask(
        student, teacher, nn.CrossEntropyLoss(), task_loss_weight=0., distill_loss_weight=1., verbose=False)
    # the student's are wider, and a projection joins them
    assert task.get_trainable_module().projection.weight.shape == (teacher.num_features, student.num_features)
    losses = train(task, LABELS)
    assert losses[-1] < losses[0] / 2
    assert all(torch.equal(value, kept[key]) for key, value in teacher.state_dict().items())


@pytest.mark.parametrize('distill_type', ['soft', 'hard'])
def test_our_network_teaches_a_distillation_token(distill_type):
    student = timm.create_model(
        'deit_tiny_distilled_patch16_224', img_size=32, patch_size=16, embed_dim=32, depth=1, num_heads=2,
        num_classes=3)
    teacher = randomize(tiny()).eval()
    teacher.classifier.weight.data *= 5  # sure of itself
    task = TokenDistillationTask(
        student, teacher, nn.CrossEntropyLoss(), distill_type=distill_type, task_loss_weight=0.,
        distill_loss_weight=1., verbose=False)
    losses = train(task, LABELS)
    assert losses[-1] < losses[0] / 2
    with torch.no_grad():
        _, token = student(IMAGES)  # in training mode it gives both
        assert (token.argmax(1) == teacher(IMAGES).argmax(1)).float().mean() > 0.8


def test_as_the_student_of_a_token_ours_is_refused_in_a_line():
    with pytest.raises(ValueError, match="MobileNeXt does not have 'set_distilled_training' method"):
        TokenDistillationTask(tiny(), tiny(), nn.CrossEntropyLoss(), verbose=False)


@pytest.mark.parametrize('loss_type', MULTI_LABEL_LOSS_TYPES)
def test_several_labels_of_an_image_are_learned(loss_type):
    """As by `--task multilabel --loss ...`."""
    # of each image, its own class and the next
    targets = nn.functional.one_hot(LABELS, 3).float() + nn.functional.one_hot((LABELS + 1) % 3, 3).float()
    counts = dict(class_counts=targets.sum(0), num_samples=len(targets)) if loss_type == 'db' else {}
    task = MultiLabelClassificationTask(
        tiny(), criterion_kwargs=dict(loss_type=loss_type, **counts), verbose=False)
    losses = train(task, targets, steps=25)
    assert losses[-1] < losses[0]
    # batch norms have seen no other images
    with torch.no_grad():
        logits = task.get_trainable_module()(IMAGES)
    has, lacks = logits[targets.bool()].view(-1, 2), logits[~targets.bool()]
    assert (has.min(1).values > lacks).float().mean() > 0.9


def test_warmup_stable_decay_is_the_rate_of_the_steps():
    optimizer = create_optimizer_v2(tiny(), opt='sgd', lr=1.)
    scheduler, epochs = create_scheduler_v2(
        optimizer, sched='wsd', num_epochs=10, warmup_epochs=2, warmup_lr=0., decay_epochs=4, decay_fn='linear',
        cooldown_epochs=1)
    rates = []
    for epoch in range(epochs):
        scheduler.step(epoch)
        rates.append(optimizer.param_groups[0]['lr'])
    assert rates == pytest.approx([0., .5, 1., 1., 1., 1., 1., .75, .5, .25, 0.])


def test_each_batch_has_a_size_of_its_own(tmp_path):
    """As by `--train-img-sizes 32 48 64 --train-batch-sizes 8 4 2`."""
    folder = colour_folder(tmp_path, 14)
    loader = create_loader(
        create_dataset('', str(folder), split='train', is_training=True), (3, 64, 64), batch_size=4, is_training=True,
        no_aug=True, use_prefetcher=False, num_workers=0, persistent_workers=False,
        input_size_choices=[32, 48, 64], batch_size_choices=[8, 4, 2])
    model, entered = tiny(num_classes=2).train(), set()
    model.conv_stem.register_forward_pre_hook(lambda module, args: entered.add(tuple(args[0].shape)))
    optimizer = create_optimizer_v2(model, opt='adamw', lr=3e-3)
    losses = []
    for _ in range(3):
        for images, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert entered == {(8, 3, 32, 32), (4, 3, 48, 48), (2, 3, 64, 64)}
    assert sum(losses[-5:]) < sum(losses[:5])
