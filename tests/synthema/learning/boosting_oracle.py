"""Boosted trees on pooled rows, node by node and split by split, in Python's integers: what a joint fit is to equal."""

from __future__ import annotations

import math

import numpy as np

UNIT = 2**12


def side_masks(column):
    """Which codes go left, for each split of a column: written down from what the documentation says."""
    n_known = column.n_codes - column.nullable
    codes = np.arange(column.n_codes)
    masks = []
    if column.categories and n_known > 2:
        masks += [codes == code for code in range(n_known)]
    else:
        for code in range(1, n_known):
            masks.append(codes < code)
            if column.nullable:
                masks.append((codes < code) | (codes == n_known))
    if column.nullable:
        masks.append(codes != n_known)
    return masks


def nearest(a, b):
    """The integer nearest to a / b, ties up."""
    return (2 * a + b) // (2 * b)


def derivatives(scores, y):
    p = 1 / (1 + np.exp(-np.clip(scores, -5, 5)))
    return [int(v) for v in np.rint((p - y) * UNIT)], [int(v) for v in np.rint(p * (1 - p) * UNIT)]


def fit(
    codes, y, columns, *, rounds, depth, learning_rate=0.1, l2=1.0, min_leaf=20, min_cell=5, min_gain=0.0, rounded=True
):
    """Return (start, trees): a tree is a value, or [(column, mask), left, right]. `codes`: shape (n, columns).

    rounded   False: values of leaves from sums as they are, which no joint fit opens
    """
    rate = nearest(int(y.sum()) * UNIT, len(y)) / UNIT
    start = math.log(rate / (1 - rate))
    extra = round(l2 * UNIT)
    total = np.zeros(len(y), dtype=np.int64)
    masks = [(j, mask) for j, column in enumerate(columns) for mask in side_masks(column)]

    step = UNIT * next(2**k for k in range(10) if 2**k >= min_cell)

    def value(total, rows, h):
        return nearest(-total * UNIT, sum(h[i] for i in rows) + extra)

    def gain(rows, g, h):
        total = sum(g[i] for i in rows)
        return -value(total, rows, h) * total

    def allowed(rows):
        having = int(y[rows].sum())
        return min(having, len(rows) - having) >= min_cell and len(rows) >= min_leaf

    def grow(rows, level, g, h):
        best, found = gain(rows, g, h) + round(min_gain * UNIT**2), None
        for j, mask in masks if level < depth else ():
            goes = mask[codes[rows, j]]
            left, right = rows[goes], rows[~goes]
            if allowed(left) and allowed(right) and gain(left, g, h) + gain(right, g, h) > best:
                best, found = gain(left, g, h) + gain(right, g, h), (j, mask, left, right)
        if found is None:
            exact = sum(g[i] for i in rows)
            own = value(step * nearest(exact, step) if rounded else exact, rows, h)
            total[rows] += own
            return own
        j, mask, left, right = found
        return [(j, mask), grow(left, level + 1, g, h), grow(right, level + 1, g, h)]

    trees = []
    for _ in range(rounds):
        g, h = derivatives(start + learning_rate * 2.0**-12 * total, y)
        tree = grow(np.arange(len(y)), 0, g, h)
        if isinstance(tree, int):
            break
        trees.append(tree)
    return start, trees


def plain(ensemble):
    """The trees of a joint fit, in the form of `fit`."""

    def tree(node):
        if isinstance(node, int):
            return node
        split = ensemble.splits[node[0]]
        return [(split.feature, split.goes_left), tree(node[1]), tree(node[2])]

    return [tree(each) for each in ensemble.trees]


def same(a, b):
    """Whether two trees are equal, integer by integer."""
    if isinstance(a, int) or isinstance(b, int):
        return a == b
    return a[0][0] == b[0][0] and np.array_equal(a[0][1], b[0][1]) and same(a[1], b[1]) and same(a[2], b[2])


def area_under_curve(y, scores):
    """The probability that somebody with the event has a higher score than somebody without; ties count half."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    having = int(y.sum())
    return (ranks[y == 1].sum() - having * (having + 1) / 2) / (having * (len(y) - having))
