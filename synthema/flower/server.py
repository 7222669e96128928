"""The ServerApp: one run for one job. It offers, starts, takes back (`synthema.networks.base.run_job`), and is over.

Sites are the SuperNodes that are registered under their names (`flwr supernode register --name vienna`). How the job
ended is written to the run's log, where its researcher reads it (`synthema.flower.outcome`): a result is sealed for
the researcher by the lead site, so the SuperLink's operator keeps nothing that could be read.
"""

from __future__ import annotations

import base64
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from synthema.errors import StudyError, SynthemaError
from synthema.flower.client import ACTION, ANSWER, ORDER
from synthema.flower.outcome import Outcome, lines_of
from synthema.networks.base import run_job
from synthema.networks.ordered import Carrier, Enough, OrderedNetwork
from synthema.networks.orders import Answer
from synthema.submission import Submission

# Flower looks for the name here before it imports anything.
__all__ = ["app"]  # noqa: F822 - made by __getattr__

_POLL_SECONDS = 0.25


class GridCarrier:
    """Carries orders over a Flower grid, polling more often than `Grid.send_and_receive`, whose step is 3 s."""

    def __init__(self, grid: Any, parts: Any) -> None:
        self._grid, self._parts = grid, parts

    def exchange(self, orders: Mapping[str, bytes], *, within: float, enough: Enough) -> Mapping[str, bytes]:
        """See `synthema.networks.ordered.Carrier`."""
        nodes = self._nodes()
        present = [site for site in orders if site in nodes]
        if not present:
            return {}
        messages = [self._message(nodes[site], orders[site], within) for site in present]
        waiting = dict(zip(self._grid.push_messages(messages), present, strict=True))
        waiting.pop(None, None)
        answers: dict[str, bytes] = {}
        deadline = time.monotonic() + within
        while waiting and time.monotonic() < deadline:
            for reply in self._grid.pull_messages(list(waiting)):
                site = waiting.pop(reply.metadata.reply_to_message_id, None)
                if site is None:
                    continue
                answers[site] = _content(reply)
                more = enough(answers)
                if more is not None:
                    deadline = min(deadline, time.monotonic() + more)
            time.sleep(_POLL_SECONDS)
        return answers

    def _nodes(self) -> dict[str, int]:
        nodes = list(self._grid.get_nodes())
        named = Counter(node.name for node in nodes)
        # Of two nodes under one name, nobody can tell which is the site.
        return {node.name: node.node_id for node in nodes if named[node.name] == 1}

    def _message(self, node: int, order: bytes, within: float) -> Any:
        parts = self._parts
        content = parts.RecordDict({ORDER: parts.ConfigRecord({ORDER: order})})
        return parts.Message(content, node, f"query.{ACTION}", ttl=within)


def _content(reply: Any) -> bytes:
    if reply.has_error():
        # Its text is the node's own, and could be anything.
        return Answer(site="", state="down", explanation=f"its Flower node reports error {reply.error.code}").encode()
    try:
        return bytes(reply.content[ANSWER][ANSWER])
    except (KeyError, TypeError):
        return b""


def run_one(carrier: Carrier, config: Mapping[str, Any]) -> tuple[Outcome, bytes]:
    """Run the job of a run's configuration; return how it ended, and its sealed result."""
    try:
        submission = _submission(config)
        decide, run = float(config["decide-seconds"]), float(config["run-seconds"])
        sealed = run_job(OrderedNetwork(carrier), submission, offer_within=decide, within=run)
    except SynthemaError as error:
        return Outcome.of_error(error), b""
    return Outcome(state="done"), sealed


def _submission(config: Mapping[str, Any]) -> Submission:
    try:
        submission = Submission.decode(base64.b64decode(config["submission"], validate=True))
    except (KeyError, TypeError, ValueError, StudyError):
        raise StudyError("the run holds no submission: hand a study in with `synthema flower submit`") from None
    # Sites check it again; here it saves them the question.
    submission.verify()
    return submission


def make_app() -> Any:
    """Return the ServerApp. Raises ImportError without Flower, saying how to get it."""
    from synthema.flower.needed import flower

    server_app, parts = flower("flwr.serverapp"), flower("flwr.app")

    def main(grid: Any, context: Any) -> None:
        write_outcome(*run_one(GridCarrier(grid, parts), context.run_config))

    made = server_app.ServerApp()
    made.main()(main)
    return made


def write_outcome(outcome: Outcome, result: bytes) -> None:
    """Write how the job ended to the run's log."""
    for line in lines_of(outcome, result):
        # One call: what others write would come between a line and its end.
        sys.stdout.write(f"\n{line}\n")
    sys.stdout.flush()


def __getattr__(name: str) -> Any:
    # Made when Flower asks for it: this module can be read without Flower.
    if name == "app":
        return make_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
