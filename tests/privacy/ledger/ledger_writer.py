"""Writers in processes of their own, for tests that race or kill them. Prints what was acknowledged, as JSON.

python ledger_writer.py race PATH WRITERS RHO          every writer spends until refused
python ledger_writer.py crash PATH ROUNDS WRITERS SEED   writers spend until they are killed with signal 9, each a
                                                         random time after it said a random number of lines
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import sys
import time

from privacy import BudgetExceeded, ZeroConcentratedDP
from privacy.ledger import open_ledger

MOST_LINES_AWAITED = 6
LONGEST_LIFE_SECONDS = 0.12


def fork(work):
    """Run `work(say)` in a child; return its pid and the pipe on which it says lines."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(read)
            work(lambda line: os.write(write, line.encode() + b"\n"))
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    return pid, read


def lines_of(pipe, start=b""):
    with os.fdopen(pipe, "rb") as stream:
        # A line that was cut off was not said.
        return [line[:-1].decode() for line in io.BytesIO(start + stream.read()) if line.endswith(b"\n")]


def await_lines(pipe, number):
    """Return what is said up to some line, so that a slow machine gives each writer as much to lose as a fast one."""
    said = b""
    while said.count(b"\n") < number and (piece := os.read(pipe, 4096)):
        said += piece
    return said


def race(path, writers, rho):
    def work(name):
        def run(say):
            with open_ledger(f"sqlite:///{path}") as ledger:
                for i in range(10_000):
                    try:
                        with ledger.spend("aml", ZeroConcentratedDP(rho), key=f"{name}-{i}", purpose="race") as spend:
                            spend.release(i)
                    except BudgetExceeded:
                        return
                    say(f"{name}-{i}")

        return run

    children = [fork(work(name)) for name in range(writers)]
    said = [lines_of(pipe) for _, pipe in children]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid, _ in children]
    return {"said": said, "codes": codes}


def crash(path, rounds, writers, seed):
    rng = random.Random(seed)

    def work(name):
        def run(say):
            with open_ledger(f"sqlite:///{path}") as ledger:
                for i in range(100_000):
                    key = f"{name}-{i}"
                    with ledger.spend("aml", ZeroConcentratedDP(1e-6), key=key, purpose="crash") as spend:
                        say(f"entered {key}")
                        spend.release(key)
                    say(f"released {key}")

        return run

    said = []
    for number in range(rounds):
        children = [fork(work(f"{number}-{name}")) for name in range(writers)]
        starts = []
        for pid, pipe in children:
            starts.append(await_lines(pipe, rng.randint(0, MOST_LINES_AWAITED)))
            time.sleep(rng.uniform(0, LONGEST_LIFE_SECONDS))
            os.kill(pid, signal.SIGKILL)
        for (pid, pipe), start in zip(children, starts, strict=True):
            os.waitpid(pid, 0)
            said += lines_of(pipe, start)
    return {"said": said}


if __name__ == "__main__":
    _, mode, where, *numbers = sys.argv
    out = race(where, int(numbers[0]), float(numbers[1])) if mode == "race" else crash(where, *map(int, numbers))
    print(json.dumps(out))
