"""An order that is no order: what tests on the order of released rows must notice."""

import numpy as np


class Unshuffled:
    """A random source that is none: the negative control of the tests on order."""

    def bytes(self, n):
        return bytes(n)

    def uint64(self, size):
        return np.zeros(size, dtype=np.uint64)

    def below(self, bound, size):
        return np.full(size, min(bound, 1) - 1)

    def permutation(self, n):
        return np.arange(n)
