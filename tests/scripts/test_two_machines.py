"""Trainings on two machines: network namespaces, joined by a cable. One machine dies, and the training is resumed."""
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from runs import BASE, environment, epochs_of, load, RUN, TIMM_REPO

HOSTS = dict(timm_mobilenext_a='10.213.7.1', timm_mobilenext_b='10.213.7.2')
CABLE = 'tmn-a', 'tmn-b'
ENDPOINT = f'{next(iter(HOSTS.values()))}:29500'


def ip(*arguments):
    return subprocess.run(['ip', *arguments], capture_output=True, text=True)


def remove_machines():
    for host in HOSTS:
        ip('netns', 'del', host)  # its end of the cable goes with it


@pytest.fixture(scope='module')
def machines():
    """Two network namespaces that see each other and nothing else."""
    if shutil.which('ip') is None or os.geteuid() != 0:
        pytest.skip('two network namespaces need root and the command ip of iproute2')
    remove_machines()  # of a run that was cut off
    commands = [('netns', 'add', host) for host in HOSTS]
    commands.append(('link', 'add', CABLE[0], 'type', 'veth', 'peer', 'name', CABLE[1]))
    for (host, address), end in zip(HOSTS.items(), CABLE, strict=True):
        commands += [
            ('link', 'set', end, 'netns', host), ('-n', host, 'addr', 'add', f'{address}/24', 'dev', end),
            ('-n', host, 'link', 'set', end, 'up'), ('-n', host, 'link', 'set', 'lo', 'up')]
    try:
        for command in commands:
            done = ip(*command)
            if done.returncode:
                pytest.skip(f'ip {" ".join(command)}: {done.stderr.strip()}')
        yield HOSTS
    finally:
        remove_machines()


def start(host, *program):
    """torchrun on a machine, in a process group of its own."""
    number = list(HOSTS).index(host)
    torchrun = [
        sys.executable, '-P', '-m', 'torch.distributed.run', '--nnodes', '2', '--nproc-per-node', '1', '--rdzv-backend',
        'c10d', '--rdzv-id', 'test', '--rdzv-endpoint', ENDPOINT, '--local-addr', HOSTS[host],
        '--rdzv-conf', f'is_host={int(number == 0)}']  # their one host name resolves to neither address
    return subprocess.Popen(
        ['ip', 'netns', 'exec', host, *torchrun, *map(str, program)], env=environment(GLOO_SOCKET_IFNAME=CABLE[number]),
        start_new_session=True, **RUN)


def run_both(*program):
    """A program on both machines, to what the first printed."""
    both = [start(host, *program) for host in HOSTS]
    printed = [process.communicate(timeout=900)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], '\n'.join(printed)
    return printed[0]


def run_until_one_dies(pattern, *program):
    """Let the second machine die once the first has printed a pattern. Returns what the first printed."""
    first, second = (start(host, *program) for host in HOSTS)
    lines = []
    for line in first.stdout:
        lines.append(line)
        if re.search(pattern, line) and second.poll() is None:
            for number in ip('netns', 'pids', list(HOSTS)[1]).stdout.split():  # torchrun, its program, and the loaders
                os.kill(int(number), signal.SIGKILL)
            second.communicate()
    assert first.wait(timeout=900) != 0, ''.join(lines)  # it says so, rather than to wait for ever
    assert second.returncode == -signal.SIGKILL, ''.join(lines)
    return ''.join(lines)


def test_train_py_resumes_after_a_machine_died(machines, few, tmp_path):
    program = [
        '--no-python', sys.executable, '-P', TIMM_REPO / 'train.py', '--device-modules', 'cpu_ddp', '--data-dir', few,
        *BASE, '--batch-size', 8, '--epochs', 4, '--log-interval', 1, '--output', tmp_path, '--experiment', 'out']
    printed = run_until_one_dies(r'Train: 2 \[ *3/', *program)  # in the midst of the third epoch
    assert 'Process 0, total 2' in printed
    assert [row['epoch'] for row in epochs_of(tmp_path / 'out')] == [0, 1]

    run_both(*program, '--resume', tmp_path / 'out' / 'last.pth.tar')
    rows = epochs_of(tmp_path / 'out')
    assert [row['epoch'] for row in rows] == [0, 1, 2, 3]
    assert rows[-1]['train_loss'] < rows[1]['train_loss']
    state = load(tmp_path / 'out' / 'last.pth.tar')['optimizer']['state'].values()
    steps = 4 * 160 // (2 * 8)  # half of the images on each machine
    assert {int(one['step']) for one in state} == {steps}


DETECTOR = (
    '-m', 'timm_mobilenext', 'detect', 'train', '--backbone', 'mobilenext_035', '--img-size', 64, '--batch-size', 2,
    '--lr', 0.01, '--clip-grad', 10, '--epochs', 3, '--cache')


def test_detector_ends_as_if_no_machine_had_died(machines, tmp_path):
    run_both(*DETECTOR, '-o', tmp_path / 'whole')
    run_until_one_dies('^epoch +1 ', *DETECTOR, '-o', tmp_path / 'cut')
    run_both(*DETECTOR, '-o', tmp_path / 'cut', '--resume')
    states = [torch.load(tmp_path / name / 'training.pth', weights_only=True) for name in ('whole', 'cut')]
    assert [state['world_size'] for state in states] == [2, 2]
    for key, value in states[0]['state_dict'].items():
        assert torch.equal(value, states[1]['state_dict'][key]), key


def test_detector_takes_its_place_from_slurm(tmp_path):
    """srun starts each process with its place, and the script of the job has told them where to meet."""
    places = [
        environment(SLURM_PROCID=rank, SLURM_LOCALID=0, SLURM_NTASKS=2, MASTER_ADDR='127.0.0.1', MASTER_PORT=29511)
        for rank in range(2)]
    command = [sys.executable, '-P', *map(str, DETECTOR), '-o', str(tmp_path / 'out')]
    both = [subprocess.Popen(command, env=place, **RUN) for place in places]
    printed = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert torch.load(tmp_path / 'out' / 'training.pth', weights_only=True)['world_size'] == 2
