"""Oracles by mpmath: a module that names its DIGITS has them in every test."""

import pytest
from mpmath import mp


@pytest.fixture(autouse=True)
def _digits(request):
    with mp.workdps(getattr(request.module, "DIGITS", mp.dps)):
        yield
