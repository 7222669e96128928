"""The Flower app: one file that says which modules of this package are its two ends. It holds no code.

So a SuperNode that takes it runs what its operator has installed; nothing is installed, and nothing is executed, that
came over the network.
"""

from __future__ import annotations

from pathlib import Path

from synthema.errors import StudyError

# Of the orders and of what the ServerApp says; not of this package.
_VERSION = "1.0.0"
# Telemetry and update checks of Flower's programs: both ask hosts of its makers unless they are told not to.
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}

APP = f"""\
[project]
name = "synthema"
version = "{_VERSION}"
description = "Hands orders to the agents of sites; what it runs is installed at each end."
license = {{ text = "Apache-2.0" }}
dependencies = []

[tool.flwr.app]
publisher = "synthema"

[tool.flwr.app.components]
serverapp = "synthema.flower.server:app"
clientapp = "synthema.flower.client:app"

[tool.flwr.app.config]
submission = ""
decide-seconds = 120.0
run-seconds = 3600.0
"""


def write_bundle(folder: Path) -> Path:
    """Write the app into a new or empty folder; return its file.

    Raises
    ------
    StudyError
        If the folder holds something already: all files of an app's folder would become a part of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise StudyError(f"{folder.name} is not empty: choose a new folder for the app")
    file = folder / "pyproject.toml"
    file.write_text(APP, encoding="utf-8")
    return file
