"""Run `synthema` as ever, and SIGKILL the process at its k-th event of a job: python killed_at.py K ARGUMENTS.

An event is a letter that is posted, a round of a protocol, a charge that is started or settled, a decision, an ending.
"""

import os
import signal
import sys
import threading


def main() -> None:
    at = int(sys.argv[1])
    counted = 0
    lock = threading.Lock()

    def event() -> None:
        nonlocal counted
        with lock:
            counted += 1
            if counted == at:
                os.kill(os.getpid(), signal.SIGKILL)

    from smpc.transport import NetworkTransport
    from synthema.agent.service import SiteService
    from synthema.job import SiteJob

    def watched(owner: type, name: str, *, after: bool = False) -> None:
        call = getattr(owner, name)

        def counting(*arguments: object, **options: object) -> object:
            event()
            result = call(*arguments, **options)
            if after:
                event()
            return result

        setattr(owner, name, counting)

    watched(SiteService, "post")
    watched(SiteService, "decision")
    watched(SiteService, "ending")
    watched(NetworkTransport, "exchange_blocking")
    watched(SiteJob, "start", after=True)
    watched(SiteJob, "settle", after=True)
    sys.argv = ["synthema", *sys.argv[2:]]
    from synthema.cli import main as command

    command()


if __name__ == "__main__":
    main()
