"""The privacy models by their definitions: fractions and loops, one class at a time. The fast ones must agree.

A class is a tuple of counts, one for each value of the sensitive attribute; so is the whole table.
"""

import itertools
import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np

from anonymise.classes import Attribute, Classes
from anonymise.models import AlphaKAnonymity, BetaLikeness, DeltaDisclosure, KAnonymity, LDiversity, TCloseness

NAME = "genotype"


def classes_of(counts, overall, hierarchy=None, people=None):
    """Classes with given counts, shape (n_classes, n_values)."""
    counts = np.array(counts, dtype=np.int64).reshape(-1, len(overall))
    nothing = np.empty(0, dtype=np.int64)
    attribute = Attribute(
        name=NAME,
        labels=tuple(f"v{i}" for i in range(len(overall))),
        overall=np.array(overall, dtype=np.float64),
        hierarchies=() if hierarchy is None else (hierarchy,),
        tuples=nothing,
        values=nothing,
        counts=nothing.astype(np.float64),
    )
    return Classes(
        sizes=counts.sum(axis=1),
        n_rows=int(sum(overall)),
        attributes={NAME: attribute},
        people=None if people is None else np.array(people, dtype=np.int64),
        _counts={NAME: counts},
    )


def written(number):
    return Fraction(str(number))


def shares(counts):
    return [Fraction(int(count), int(sum(counts))) for count in counts]


def total_variation(p, q):
    return sum((abs(a - b) for a, b in zip(p, q, strict=True)), Fraction(0)) / 2


def distance(kind, counts, overall, hierarchy=None):
    """Earth Mover's distance by the formulas of Li, Li, Venkatasubramanian 2007."""
    p, q = shares(counts), shares(overall)
    if kind == "equal":
        return total_variation(p, q)
    if kind == "ordered":
        p, q = zip(*((a, b) for a, b in zip(p, q, strict=True) if b), strict=True)
        if len(p) == 1:
            return Fraction(0)
        running = itertools.accumulate(a - b for a, b in zip(p, q, strict=True))
        return sum((abs(value) for value in list(running)[:-1]), Fraction(0)) / (len(p) - 1)
    return _hierarchical(p, q, hierarchy)


def _hierarchical(p, q, hierarchy):
    """Walk up the tree: what a subtree has too much is matched with what its siblings lack, as in the paper."""
    levels = [list(codes) for codes in hierarchy.codes]
    if len(set(levels[-1])) > 1:
        levels.append([0] * len(p))
    height = len(levels) - 1
    if height == 0:
        return Fraction(0)
    cost = Fraction(0)
    extra = {(0, group): sum((p[i] - q[i] for i in _members(levels[0], group)), Fraction(0)) for group in levels[0]}
    for level in range(1, height + 1):
        for group in set(levels[level]):
            children = {levels[level - 1][i] for i in _members(levels[level], group)}
            surplus = [extra[level - 1, child] for child in children]
            positive = sum((e for e in surplus if e > 0), Fraction(0))
            negative = -sum((e for e in surplus if e < 0), Fraction(0))
            cost += Fraction(level, height) * min(positive, negative)
            extra[level, group] = positive - negative
    return cost


def _members(codes, group):
    return [i for i, code in enumerate(codes) if code == group]


def passes(model, counts, overall, hierarchy=None):
    """Whether a class may be released."""
    counts = [int(count) for count in counts]
    size = sum(counts)
    present = sorted((count for count in counts if count), reverse=True)
    if isinstance(model, KAnonymity):
        return size >= model.k
    if isinstance(model, LDiversity):
        if len(present) < model.l:
            return False
        if model.kind == "distinct":
            return True
        if model.kind == "recursive":
            return present[0] < written(model.c) * sum(present[model.l - 1 :])
        # ln l <= H, times |C|, without logarithms.
        l = written(model.l)
        return math.prod(n**n for n in present) * l.numerator**size <= size**size * l.denominator**size
    if isinstance(model, TCloseness):
        return distance(model.distance, counts, overall, hierarchy) <= written(model.t)
    if isinstance(model, AlphaKAnonymity):
        return size >= model.k and present[0] <= written(model.alpha) * size
    pairs = [(k, q) for k, q in zip(shares(counts), shares(overall), strict=True) if k]
    if isinstance(model, BetaLikeness):
        return all(_gain_allowed(model, k, q) for k, q in pairs)
    assert isinstance(model, DeltaDisclosure)
    return all(_between(k / q, model.delta) for k, q in pairs)


def _gain_allowed(model, k, q):
    gain = (k - q) / q
    if gain > written(model.beta):
        return False
    with localcontext() as context:
        context.prec = 50
        return model.kind == "basic" or q == 1 or _decimal(gain) <= -_decimal(q).ln()


def _between(factor, delta):
    with localcontext() as context:
        context.prec = 50
        limit = Decimal(2) ** Decimal(str(delta))
        return 1 / limit < _decimal(factor) < limit


def _decimal(fraction):
    return Decimal(fraction.numerator) / Decimal(fraction.denominator)


def parts(counts):
    """All sub-multisets of a class, the empty one included."""
    return itertools.product(*(range(count + 1) for count in counts))


def largest_kept(model, counts, overall, hierarchy=None):
    """Rows of a class that some split into parts can release: the largest union of passing parts, by trying all."""
    good = [part for part in parts(counts) if sum(part) and passes(model, part, overall, hierarchy)]
    reachable = {(0,) * len(counts)}
    frontier = list(reachable)
    while frontier:
        some = frontier.pop()
        for part in good:
            union = tuple(a + b for a, b in zip(some, part, strict=True))
            if union not in reachable and all(a <= b for a, b in zip(union, counts, strict=True)):
                reachable.add(union)
                frontier.append(union)
    return max(sum(union) for union in reachable)
