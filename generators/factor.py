"""Arrays whose axes have names: the algebra of factors.

A factor is an array with one axis for each column of a clique. Multiplying and adding factors is broadcasting once
their axes are in line (`spread`); summing out columns leaves a marginal (`sum_onto`); `contract` does both for two
factors at once, as one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from generators.domain import Clique

FloatArray = npt.NDArray[np.float64]


def spread(values: FloatArray, columns: Sequence[str], onto: Sequence[str]) -> FloatArray:
    """Return a view of the factor that broadcasts against one over the columns `onto`, which contain its own.

    Examples
    --------
    >>> spread(np.array([[1.0, 2.0], [3.0, 4.0]]), ("c", "a"), ("a", "b", "c")).shape
    (2, 1, 2)
    """
    order = sorted(range(len(columns)), key=lambda axis: onto.index(columns[axis]))
    own = iter(order)
    held = set(columns)
    shape = [values.shape[next(own)] if name in held else 1 for name in onto]
    return values.transpose(order).reshape(shape)


def sum_onto(values: FloatArray, columns: Sequence[str], keep: Sequence[str]) -> FloatArray:
    """Return the factor with every column but those in `keep` summed out, axes in the order of `keep`.

    Examples
    --------
    >>> sum_onto(np.array([[1.0, 2.0], [3.0, 4.0]]), ("a", "b"), ("b",))
    array([4., 6.])
    """
    wanted = set(keep)
    rest = tuple(axis for axis, name in enumerate(columns) if name not in wanted)
    summed: FloatArray = values.sum(axis=rest) if rest else values
    left = [name for name in columns if name in wanted]
    return summed.transpose([left.index(name) for name in keep])


def contract(
    first: FloatArray, first_columns: Sequence[str], second: FloatArray, second_columns: Sequence[str], keep: set[str]
) -> tuple[FloatArray, Clique]:
    """Return the product of two factors with the columns outside `keep` summed out, and its columns.

    Columns that only one factor has and nobody keeps are summed out before the product, which is a matrix product over
    the shared ones, batched over those that are shared and kept.

    Examples
    --------
    >>> values, columns = contract(np.eye(2), ("a", "b"), np.array([[1.0, 2.0], [3.0, 4.0]]), ("b", "c"), {"a", "c"})
    >>> columns, values.tolist()
    (('a', 'c'), [[1.0, 2.0], [3.0, 4.0]])
    """
    in_first, in_second = set(first_columns), set(second_columns)
    batch = [name for name in first_columns if name in in_second and name in keep]
    joined = [name for name in first_columns if name in in_second and name not in keep]
    left = [name for name in first_columns if name not in in_second and name in keep]
    right = [name for name in second_columns if name not in in_first and name in keep]
    a = sum_onto(first, first_columns, [*batch, *left, *joined])
    b = sum_onto(second, second_columns, [*batch, *joined, *right])
    n_batch, n_left = len(batch), len(left)
    batch_shape = a.shape[:n_batch]
    left_shape = a.shape[n_batch : n_batch + n_left]
    right_shape = b.shape[n_batch + len(joined) :]
    n_joined = math.prod(a.shape[n_batch + n_left :])
    product = np.matmul(
        a.reshape(*batch_shape, math.prod(left_shape), n_joined),
        b.reshape(*batch_shape, n_joined, math.prod(right_shape)),
    )
    return product.reshape((*batch_shape, *left_shape, *right_shape)), (*batch, *left, *right)
