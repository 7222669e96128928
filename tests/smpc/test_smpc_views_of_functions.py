"""What a coalition sees of the functions of real numbers has one law, whatever the others put in; openings are uniform.

The adversary is that of test_smpc_views_of_bits.py, with its negative controls: material that is used twice or does not
hide must be caught. Beside it, the words opened for a piecewise polynomial are uniform by themselves.
"""

import numpy as np
import pytest
from scipy import stats
from test_smpc_views_of_bits import ALPHA, CAUGHT, least_pvalue, mirrored, of_the_last_party, reused, tampered_take

from privacy.randomness import InsecureSeededRng
from smpc import run_local
from smpc.kinds import Gates
from smpc.pieces import MaskedPieces

pytestmark = pytest.mark.slow

FRAC_BITS = 8
N_UNIFORM = 40_000


def of_real(max_abs, ask):
    """Numbers put in as units of 2^-8; the last party's is the one that is varied."""

    async def protocol(s, x):
        a = await s.input(np.ldexp(x.astype(float), -FRAC_BITS), max_abs=max_abs, frac_bits=FRAC_BITS)
        s.truncation = "stochastic"
        return [*a, await ask(s, a[-1], a[0])]

    return protocol


def of_integers(max_abs, ask):
    """As `of_real`, of the numbers as they are."""

    async def protocol(s, x):
        a = await s.input(x, max_abs=max_abs)
        return [*a, await ask(s, a[-1], a[0])]

    return protocol


async def twice(s, x, _):
    await s.sigmoid(x)
    return await s.sigmoid(-x)


async def two_logarithms(s, x, _):
    await s.log(x, least=0.5, most=4.0)
    return await s.log(4.5 - x, least=0.5, most=4.0)


PROTOCOLS = {
    "sigmoid": (of_real(2.0, lambda s, x, _: s.sigmoid(x)), (-300, 512)),
    "sigmoid beyond the cut": (of_real(40.0, lambda s, x, _: s.sigmoid(x)), (5, 10_000)),
    "exp beyond the cut": (of_real(40.0, lambda s, x, _: s.exp(x, most=2.0)), (512, -10_000)),
    "log": (of_real(4.0, lambda s, x, _: s.log(x, least=0.5)), (128, 1024)),
    "sqrt of zero": (of_real(4.0, lambda s, x, _: s.sqrt(x)), (0, 1024)),
    "quotient": (of_real(4.0, lambda s, x, y: s.divide(y, x, least=0.5)), (128, 1024)),
    "rounded quotient": (of_integers(1024, lambda s, x, y: s.rounded_quotient(y, x, n_bits=6, least=128)), (128, 1024)),
}


# The others are for the long suite.
QUICK = [("sigmoid beyond the cut", (0,)), ("quotient", (0,)), ("log", (1, 2))]


@pytest.mark.parametrize(
    ("name", "coalition"),
    [
        pytest.param(name, coalition, marks=() if (name, coalition) in QUICK else pytest.mark.slow)
        for name in PROTOCOLS
        for coalition in ((0,), (1, 2))
    ],
)
def test_what_a_coalition_sees_does_not_depend_on_the_others_inputs(name, coalition, monkeypatch):
    protocol, choices = PROTOCOLS[name]
    if coalition == (1, 2):
        protocol = mirrored(protocol)
    assert least_pvalue(protocol, choices, own=300, coalition=coalition, monkeypatch=monkeypatch) > ALPHA


LEAKS = {
    "a mask used twice": (of_real(2.0, twice), (-300, 5), reused(MaskedPieces)),
    "gates used twice": (of_real(4.0, two_logarithms), (128, 1001), reused(Gates)),
    "a mask of too few bits": (
        of_real(2.0, lambda s, x, _: s.sigmoid(x)),
        (-300, 512),
        of_the_last_party(MaskedPieces, lambda r: r >> r.dtype.type(4)),
    ),
    "gates without masks": (
        of_real(4.0, lambda s, x, _: s.log(x, least=0.5)),
        (128, 1024),
        of_the_last_party(Gates, np.zeros_like),
    ),
}


@pytest.mark.parametrize("name", LEAKS)
def test_material_that_does_not_hide_is_caught_by_the_same_test(name, monkeypatch):
    protocol, choices, change = LEAKS[name]
    tampered_take(monkeypatch, change)
    assert least_pvalue(protocol, choices, own=300, coalition=(0,), monkeypatch=monkeypatch) < CAUGHT


def opened_for_pieces(seed):
    async def protocol(s, x):
        s.truncation = "stochastic"
        await s.sigmoid((await s.input(x, max_abs=2.0, frac_bits=FRAC_BITS))[0])

    x = np.full(N_UNIFORM, 1.25)
    run = run_local(protocol, [x, x], record_views=True, rng=InsecureSeededRng(seed))
    record = run.views[0].record
    return next(words for name, words in record.opened if name.startswith("pieces"))


@pytest.mark.parametrize("shift", [0, 8])
def test_the_opened_word_is_uniform(shift):
    octets = (opened_for_pieces(1) >> np.uint16(shift)) & np.uint16(255)
    assert stats.chisquare(np.bincount(octets, minlength=256)).pvalue > ALPHA


def test_an_opening_under_a_mask_of_fifteen_of_sixteen_bits_is_caught(monkeypatch):
    # Both parties' shares of the mask lose their highest bit: their sum is far from uniform.
    tampered_take(
        monkeypatch,
        lambda _, kind, arrays: (
            [arrays[0] & np.uint16(2**15 - 1), *arrays[1:]] if isinstance(kind, MaskedPieces) else arrays
        ),
    )
    octets = opened_for_pieces(1) >> np.uint16(8)
    assert stats.chisquare(np.bincount(octets, minlength=256)).pvalue < CAUGHT
