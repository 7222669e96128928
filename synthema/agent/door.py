"""The agent's door on its own machine: a Unix socket at which a program that carries orders asks (`[flower]`).

Who may open the socket's file may ask: the agent's user, and a group if the file names one. That program needs neither
the table nor a key, so it can run as another user, in an environment of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shutil
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from synthema.errors import StudyError
from synthema.networks.orders import Answer, Order, OrderRejected
from synthema.networks.site_socket import MOST_ORDER_BYTES, MOST_PATH_BYTES, receive, send

_log = logging.getLogger(__name__)

_MOST_CONNECTIONS = 16
_READ_SECONDS = 10.0

IsGone = Callable[[], bool]


class Door:
    """Listens at a path.

    Parameters
    ----------
    path
        Of the socket; what a killed agent left there is replaced.
    answer
        Gives the answer and its payload to an order and its payload; asked in a thread of its own, with a function
        that says whether the asker has gone.
    group
        Name of a group whose members may ask as well.

    Raises
    ------
    StudyError
        If the path is too long for a socket, or is no socket; if there is no such group.
    """

    def __init__(
        self, path: Path, answer: Callable[[Order, bytes, IsGone], tuple[Answer, bytes]], *, group: str = ""
    ) -> None:
        self._path, self._answer = path, answer
        self._places = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self._closing = False
        if len(os.fsencode(path)) > MOST_PATH_BYTES:
            raise StudyError(
                f"[flower] socket: a socket's path has {MOST_PATH_BYTES} bytes at most; name a shorter one"
            )
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise StudyError(f"[flower] socket: {path.name} is there and is no socket")
            path.unlink()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.ExitStack() as undo:
            undo.callback(self._listener.close)
            self._bind(group)
            undo.pop_all()
        self._listener.listen(_MOST_CONNECTIONS)
        self._thread = threading.Thread(target=self._serve, name="door", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"Door({self._path.name!r})"

    def close(self) -> None:
        """Take no more orders."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5.0)
        self._path.unlink(missing_ok=True)

    def _bind(self, group: str) -> None:
        # Made with the rights that it is to have: nobody else may connect in between.
        before = os.umask(0o177)
        try:
            self._listener.bind(str(self._path))
        except OSError as error:
            text = f"[flower] socket: {self._path.name} cannot be made in its folder ({type(error).__name__})"
            raise StudyError(text) from None
        finally:
            os.umask(before)
        if group:
            try:
                shutil.chown(self._path, group=group)
            except (LookupError, OSError):
                raise StudyError(f"[flower] group: the socket cannot be given to {group!r}") from None
            self._path.chmod(0o660)

    def _serve(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if not self._places.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._talk, args=(connection,), name="order", daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(_READ_SECONDS)
                order, payload = Order.decode(receive(connection, MOST_ORDER_BYTES))
                answer, result = self._answer(order, payload, lambda: _is_gone(connection))
                send(connection, answer.encode(result))
        except (OSError, OrderRejected) as error:
            _log.warning("an order was not answered: %s", type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the agent outlives any order; the text could hold a value
            _log.error("an order ended with %s", type(error).__name__)
        finally:
            self._places.release()


def _is_gone(connection: socket.socket) -> bool:
    """Whether the other end has closed; nobody sends anything behind an order."""
    poll = select.poll()
    poll.register(connection, select.POLLIN | select.POLLRDHUP)
    return bool(poll.poll(0))
