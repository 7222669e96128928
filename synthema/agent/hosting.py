"""A site and its guests in one process: an agent for each, with a line, a memory and a queue of its own."""

from __future__ import annotations

import logging
import threading

from synthema.agent.config import SiteConfig
from synthema.agent.guests import read_guest
from synthema.agent.service import SiteService
from synthema.errors import SynthemaError

_log = logging.getLogger(__name__)

_STOP_SECONDS = 15.0


class HostService:
    """A site's agent and those of its guests, started and stopped together, each with a line of its own.

    A guest with something wrong is left out, and the log says which and why; the host serves all the same.

    Parameters
    ----------
    config
        The host's file; a site without guests is served alone.
    """

    def __init__(self, config: SiteConfig) -> None:
        self.host = SiteService(config)
        self.guests: dict[str, SiteService] = {}
        for section in config.guests:
            try:
                guest = read_guest(config, section)
                self.guests[guest.name] = SiteService(guest.config, open_site=guest.open)
            except SynthemaError as error:
                _log.error("%s; it is not served", error)
            except Exception as error:  # noqa: BLE001 - whatever it is, the host serves; the text could hold a key
                _log.error("guest %r cannot be served: %s", section.name, type(error).__name__)

    def __repr__(self) -> str:
        return f"HostService({self.host!r}, {len(self.guests)} guests)"

    def serve(self) -> None:
        """Work until `stop` is called."""
        threads = [
            threading.Thread(target=_serve_guest, args=(name, service), name=f"{name}-guest", daemon=True)
            for name, service in self.guests.items()
        ]
        for thread in threads:
            thread.start()
        try:
            self.host.serve()
        finally:
            self.stop()
            for thread in threads:
                thread.join(_STOP_SECONDS)

    def stop(self) -> None:
        """End `serve` soon; from any thread or a signal handler."""
        for service in (self.host, *self.guests.values()):
            service.stop()


def _serve_guest(name: str, service: SiteService) -> None:
    try:
        service.serve()
    except Exception as error:  # noqa: BLE001 - a guest's failure is no failure of its host
        _log.error("guest %r is not served any more: %s", name, type(error).__name__)
