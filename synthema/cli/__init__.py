"""The `synthema` command.

Exit codes: 0 done; 1 unexpected failure; 2 bad input (table, schema, study, arguments); 3 refused by a site (policy,
budget) or a witness; 4 stopped (a site failed, an overlap, a result that may not be opened, a model that cannot be
fitted; a ledger that refuses, is behind its anchor, or cannot be read); 5 a ledger, an export or a proof does not
verify, or the doctor found an error.
"""

from __future__ import annotations

from synthema.cli.app import main

__all__ = ["main"]
