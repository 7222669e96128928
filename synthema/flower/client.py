"""The ClientApp: takes an order to the agent of its machine, and brings the answer back. It understands neither.

Flower starts it anew for each message, so it keeps nothing. Where the agent's socket is, the SuperNode's operator says
in the environment (`SYNTHEMA_SITE_SOCKET`); no message can name another. Of the site's table, keys and ledger it sees
nothing, so the SuperNode may run as a user who may not read them.
"""

from __future__ import annotations

import os
from typing import Any

from synthema.networks.site_socket import ask

# Flower looks for the name here before it imports anything.
__all__ = ["app"]  # noqa: F822 - made by __getattr__

SOCKET_VARIABLE = "SYNTHEMA_SITE_SOCKET"
ORDER, ANSWER, ACTION = "order", "answer", "order"


def answer_to(order: bytes) -> bytes:
    """Return what the agent of this machine answers, or that it could not be asked."""
    path = os.environ.get(SOCKET_VARIABLE, "")
    if not path:
        return _down(f"{SOCKET_VARIABLE} is not set where its SuperNode was started")
    # Of a SuperNode that was killed, this process might be the last to hear; then the site takes no part any more.
    parent = os.getppid()
    try:
        # The agent answers in the order's own time.
        return ask(path, order, is_wanted=lambda: os.getppid() == parent)
    except OSError as error:
        return _down(f"its agent could not be asked ({type(error).__name__})")


def _down(reason: str) -> bytes:
    from synthema.networks.orders import Answer

    return Answer(site="", state="down", explanation=reason).encode()


def make_app() -> Any:
    """Return the ClientApp. Raises ImportError without Flower, saying how to get it."""
    from synthema.flower.needed import flower

    client_app, parts = flower("flwr.clientapp"), flower("flwr.app")

    def carry(message: Any, context: Any) -> Any:
        del context
        data = answer_to(bytes(message.content[ORDER][ORDER]))
        content = parts.RecordDict({ANSWER: parts.ConfigRecord({ANSWER: data})})
        return parts.Message(content, reply_to=message)

    made = client_app.ClientApp()
    made.query(ACTION)(carry)
    return made


def __getattr__(name: str) -> Any:
    # Made when Flower asks for it: this module can be read without Flower.
    if name == "app":
        return make_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
