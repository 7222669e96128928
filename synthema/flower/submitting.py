"""A researcher hands a study in over Flower: `flwr run` starts one run, and its log says how the job ended.

Flower's own command line is a program of its own, in an environment of its own if need be; this module imports none of
it. Which SuperLink is meant, and the certificate by which it is known, stand in Flower's configuration.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privacy._toml import dump_toml
from synthema.errors import JobFailed, StudyError
from synthema.flower.bundle import QUIET, write_bundle
from synthema.flower.outcome import LABEL, OutcomeReader
from synthema.researcher import ResearcherConfig, load_result_key, make_submission, read_result

if TYPE_CHECKING:
    from synthema.study import Study
    from synthema.submission import Submission

Progress = Callable[[str], None]

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

# To start a run and its processes, and to read the log to its end.
_AROUND_SECONDS = 120.0


class FlowerDesk:
    """A researcher over a network that runs Flower. Joint models may be fitted over it, as over any network.

    Parameters
    ----------
    config
        The researcher's file, with the cards of the sites.
    superlink
        Its name in Flower's configuration; by default the one that is the default there.
    decide_seconds
        Within which every site has to answer; a site whose operator has to be asked answers "waiting" at once.
    run_seconds
        Within which the job has to end.
    program
        Path of Flower's command line; by default `flwr` of this environment, or of the search path.
    progress
        Gets the lines of the run's log.
    """

    def __init__(
        self,
        config: ResearcherConfig,
        *,
        superlink: str | None = None,
        decide_seconds: float = 120.0,
        run_seconds: float = 3600.0,
        program: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._config, self._superlink, self._program, self._progress = config, superlink, program, progress
        self._decide_seconds, self._run_seconds = decide_seconds, run_seconds

    def __repr__(self) -> str:
        return f"FlowerDesk({self._config.name!r}, superlink={self._superlink!r})"

    def submit(self, study: Study, /) -> dict[str, Any]:
        """Hand in a study, wait for its end, and return what the lead put together (`synthema.site_run.read_bundle`).

        Raises
        ------
        SiteRefused
            A site refused, or waits for its operator; nothing was charged.
        SiteFailed, JobFailed
            The job failed; steps that had started stay charged.
        StudyError
            If there is no Flower here, or a site's card is missing.
        """
        lead = study.compute_parties[0]
        known = self._config.partners.get(lead)
        if known is None:
            raise StudyError(f"the card of {lead!r} is missing: add it with `synthema researcher trust`")
        submission = make_submission(self._config, study)
        sealed = hand_in(
            submission,
            superlink=self._superlink,
            decide_seconds=self._decide_seconds,
            run_seconds=self._run_seconds,
            program=self._program,
            progress=self._progress,
        )
        key = load_result_key(self._config)
        return read_result(sealed, key, bytes.fromhex(known.identity), job_id=submission.job_id)


def hand_in(
    submission: Submission,
    *,
    superlink: str | None = None,
    decide_seconds: float = 120.0,
    run_seconds: float = 3600.0,
    program: str | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Run one job over Flower, and return its sealed result; see `FlowerDesk`."""
    flwr = program or _found()
    settings = {
        "submission": base64.b64encode(submission.encode()).decode(),
        "decide-seconds": float(decide_seconds),
        "run-seconds": float(run_seconds),
    }
    with tempfile.TemporaryDirectory(prefix="synthema-") as folder:
        app, run_config = Path(folder) / "synthema-app", Path(folder) / "run.toml"
        write_bundle(app)
        # A file: a command line is seen by every user of the machine.
        run_config.write_text(dump_toml(settings), encoding="utf-8")
        command = [flwr, "run", str(app), *([superlink] if superlink else [])]
        command += ["--run-config", str(run_config), "--stream"]
        reader = _follow(command, decide_seconds + run_seconds + _AROUND_SECONDS, progress or (lambda _line: None))
    outcome, sealed = reader.outcome()
    outcome.raise_error()
    return sealed


def _found() -> str:
    beside = Path(sys.executable).parent / "flwr"
    found = str(beside) if beside.exists() else shutil.which("flwr")
    if found is None:
        raise StudyError(
            "there is no Flower here: install synthema[flower] in an environment of its own, or name `flwr`"
        )
    return found


def _follow(command: list[str], within: float, say: Progress) -> OutcomeReader:
    """Run the command, and read the log that it prints."""
    reader = OutcomeReader()
    process = subprocess.Popen(  # noqa: S603 - Flower's command line, with arguments of ours
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **QUIET},
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    too_late = threading.Timer(within, process.send_signal, (signal.SIGTERM,))
    too_late.daemon = True
    too_late.start()
    last = ""
    try:
        with process:
            for line in process.stdout or ():
                if line.startswith(LABEL):
                    reader.take(line)
                elif line.strip():
                    last = _COLOURS.sub("", line).strip()
                    say(last)
    finally:
        too_late.cancel()
    if process.returncode != 0:
        raise JobFailed("flower", f"`flwr run` ended with code {process.returncode}: {last[:500]}")
    return reader
