"""Runs on material from disk: crashes waste items, restored and copied stores are found, no item serves twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from smpc.agreement import Statement
from smpc.errors import (
    FrameRejected,
    MaterialBusy,
    MaterialDiscarded,
    MaterialExhausted,
    MaterialMismatch,
    MaterialNotAgreed,
    MaterialRolledBack,
    MaterialUnavailable,
    PeerUnavailable,
    TripleReused,
)
from smpc.kinds import Bit, Digits, MatrixProduct, Product
from smpc.ring import FIELD61, RING64
from smpc.store import open_store
from tests_support import material_parties as parties

AMOUNTS = {Product(RING64): 2000, Product(FIELD61): 500, MatrixProduct(RING64, 2, 3, 4): 40, Digits(16): 900}
