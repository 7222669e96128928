"""The Merkle tree of RFC 6962: one root for the whole journal, and short proofs about it.

leaf      SHA-256(0x00 || data); inner node SHA-256(0x01 || left || right); empty tree SHA-256("")
size      number of leaves; a tree of n leaves splits at the largest power of two below n
level h   the complete subtrees of 2^h leaves; node k of level h covers the leaves k 2^h to (k + 1) 2^h - 1

The two prefixes keep a node from being shown as a leaf. No leaf is ever doubled to fill a level: two lists of leaves
have two roots.

Sources: RFC 6962, section 2.1 (hashes and proofs); RFC 9162, sections 2.1.3.2 and 2.1.4.2 (verification).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeGuard

from privacy._checks import check_count

EMPTY_ROOT = hashlib.sha256(b"").digest()
# The largest size that other implementations can write down; far beyond any journal. It bounds a verifier's work.
MAX_SIZE = 2**63 - 1
_BYTES = 32


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf.

    Examples
    --------
    >>> leaf_hash(b"").hex()[:16]
    '6e340b9cffb37a98'
    """
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node, from its children's hashes, 32 bytes each."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: enough to append and to tell the root, in 32 bytes for each one bit of `size`.

    size     number of leaves so far
    hashes   roots of the complete subtrees that the leaves fall into, from left (largest) to right; the powers of two
             of `size`

    Raises ValueError if `hashes` does not fit `size`. Not thread-safe.

    Examples
    --------
    >>> frontier = Frontier()
    >>> for data in (b"a", b"b", b"c"):
    ...     frontier.append(leaf_hash(data))
    >>> frontier.size, len(frontier.hashes)
    (3, 2)
    >>> Frontier(frontier.size, frontier.hashes).root == frontier.root
    True
    """

    __slots__ = ("_hashes", "_size")

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        check_count("size", size, least=0)
        if not _are_hashes(hashes) or len(hashes) != size.bit_count():
            raise ValueError(f"hashes must be {size.bit_count()} hashes of {_BYTES} bytes for a tree of size {size}")
        self._size = size
        self._hashes = list(hashes)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """Roots of the complete subtrees, from left to right: what the constructor takes."""
        return tuple(self._hashes)

    @property
    def root(self) -> bytes:
        """Root of the tree as it is now."""
        return _fold(reversed(self._hashes)) or EMPTY_ROOT

    def append(self, leaf: bytes) -> None:
        """Add a leaf by its hash. One node is hashed on average, log2(size) at most. Raises ValueError."""
        _check_hash("leaf", leaf)
        carry = self._size
        while carry & 1:
            leaf = node_hash(self._hashes.pop(), leaf)
            carry >>= 1
        self._hashes.append(leaf)
        self._size += 1


class Tree:
    """A whole tree in memory, for proofs: 64 bytes for each leaf. Not thread-safe.

    Examples
    --------
    >>> tree = Tree()
    >>> tree.extend(leaf_hash(data) for data in (b"a", b"b", b"c"))
    >>> proof = tree.inclusion_proof(2, 3)
    >>> verify_inclusion(leaf_hash(b"c"), 2, 3, proof, tree.root())
    True
    >>> verify_consistency(2, tree.root(2), 3, tree.root(), tree.consistency_proof(2, 3))
    True
    """

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        # One bytearray for each level: a million leaves as bytes objects would take three times the room.
        self._levels = [bytearray()]

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0]) // _BYTES

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        """Add leaves by their hashes: all of them, or none and ValueError."""
        leaves = list(leaf_hashes)
        for leaf in leaves:
            _check_hash("a leaf hash", leaf)
        self._levels[0] += b"".join(leaves)
        for height, level in enumerate(self._levels):
            if height + 1 == len(self._levels):
                if len(level) < 2 * _BYTES:
                    break
                # The loop goes on with the level that is added here.
                self._levels.append(bytearray())
            above = self._levels[height + 1]
            for at in range(2 * len(above), len(level) - 2 * _BYTES + 1, 2 * _BYTES):
                above += hashlib.sha256(b"\x01" + level[at : at + 2 * _BYTES]).digest()

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first `size` leaves (all, if None). Raises ValueError if there are fewer."""
        size = self.size if size is None else self._checked("size", size, self.size)
        return self._edge(size, size.bit_length()) or EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the hashes that lead from leaf `index` to the root of the first `size` leaves, from the leaf up.

        Raises ValueError unless 0 <= index < size <= self.size.
        """
        self._checked("size", size, self.size)
        self._checked("index", index, size - 1)
        return tuple(self._path(index, size, 0))

    def consistency_proof(self, old_size: int, new_size: int) -> tuple[bytes, ...]:
        """Return the hashes that show the first `old_size` leaves to be a prefix of the first `new_size`.

        The proof is empty if the sizes are equal, and from the empty tree, of which there is nothing to prove: whoever
        knew only that tree cannot check anything (`verify_consistency` says False).

        Raises ValueError unless 0 <= old_size <= new_size <= self.size.
        """
        self._checked("new_size", new_size, self.size)
        self._checked("old_size", old_size, new_size)
        if old_size in (0, new_size):
            return ()
        # RFC 6962, section 2.1.2: start at the last complete subtree of the old tree. If it is the whole old tree, the
        # verifier has its hash already.
        height = (old_size & -old_size).bit_length() - 1
        index = (old_size >> height) - 1
        start = [self._node(height, index)] if index else []
        return (*start, *self._path(old_size - 1, new_size, height))

    def _path(self, index: int, size: int, height: int) -> list[bytes]:
        """Return the siblings on the way from the subtree of 2^height leaves that holds leaf `index` to the root."""
        path = []
        while (size - 1) >> height:
            sibling = (index >> height) ^ 1
            if sibling < size >> height:
                path.append(self._node(height, sibling))
            elif sibling << height < size and (rest := self._edge(size, height)):
                # Right of us is an incomplete subtree; were it empty, our node would be its own parent.
                path.append(rest)
            height += 1
        return path

    def _edge(self, size: int, height: int) -> bytes | None:
        """Return the root of the leaves that the lowest `height` bits of `size` count; None if there are none."""
        low = [self._node(h, (size >> h) - 1) for h in range(height) if size >> h & 1]
        return _fold(low)

    def _node(self, height: int, index: int) -> bytes:
        return bytes(self._levels[height][index * _BYTES : (index + 1) * _BYTES])

    @staticmethod
    def _checked(name: str, value: int, most: int) -> int:
        check_count(name, value, least=0)
        if value > most:
            raise ValueError(f"{name} must be at most {most}, got {value}")
        return value


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether the proof shows the leaf at `index` of the tree of `size` leaves and that root.

    Anything malformed is False: wrong types, an index out of range, nodes that are missing, left over or not 32 bytes.
    Some sizes share their proofs, so take the size and the root from one signed checkpoint.

    Source: RFC 9162, section 2.1.3.2.
    """
    if not (_is_size(index) and _is_size(size) and index < size and _are_hashes((leaf_hash, root))):
        return False
    if not _are_hashes(proof):
        return False
    fn, sn, r = index, size - 1, leaf_hash
    for p in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Return whether the proof shows the old tree to be a prefix of the new one.

    Anything malformed is False, as in `verify_inclusion`; so is an old tree without leaves, since it says nothing about
    the new one, and an old tree that is larger than the new one.

    Source: RFC 9162, section 2.1.4.2.
    """
    if not (_is_size(old_size) and _is_size(new_size) and 0 < old_size <= new_size):
        return False
    if not (_are_hashes((old_root, new_root)) and _are_hashes(proof)):
        return False
    if old_size == new_size:
        return not proof and old_root == new_root
    # A complete old tree is its own start of the proof.
    path = [old_root, *proof] if old_size.bit_count() == 1 else list(proof)
    if not path:
        return False
    fn, sn = old_size - 1, new_size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == old_root and sr == new_root


def _fold(hashes: Iterable[bytes]) -> bytes | None:
    """Return the root over complete subtrees, given from right (smallest) to left; None for none."""
    root = None
    for left in hashes:
        root = left if root is None else node_hash(left, root)
    return root


# Exact types: True is an int, and a subclass of bytes may compare as it likes.
def _is_size(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= MAX_SIZE


def _are_hashes(value: object) -> TypeGuard[Sequence[bytes]]:
    return isinstance(value, (list, tuple)) and all(type(item) is bytes and len(item) == _BYTES for item in value)


def _check_hash(name: str, value: object) -> None:
    if type(value) is not bytes or len(value) != _BYTES:
        raise ValueError(f"{name} must be {_BYTES} bytes")
