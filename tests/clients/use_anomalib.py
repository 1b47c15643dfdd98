"""PaDiM and PatchCore learn what red cells look like, and find the tiles with a white one among them."""
import json
import sys

from anomalib.data import Folder
from anomalib.engine import Engine
from anomalib.metrics import AUROC, Evaluator
from anomalib.models import Padim, Patchcore
from lightning import seed_everything

seed_everything(0)  # PaDiM draws its features
found = {}
methods = dict(
    PaDiM=(Padim, dict(layers=['blocks.1', 'blocks.2', 'blocks.4'], n_features=100)),
    PatchCore=(Patchcore, dict(layers=['blocks.2', 'blocks.4'], coreset_sampling_ratio=0.02)))
for name, (method, options) in methods.items():
    data = Folder(
        'cells', root=sys.argv[1], normal_dir='train/red', normal_test_dir='validation/red',
        abnormal_dir='validation/white', num_workers=0, train_batch_size=32, eval_batch_size=32)
    model = method(
        backbone='mobilenext_050.cifar10', pre_processor=method.configure_pre_processor((64, 64)),
        evaluator=Evaluator(test_metrics=[AUROC(fields=['pred_score', 'gt_label'])]), visualizer=False, **options)
    engine = Engine(accelerator='cpu', logger=False, max_epochs=1, default_root_dir=name)
    engine.fit(model, datamodule=data)
    found[name], = engine.test(model, datamodule=data)
print(json.dumps(found))
