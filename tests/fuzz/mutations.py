"""Inputs that are nearly right, and the one loop that feeds them to a parser.

Every case has a number; the same number is the same input, so a failure can be repeated. `SYNTHEMA_FUZZ_RUNS=100000
SYNTHEMA_FUZZ_SEED=7 pytest tests/fuzz` is a long run with other inputs.
"""

import json
import os
import random
import tracemalloc

RUNS = int(os.environ.get("SYNTHEMA_FUZZ_RUNS", "150"))
SEED = os.environ.get("SYNTHEMA_FUZZ_SEED", "0")
# What a parser may take beside a multiple of what it was given: a fixed buffer, a module that it imports late.
FIXED_BYTES = 4 << 20
TIMES_INPUT = 100

NUMBERS = (0, 1, -1, 2, 255, 256, 2**16 - 1, 2**16, 2**31, 2**32 - 1, 2**53, 2**63, 2**64 - 1, 2**64, 10**30, 10**400)
TEXTS = ("", "a", "../x", "\x00", "é", "\ud800", "x" * 5000, "NaN", "__class__", "RING64", "{}", "1e999")
# More digits than Python turns into an integer, and more depth than it has stack.
RAW = (b"1" * 5000, b"[" * 20_000, b'{"a":' * 20_000, b"NaN", b"-Infinity", b"1e999", b"\xff\xfe", b"\xef\xbb\xbf{}")


def runs(name, mutate, seeds, *, times=1):
    """Yield inputs; the number of the one that fails is in the name of its random source."""
    for number in range(max(1, RUNS // times)):
        source = random.Random(f"{SEED} {name} {number}")
        yield number, mutate(source, source.choice(seeds))


def fuzz(name, parse, allowed, seeds, *, mutate=None, times=1, fixed=FIXED_BYTES):
    """Feed a parser; it returns, or raises one of its own errors, and asks for little memory. Return what happened."""
    outcomes = {"parsed": 0, "refused": 0}
    for seed in seeds:
        # Imports and caches are not the input's doing; and what is right must be taken.
        parse(seed)
    tracemalloc.start()
    try:
        for number, data in runs(name, mutate or mutated, seeds, times=times):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            try:
                parse(data)
                outcomes["parsed"] += 1
            except allowed:
                outcomes["refused"] += 1
            except Exception as error:
                raise AssertionError(f"{name} case {number}: {type(error).__name__}: {error}") from error
            used = tracemalloc.get_traced_memory()[1] - before
            size = len(data) if isinstance(data, bytes) else sum(map(len, data))
            assert used <= fixed + TIMES_INPUT * size, f"{name} case {number}: {used} bytes for an input of {size}"
    finally:
        tracemalloc.stop()
    # A parser that takes everything, or a mutator that breaks nothing, would test nothing.
    assert outcomes["refused"] > 0
    return outcomes


def mutated(source, data):
    """Return bytes that differ from the given ones in one or a few places."""
    data = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 5))):
        at = source.randrange(len(data) + 1)
        match source.randrange(9):
            case 0 | 1 if data:
                data[at % len(data)] ^= 1 << source.randrange(8)
            case 2:
                data[at:at] = source.randbytes(source.choice((1, 4, 8, 100)))
            case 3:
                del data[at : at + source.choice((1, 2, 8, 1000))]
            case 4:
                data[at : at + 8] = source.choice((0, 1, 2**31, 2**32 - 1, 2**48, 2**63, 2**64 - 1)).to_bytes(
                    8, "little"
                )
            case 5:
                data[at : at + 4] = source.choice((0, 1, 2**16, 2**31, 2**32 - 1)).to_bytes(4, "little")
            case 6:
                other = source.randrange(len(data) + 1)
                data[at:at] = data[min(at, other) : min(at, other) + 200]
            case 7:
                data = bytearray(source.randbytes(source.randrange(300)))
            case _:
                del data[at:]
    return bytes(data)


def mutated_json(source, data):
    """Return JSON in which one or a few values were replaced, dropped, doubled or added; sometimes what is no JSON."""
    if source.random() < 0.2:
        return mutated(source, data)
    if source.random() < 0.05:
        return source.choice(RAW)
    tree = json.loads(data)
    for _ in range(source.choice((1, 1, 2, 4))):
        tree = _changed(source, tree)
    text = json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()
    if source.random() < 0.1:
        # Somewhere inside, what no library writes.
        at = source.randrange(len(text) + 1)
        text = text[:at] + source.choice(RAW) + text[at:]
    return text


def _changed(source, tree):
    if isinstance(tree, dict) and tree and source.random() < 0.85:
        key = source.choice(sorted(tree))
        copy = dict(tree)
        match source.randrange(8):
            case 0:
                del copy[key]
            case 1:
                copy[source.choice(TEXTS)] = copy[key]
            case _:
                copy[key] = _changed(source, copy[key])
        return copy
    if isinstance(tree, list) and tree and source.random() < 0.85:
        at = source.randrange(len(tree))
        copy = list(tree)
        match source.randrange(6):
            case 0:
                del copy[at]
            case 1:
                copy *= source.choice((2, 50))
            case _:
                copy[at] = _changed(source, copy[at])
        return copy
    return source.choice(
        (source.choice(NUMBERS), source.choice(TEXTS), None, True, 0.5, -1e308, [], {}, [[]], [1, "a"])
    )
