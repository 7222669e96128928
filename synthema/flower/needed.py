"""Flower's modules, or what to install."""

from __future__ import annotations

import importlib
from types import ModuleType


def flower(name: str) -> ModuleType:
    """Return one of Flower's modules.

    Raises
    ------
    ImportError
        If Flower is not installed; says how to get it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "flwr":
            raise
        text = "Flower is not installed here: install synthema[flower] into an environment of its own"
        raise ImportError(text, name=error.name) from None
