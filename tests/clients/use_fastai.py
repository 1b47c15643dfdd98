"""vision_learner: its body frozen for an epoch, trained for two, exported, loaded and asked."""
import json
import sys
from pathlib import Path

from fastai.vision.all import accuracy, ImageDataLoaders, load_learner, Resize, set_seed, vision_learner

set_seed(0)
data = ImageDataLoaders.from_folder(
    sys.argv[1], train='train', valid='validation', item_tfms=Resize(64), bs=32, num_workers=0)
learner = vision_learner(data, 'mobilenext_050.cifar10', metrics=accuracy, path=Path.cwd())
learner.freeze()
before = {name: weight.clone() for name, weight in learner.model.named_parameters()}
trainable = [name for name, weight in learner.model.named_parameters() if weight.requires_grad]
learner.fit_one_cycle(1, 3e-3)
moved = [name for name, weight in learner.model.named_parameters() if not weight.equal(before[name])]
frozen = learner.validate()[1]
learner.unfreeze()
learner.fit_one_cycle(2, 1e-3)
learner.export('learner.pkl')
image = min(Path(sys.argv[1], 'validation', 'white').iterdir())
answers = []
for each in (learner, load_learner('learner.pkl')):
    with each.no_bar():
        answers.append(each.predict(image))
print(json.dumps(dict(
    weights=len(before), trainable=len(trainable), moved_is_trainable=moved == trainable, frozen=frozen,
    accuracy=learner.validate()[1], answers=[[answer[0], *answer[2].tolist()] for answer in answers])))
