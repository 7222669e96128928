"""Exit codes, and what the packages' errors look like to the user of a command: one message, or one JSON document."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer

BAD_INPUT, REFUSED, STOPPED, NOT_VERIFIED = 2, 3, 4, 5


@contextmanager
def errors(*, as_json: bool) -> Iterator[None]:
    """Turn the packages' errors into one message and an exit code."""
    try:
        yield
    except ImportError as error:
        from synthema.collision import explanation

        text = explanation(error)
        if text is None:
            raise
        print(f"synthema: {text}", file=sys.stderr)
        raise typer.Exit(1) from None
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        fail(error, code, as_json=as_json)


@contextmanager
def input_errors(*, as_json: bool) -> Iterator[None]:
    """Report wrong files and entries as bad input, without a traceback."""
    try:
        yield
    except FileNotFoundError as error:
        fail(ValueError(f"{Path(str(error.filename)).name} is not found"), BAD_INPUT, as_json=as_json)
    except FileExistsError as error:
        name = Path(str(error.filename or error.args[0])).name
        fail(ValueError(f"{name} exists: no key is overwritten"), BAD_INPUT, as_json=as_json)
    except (ValueError, OSError) as error:
        fail(error, BAD_INPUT, as_json=as_json)


@contextmanager
def argument_errors(*, as_json: bool) -> Iterator[None]:
    """Report arguments that a package refuses, and files that cannot be read or written, as bad input."""
    try:
        yield
    except (ValueError, OSError) as error:
        fail(error, BAD_INPUT, as_json=as_json)


@contextmanager
def generator_errors(*, as_json: bool) -> Iterator[None]:
    """Report what generators refuse, and files that cannot be written, as bad input."""
    from generators.errors import GeneratorError

    try:
        yield
    except (GeneratorError, OSError) as error:
        fail(error, BAD_INPUT, as_json=as_json)


def exit_code(error: Exception) -> int | None:
    """Return the exit code of an error that is reported without a traceback, or None."""
    from privacy import LedgerError, SchemaError, UnsupportedEvent
    from synthema.errors import PolicyError, SiteRefused, StudyError, SynthemaError, TableError

    if isinstance(error, TableError | StudyError | PolicyError | SchemaError | UnsupportedEvent):
        return BAD_INPUT
    if isinstance(error, SiteRefused):
        return REFUSED
    if isinstance(error, SynthemaError):
        return STOPPED
    if isinstance(error, LedgerError):
        from privacy.ledger import ProofInvalid, WitnessConflict, WitnessRefused

        if isinstance(error, ProofInvalid):
            return NOT_VERIFIED
        # A witness that says no says so for good; one that cannot be asked stops us, as a restored ledger does.
        return REFUSED if isinstance(error, WitnessRefused | WitnessConflict) else STOPPED
    # Who has not imported it cannot have raised its errors.
    anonymise_errors = sys.modules.get("anonymise.errors")
    if anonymise_errors is not None and isinstance(error, anonymise_errors.AnonymiseError):
        if isinstance(error, anonymise_errors.NotAnonymisable):
            return REFUSED
        return STOPPED if isinstance(error, anonymise_errors.GuaranteeBroken) else BAD_INPUT
    smpc_errors = sys.modules.get("smpc.errors")
    if smpc_errors is not None and isinstance(error, smpc_errors.SmpcError):
        if isinstance(error, smpc_errors.PackageRefused):
            return BAD_INPUT
        return REFUSED if isinstance(error, smpc_errors.DealerNotSeparate) else STOPPED
    return None


def fail(error: Exception, code: int, *, as_json: bool) -> NoReturn:
    """Print the error and end the command."""
    if as_json:
        body: dict[str, Any] = {"error": type(error).__name__, "message": str(error), "exit_code": code}
        for name in ("site", "reason", "step", "size", "seen"):
            if hasattr(error, name):
                body[name] = getattr(error, name)
        if hasattr(error, "problems"):
            body["problems"] = [
                {"column": problem.column, "rule": problem.rule, "way_out": problem.way_out}
                for problem in error.problems
            ]
        print(json.dumps(body, indent=2))
    else:
        print(f"synthema: {error}", file=sys.stderr)
    raise typer.Exit(code)


def show(data: Any, text: str, *, as_json: bool) -> None:
    """Print the one or the other."""
    print(json.dumps(data, indent=2, allow_nan=False) if as_json else text)
