"""Writers in processes of their own on a PostgreSQL ledger. Prints what was acknowledged, as JSON.

The database's URL, which holds a password, comes in the environment variable LEDGER_URL.

python postgres_writer.py reserve ANSWER_KEY WRITERS EACH RHO   every writer tries EACH reservations
python postgres_writer.py naive . WRITERS EACH FITS             the same race for FITS places, by reading first and
                                                                writing in READ COMMITTED without a lock
python postgres_writer.py crash ANSWER_KEY ROUNDS WRITERS SEED  as `ledger_writer.py crash`
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from privacy import BudgetExceeded, ZeroConcentratedDP
from privacy.ledger import open_ledger, verify

sys.path.append(str(Path(__file__).parent))
import ledger_writer

URL = os.environ.get("LEDGER_URL", "")


def together(writers, work):
    children = [ledger_writer.fork(work(name)) for name in range(writers)]
    said = [ledger_writer.lines_of(pipe) for _, pipe in children]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid, _ in children]
    return {"said": [line for lines in said for line in lines], "codes": codes}


def reserve(answer_key, writers, each, rho):
    def work(name):
        def run(say):
            with open_ledger(URL, answer_key=answer_key, check="head") as ledger:
                for i in range(int(each)):
                    try:
                        ledger.reserve("aml", ZeroConcentratedDP(float(rho)), key=f"{name}-{i}", purpose="race")
                    except BudgetExceeded:
                        say(f"refused {name}-{i}")
                    else:
                        say(f"granted {name}-{i}")

        return run

    return together(int(writers), work)


def naive(_, writers, each, fits):
    import psycopg

    def work(name):
        def run(say):
            with psycopg.connect(URL, autocommit=True) as connection:
                for i in range(int(each)):
                    with connection.transaction():
                        (spent,) = connection.execute("SELECT count(*) FROM naive").fetchone()
                        if spent < int(fits):
                            connection.execute("INSERT INTO naive VALUES (%s)", (f"{name}-{i}",))
                    say(f"{'granted' if spent < int(fits) else 'refused'} {name}-{i}")

        return run

    return together(int(writers), work)


def crash(answer_key, *numbers):
    # The writers of the file's test, on this database.
    ledger_writer.open_ledger = lambda _url, check="head": open_ledger(URL, answer_key=answer_key, check=check)
    ledger_writer.verify = lambda _url: verify(URL)
    ledger_writer.checkpoint_often = lambda _ledger: None
    return ledger_writer.crash("", *map(int, numbers))


if __name__ == "__main__":
    _, mode, *arguments = sys.argv
    print(json.dumps({"reserve": reserve, "naive": naive, "crash": crash}[mode](*arguments)))
