"""Data that are larger than a folder of files: shards of WebDataset, and a dataset as the Hub has it."""
import json

import pytest
from runs import epochs_of, train

SPLITS = 'train', 'validation'


def read(folder, split):
    """Bytes and class of each image of an image folder, classes in turns."""
    files = sorted((folder / split).glob('*/*'), key=lambda file: (file.name, file.parent.name))
    return [(file.read_bytes(), int(file.parent.name)) for file in files]


def write_shards(folder, images, split):
    """Images in two tar files, and what timm must know of them."""
    webdataset = pytest.importorskip('webdataset', reason='pip install webdataset')
    names = [f'digits-{split}-{number:04}.tar' for number in range(2)]
    for number, name in enumerate(names):
        with webdataset.TarWriter(str(folder / name)) as writer:
            for index, (content, label) in enumerate(images[number::2]):
                writer.write({'__key__': f'{number}-{index}', 'png': content, 'cls': label})
    return dict(
        name=split, filenames=names, shard_lengths=[len(images[number::2]) for number in range(2)],
        num_samples=len(images))


@pytest.fixture
def shards(few, tmp_path):
    splits = {split: write_shards(tmp_path, read(few, split), split) for split in SPLITS}
    (tmp_path / '_info.json').write_text(json.dumps(dict(splits=splits)))
    return '--dataset', 'wds/digits', '--data-dir', tmp_path


@pytest.fixture
def parquet(few, tmp_path):
    datasets = pytest.importorskip('datasets', reason='pip install datasets')
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=[*'0123456789']))
    for split in SPLITS:
        rows = [dict(image=dict(bytes=content, path=None), label=label) for content, label in read(few, split)]
        (tmp_path / 'digits').mkdir(exist_ok=True)
        datasets.Dataset.from_list(rows, features).to_parquet(tmp_path / 'digits' / f'{split}.parquet')
    return '--dataset', f'hfds/{tmp_path / "digits"}'


@pytest.mark.parametrize('kind', ['shards', 'parquet'])
def test_a_trained_network_knows_the_images_again(kind, request, few, trained, tmp_path):
    """A step does next to nothing, so losses and top-1 are those of the image folder."""
    arguments = '--initial-checkpoint', trained / 'last.pth.tar', '--lr', 1e-9, '--warmup-epochs', 0, '--scale', 1, 1
    rows = {}
    for name, data in dict(folder=(), other=request.getfixturevalue(kind)).items():
        train(tmp_path / name, few, *arguments, *data)
        rows[name], = epochs_of(tmp_path / name)
    assert rows['folder']['eval_top1'] >= 60
    # the order of the images moves the norms
    for figure, tolerance in dict(eval_top1=0.03, eval_loss=0.03, train_loss=0.2).items():
        assert rows['other'][figure] == pytest.approx(rows['folder'][figure], rel=tolerance)
