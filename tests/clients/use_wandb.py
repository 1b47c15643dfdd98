"""timm's train.py logs to W&B, offline: what it stored is what the training's own table says."""
import csv
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

from wandb.proto import wandb_internal_pb2

script, tiles = sys.argv[1:]
train = (
    f'{sys.executable} -P {script} --data-dir {tiles} --model mobilenext_050.cifar10 --pretrained --num-classes 2'
    ' --epochs 2 --img-size 64 --batch-size 32 --opt adamw --lr 1e-3 --warmup-epochs 0 --workers 1 --device cpu'
    ' --output output --experiment cells --log-wandb --wandb-project cells')
subprocess.run(train.split(), check=True, env={**os.environ, 'WANDB_MODE': 'offline'})


def read_records(log, block=2 ** 15):
    """The records of a log in LevelDB's format, in which a record may lie in several blocks."""
    record, at = b'', 7  # behind the header of the file
    while at + 7 <= len(log):
        if block - at % block < 7:
            at += block - at % block
        _, length, kind = struct.unpack('<IHB', log[at:at + 7])
        record, at = record + log[at + 7:at + 7 + length], at + 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(record)
            record = b''


file, = Path('wandb').glob('offline-run-*/*.wandb')
logged = [
    {'/'.join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
    for record in read_records(file.read_bytes()) if record.WhichOneof('record_type') == 'history']
table = list(csv.DictReader(Path('output/cells/summary.csv').read_text().splitlines()))
print(json.dumps(dict(logged=logged, table=table)))
