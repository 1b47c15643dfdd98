"""A LightningModule around a network: trained with a checkpoint of the best epoch, which is loaded and tested."""
import json
import sys

import lightning as L
import torch
from lightning.pytorch.callbacks import BackboneFinetuning, ModelCheckpoint
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

import timm


class Classifier(L.LightningModule):
    def __init__(self, name, lr=1e-3):
        super().__init__()
        self.save_hyperparameters()
        network = timm.create_model(name, pretrained=True, num_classes=0)
        self.backbone, self.head = network, torch.nn.Linear(network.num_features, 2)

    def forward(self, images):
        return self.head(self.backbone(images))

    def training_step(self, batch, index):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, index):
        self.log('accuracy', (self(batch[0]).argmax(1) == batch[1]).float().mean())

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.AdamW(filter(lambda p: p.requires_grad, self.parameters()), self.hparams.lr)


L.seed_everything(0)
model = Classifier('mobilenext_050.cifar10')
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model.backbone))
train, validation = (ImageFolder(f'{sys.argv[1]}/{split}', transform) for split in ('train', 'validation'))
validation = DataLoader(validation, 256)
best = ModelCheckpoint('.', 'best', 'accuracy', mode='max')
frozen = BackboneFinetuning(unfreeze_backbone_at_epoch=1, backbone_initial_lr=1e-3)
quiet = dict(accelerator='cpu', logger=False, enable_progress_bar=False, enable_model_summary=False)
trainer = L.Trainer(max_epochs=3, callbacks=[best, frozen], num_sanity_val_steps=0, **quiet)
trainer.fit(model, DataLoader(train, 32, shuffle=True), validation)
loaded = Classifier.load_from_checkpoint('best.ckpt')
tested, = L.Trainer(**quiet).test(loaded, validation, verbose=False)
print(json.dumps(dict(best=best.best_model_score.item(), tested=tested['accuracy'], epochs=trainer.current_epoch)))
