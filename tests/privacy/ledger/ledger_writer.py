"""Writers in processes of their own, for tests that race or kill them. Prints what was acknowledged, as JSON.

python ledger_writer.py race PATH WRITERS RHO                every writer spends until refused
python ledger_writer.py reserve PATH WORKERS REQUESTS RHO SYNC   so many reservations are asked for; SYNC 0: no sync
python ledger_writer.py fair PATH WRITERS SECONDS            every writer spends for so long
python ledger_writer.py crash PATH ROUNDS WRITERS SEED       writers spend, and open and close, until they are killed
                                                             with signal 9, each a random time after it said a random
                                                             number of lines; then every key is tried again. Ends with
                                                             exit code 1 if anything was lost or charged twice

A thousand kills: python tests/privacy/ledger/ledger_writer.py crash /tmp/crashed.db 334 3 1
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import sys
import time

from privacy import BudgetExceeded, SpentWithoutAnswer, ZeroConcentratedDP
from privacy.ledger import open_ledger, verify

MOST_LINES_AWAITED = 9
LONGEST_LIFE_SECONDS = 0.06
# A writer that is killed checkpoints its log every few commits, and closes after a few spends: the kills hit these too.
CHECKPOINT_PAGES = 20
MOST_SPENDS_PER_OPENING = 4
CRASH_RHO = 1e-6


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

    said, codes = run_all([work(name) for name in range(writers)])
    return {"said": said, "codes": codes}


def run_all(works):
    """Run each in a child; return what they said, and their exit codes."""
    children = [fork(work) for work in works]
    said = [lines_of(pipe) for _, pipe in children]
    return said, [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid, _ in children]


def reserve(path, workers, requests, rho, sync):
    def work(name):
        def run(say):
            with open_ledger(f"sqlite:///{path}") as ledger:
                if not sync:
                    ledger._journal.store._open().execute("PRAGMA synchronous = OFF")
                for i in range(name, requests, workers):
                    try:
                        ledger.reserve("aml", ZeroConcentratedDP(rho), key=f"r{i}", purpose="crowd")
                    except BudgetExceeded:
                        say(f"refused r{i}")
                    else:
                        say(f"granted r{i}")

        return run

    said, codes = run_all([work(name) for name in range(workers)])
    return {"said": [line for lines in said for line in lines], "codes": codes}


def fair(path, writers, seconds):
    start = time.monotonic() + 0.5  # by then all have opened it

    def work(name):
        def run(say):
            with open_ledger(f"sqlite:///{path}", check="head") as ledger:
                time.sleep(max(0.0, start - time.monotonic()))
                number = 0
                while time.monotonic() < start + seconds:
                    with ledger.spend("aml", ZeroConcentratedDP(1e-9), key=f"{name}-{number}", purpose="fair") as spend:
                        spend.release(number)
                    number += 1
                say(str(number))

        return run

    said, codes = run_all([work(name) for name in range(writers)])
    return {"spends": [int(lines[0]) for lines in said], "codes": codes}


def checkpoint_often(ledger):
    ledger._journal.store._open().execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")


def crash(path, rounds, writers, seed):
    rng = random.Random(seed)
    url = f"sqlite:///{path}"

    def work(name, spends):
        def run(say):
            for opening in range(100_000):
                with open_ledger(url, check="head") as ledger:
                    checkpoint_often(ledger)
                    for i in range(spends):
                        key = f"{name}-{opening}-{i}"
                        say(f"trying {key}")
                        with ledger.spend("aml", ZeroConcentratedDP(CRASH_RHO), key=key, purpose="crash") as spend:
                            say(f"entered {key}")
                            spend.release(key)
                        say(f"released {key}")
                    say("closing")

        return run

    def prepare(_):
        with open_ledger(url) as ledger:
            if not ledger.accounts():
                ledger.open_account("aml", epsilon=30.0, delta=1e-6, neighbours="add_remove_one")

    def retry(keys):
        def run(say):
            with open_ledger(url, check="head") as ledger:
                for key in keys:
                    say(f"{key} {outcome(ledger, key)}")
            for problem in verify(url).problems:
                say(f"problem {problem}")

        return run

    run_all([prepare])
    said, retried, problems = [], {}, []
    for number in range(rounds):
        children = [fork(work(f"{number}-{name}", rng.randint(1, MOST_SPENDS_PER_OPENING))) for name in range(writers)]
        starts = []
        for pid, pipe in children:
            starts.append(await_lines(pipe, rng.randint(0, MOST_LINES_AWAITED)))
            time.sleep(rng.choice((0.0, rng.uniform(0, 0.002), rng.uniform(0, LONGEST_LIFE_SECONDS))))
            os.kill(pid, signal.SIGKILL)
        lines = []
        for (pid, pipe), start in zip(children, starts, strict=True):
            os.waitpid(pid, 0)
            lines += lines_of(pipe, start)
        keys = [line.split()[1] for line in lines if line.startswith("trying")]
        (answers,), _ = run_all([retry(keys)])
        problems += [line for line in answers if line.startswith("problem")]
        retried |= dict(line.split() for line in answers if not line.startswith("problem"))
        said += lines
    return {"said": said, "retried": retried, "problems": problems + wrongs(said, retried, url)}


def outcome(ledger, key):
    """Try a key again, as a site does after a crash: what became of it."""
    try:
        with ledger.spend("aml", ZeroConcentratedDP(CRASH_RHO), key=key, purpose="crash") as spend:
            if spend.answered:
                return "answered" if spend.stored == key else "wrong"
            spend.release(key)
            return "anew"
    except SpentWithoutAnswer:
        return "spent"


def wrongs(said, retried, url):
    """Return what was lost, or charged twice, though it was acknowledged."""
    allowed = {"trying": ("answered", "spent", "anew"), "entered": ("answered", "spent"), "released": ("answered",)}
    found = []
    for line in said:
        word, _, key = line.partition(" ")
        if key and retried.get(key) not in allowed[word]:
            found.append(f"{line}, and was then {retried.get(key)}")
    kinds = ("reserve", "start", "post")
    with open_ledger(url, check="head") as ledger:
        entries = [(entry.kind, entry.body["key"]) for entry in ledger.entries() if entry.kind in kinds]
        if len(entries) != len(set(entries)):
            found.append("a key was reserved, started or posted twice")
        charged = {key for kind, key in entries if kind == "start"}
        if len(ledger.events("aml")) != len(charged) or not charged >= set(retried):
            found.append("a charge is missing")
    return found


MODES = {"race": (race, int, float), "reserve": (reserve, int, int, float, int), "fair": (fair, int, float)}
MODES["crash"] = (crash, int, int, int)

if __name__ == "__main__":
    _, mode, where, *texts = sys.argv
    work, *types = MODES[mode]
    out = work(where, *[kind(text) for kind, text in zip(types, texts, strict=True)])
    print(json.dumps(out))
    sys.exit(1 if out.get("problems") else 0)
