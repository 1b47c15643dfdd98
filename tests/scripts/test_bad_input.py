"""What train.py says of bad input, as docs/training.md describes it."""
import shutil
import subprocess
import sys

import pytest
import yaml
from runs import environment, epochs_of, RUN, run, TIMM_REPO, train

pytestmark = [pytest.mark.tools, pytest.mark.slow]


def last_line(printed):
    return printed.strip().splitlines()[-1]


def test_unknown_key_of_a_recipe_is_taken_in_silence_and_found_by_the_line_in_the_docs(few, tmp_path):
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text('learning_rate: 0.1\nbatch_size: 16\n')
    printed = train(tmp_path / 'out', few, '--config', recipe)
    assert 'learning_rate' not in printed
    assert yaml.safe_load((tmp_path / 'out' / 'args.yaml').read_text())['lr'] == 3e-3
    line = (
        'import sys, yaml, train;'
        ' print(set(yaml.safe_load(open(sys.argv[1]))) - {action.dest for action in train.parser._actions})')
    done = subprocess.run([sys.executable, '-c', line, recipe], cwd=TIMM_REPO, env=environment(), check=True, **RUN)
    assert last_line(done.stdout) == "{'learning_rate'}"


def test_corrupt_image_is_skipped_with_a_warning(few, tmp_path):
    shutil.copytree(few, tmp_path / 'images')
    file = min((tmp_path / 'images' / 'train' / '3').iterdir())
    file.write_bytes(file.read_bytes()[:20])
    printed = train(tmp_path / 'out', tmp_path / 'images')
    assert 'Skipped sample (index ' in printed and str(file) not in printed
    assert len(epochs_of(tmp_path / 'out')) == 1


def test_class_without_images_is_passed_over_in_silence(few, tmp_path):
    """The classes after it get other numbers in one split than in the other."""
    shutil.copytree(few, tmp_path / 'images')
    for file in (tmp_path / 'images' / 'train' / '3').iterdir():
        file.unlink()
    printed = train(tmp_path / 'out', tmp_path / 'images')
    assert 'warn' not in printed.lower() and len(epochs_of(tmp_path / 'out')) == 1


def test_one_class_trains_to_nothing_in_silence(few, tmp_path):
    for split in ('train', 'validation'):
        shutil.copytree(few / split / '0', tmp_path / 'images' / split / '0')
    train(tmp_path / 'out', tmp_path / 'images', '--batch-size', 4, '--num-classes', 1)
    assert epochs_of(tmp_path / 'out')[0]['eval_top1'] == 100


def test_too_few_classes_fail_at_the_first_step(few, tmp_path):
    printed = train(tmp_path / 'out', few, '--num-classes', 5, code=1)
    assert 'out of bounds' in last_line(printed)


def test_too_many_classes_train_in_silence(few, tmp_path):
    train(tmp_path / 'out', few, '--num-classes', 12)
    assert len(epochs_of(tmp_path / 'out')) == 1


def test_resume_from_another_network_is_reported_in_one_line(trained, few, tmp_path):
    printed = train(tmp_path / 'out', few, '--model', 'mobilenext_050', '--resume', trained / 'last.pth.tar', code=1)
    assert 'The checkpoint is of another network than this MobileNeXt' in last_line(printed)


def test_resume_with_other_classes_is_reported_in_one_line(trained, three, tmp_path):
    printed = train(tmp_path / 'out', three, '--num-classes', 3, '--resume', trained / 'last.pth.tar', code=1)
    assert 'a classifier of 10 classes, this MobileNeXt one of 3: create the model with num_classes=10' in printed


def test_output_that_is_not_a_folder_fails_before_training(few, tmp_path):
    (tmp_path / 'file').touch()
    printed = train(tmp_path / 'file' / 'out', few, code=1)
    assert 'Train: 0' not in printed and str(tmp_path / 'file') in last_line(printed)


@pytest.mark.parametrize('script', ['train.py', 'validate.py'])
def test_unknown_model_is_named(few, script):
    printed = run(script, '--data-dir', few, '--model', 'mobilenext_99', '--device', 'cpu', code=1)
    assert 'Unknown model (mobilenext_99)' in last_line(printed)
