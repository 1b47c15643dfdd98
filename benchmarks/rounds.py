"""Candidates that take turns: each runs in a process of its own, as it does for a user.

In a shared process the memory that a model takes from the system, page by page, depends on what ran before it. The
candidates take turns within every round, so that whatever else the machine does hits all of them alike.
"""
import multiprocessing
import os
import time

import torch

__all__ = ['measure']


def serve(connection, build, *args):
    """Build a candidate, then time as many calls as the other process asks for, until it asks for none."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    run = build(*args)
    for _ in range(20):
        run()
    connection.send('ready')
    while repeats := connection.recv():
        if hasattr(run, 'time'):  # in another process, whose time this one cannot tell
            connection.send(run.time(repeats))
            continue
        start = time.process_time()
        for _ in range(repeats):
            run()
        connection.send((time.process_time() - start) / repeats)


def measure(candidates, environment, rounds, repeats):
    """Seconds of the CPU per call.

    Args:
        candidates: Name -> a function that returns what is timed, and its arguments. What is timed is called. If it has
            a method `time`, this takes a number of calls, and returns the seconds of one.
        environment: Environment variables of the processes.
        rounds: Rounds in which the candidates take turns.
        repeats: Calls of each candidate in a round.

    Returns:
        Name -> a list over rounds.
    """
    context = multiprocessing.get_context('spawn')
    os.environ.update(environment)
    connections, processes = {}, []
    for name, (build, *args) in candidates.items():
        connections[name], theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(theirs, build, *args), daemon=True))
        processes[-1].start()
        theirs.close()
        connections[name].recv()  # one at a time, or they would warm up on each other
    for key in environment:
        del os.environ[key]
    times = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, connection in connections.items():
            connection.send(repeats)
            times[name].append(connection.recv())
    for connection, process in zip(connections.values(), processes, strict=True):
        connection.send(0)
        process.join()
    return times
