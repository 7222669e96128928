"""The tree is RFC 6962's, every proof verifies, and nothing else does."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.ledger.merkle import (
    EMPTY_ROOT,
    MAX_SIZE,
    Frontier,
    Tree,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)

# The leaves that the Certificate Transparency reference implementations test with, and the roots they publish.
REFERENCE_LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
REFERENCE_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
MOST = 70
LEAVES = [leaf_hash(b"%d" % i) for i in range(MOST)]
OTHER = leaf_hash(b"other")


def mth(leaves):
    """RFC 6962, section 2.1, word for word, over leaf hashes."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def subproof(m, leaves, complete):
    """RFC 6962, section 2.1.2, word for word."""
    if m == len(leaves):
        return [] if complete else [mth(leaves)]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    if m <= k:
        return [*subproof(m, leaves[:k], complete), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def path(m, leaves):
    """RFC 6962, section 2.1.1, word for word."""
    if len(leaves) == 1:
        return []
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return [*path(m, leaves[:k]), mth(leaves[k:])] if m < k else [*path(m - k, leaves[k:]), mth(leaves[:k])]


@pytest.fixture(scope="module")
def tree():
    tree = Tree()
    tree.extend(LEAVES)
    return tree


@pytest.fixture(scope="module")
def roots():
    return [mth(LEAVES[:n]) for n in range(MOST + 1)]


def mutations(proof):
    """Yield four wrong proofs: one node too many at either end, one too few, one changed bit."""
    yield (*proof, OTHER)
    yield (OTHER, *proof)
    if proof:
        yield proof[:-1]
        yield (bytes([proof[0][0] ^ 1]) + proof[0][1:], *proof[1:])


@pytest.mark.parametrize("size", range(9))
def test_reference_roots(size):
    tree, frontier = Tree(), Frontier()
    hashes = [leaf_hash(data) for data in REFERENCE_LEAVES[:size]]
    tree.extend(hashes)
    for leaf in hashes:
        frontier.append(leaf)
    assert tree.root().hex() == frontier.root.hex() == mth(hashes).hex() == REFERENCE_ROOTS[size]


def test_every_inclusion_proof_up_to_70_leaves_is_the_rfcs_and_its_mutations_fail(tree, roots):
    for n in range(1, MOST + 1):
        for i in range(n):
            proof = tree.inclusion_proof(i, n)
            if n in (1, 2, 3, 7, 8, 9, 37, 64, 65, MOST):
                assert list(proof) == path(i, LEAVES[:n])
            assert verify_inclusion(LEAVES[i], i, n, proof, roots[n])
            assert not any(verify_inclusion(LEAVES[i], i, n, wrong, roots[n]) for wrong in mutations(proof))
            assert not verify_inclusion(OTHER, i, n, proof, roots[n])
            assert not verify_inclusion(LEAVES[i], i, n, proof, roots[n - 1])
            if i + 1 < n:
                assert not verify_inclusion(LEAVES[i], i + 1, n, proof, roots[n])


def test_every_consistency_proof_up_to_70_leaves_is_the_rfcs_and_its_mutations_fail(tree, roots):
    for n in range(1, MOST + 1):
        for m in range(1, n + 1):
            proof = tree.consistency_proof(m, n)
            if n in (1, 2, 3, 7, 8, 9, 37, 64, 65, MOST):
                assert list(proof) == subproof(m, LEAVES[:n], True)
            assert verify_consistency(m, roots[m], n, roots[n], proof)
            assert not any(verify_consistency(m, roots[m], n, roots[n], wrong) for wrong in mutations(proof))
            assert not verify_consistency(m, OTHER, n, roots[n], proof)
            assert not verify_consistency(m, roots[m], n, OTHER, proof)
            assert not verify_consistency(m - 1, roots[m], n, roots[n], proof)
            if m < n:
                assert not verify_consistency(m + 1, roots[m], n, roots[n], proof)


def test_a_proof_of_another_length_than_the_claimed_size_asks_for_is_not_verified(tree, roots):
    # Some sizes share their proofs: a root and its size are believed together, as one signed checkpoint.
    for n in (1, 2, 4, 5, 8, 13):
        for i in range(n):
            proof = tree.inclusion_proof(i, n)
            for claimed in range(i + 1, MOST):
                if len(tree.inclusion_proof(i, claimed)) != len(proof):
                    assert not verify_inclusion(LEAVES[i], i, claimed, proof, roots[n])


def test_a_history_that_was_rewritten_has_no_consistency_proof(tree, roots):
    for changed in range(20):
        other = Tree()
        other.extend([*LEAVES[:changed], OTHER, *LEAVES[changed + 1 : 41]])
        for proof in (other.consistency_proof(20, 41), tree.consistency_proof(20, 41)):
            assert not verify_consistency(20, roots[20], 41, other.root(), proof)


def test_the_empty_tree_proves_nothing(tree, roots):
    assert tree.root(0) == Tree().root() == Frontier().root == EMPTY_ROOT
    assert tree.consistency_proof(0, 5) == ()
    for proof in ((), (roots[5],), tree.consistency_proof(3, 5)):
        assert not verify_consistency(0, EMPTY_ROOT, 5, roots[5], proof)
        assert not verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, proof)
        assert not verify_inclusion(LEAVES[0], 0, 0, proof, EMPTY_ROOT)


def test_a_node_is_not_a_leaf_and_no_leaf_is_doubled():
    pair = node_hash(LEAVES[0], LEAVES[1])
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != pair
    assert mth([LEAVES[0], LEAVES[1], LEAVES[2]]) != mth([LEAVES[0], LEAVES[1], LEAVES[2], LEAVES[2]])


WRONG_HASHES = [None, b"", bytes(31), bytes(33), "a" * 32, bytearray(32), 0]
WRONG_NUMBERS = [None, -1, True, False, "1", 1.0, b"1", 2**63, 1 << 4000]
WRONG_PROOFS = [None, b"", "", b"\0" * 64, 5, iter(()), {}]


def test_malformed_arguments_are_not_verified_and_raise_nothing(tree, roots):
    good = [LEAVES[1], 1, 5, tree.inclusion_proof(1, 5), roots[5]]
    assert verify_inclusion(*good)
    wrong = [WRONG_HASHES, WRONG_NUMBERS, WRONG_NUMBERS, WRONG_PROOFS, WRONG_HASHES]
    for place, values in enumerate(wrong):
        for value in values:
            assert not verify_inclusion(*good[:place], value, *good[place + 1 :])
    good = [3, roots[3], 5, roots[5], tree.consistency_proof(3, 5)]
    assert verify_consistency(*good)
    wrong = [WRONG_NUMBERS, WRONG_HASHES, WRONG_NUMBERS, WRONG_HASHES, WRONG_PROOFS]
    for place, values in enumerate(wrong):
        for value in values:
            assert not verify_consistency(*good[:place], value, *good[place + 1 :])
    for node in WRONG_HASHES:
        for place in range(3):
            proof = list(tree.inclusion_proof(1, 5))
            assert not verify_inclusion(LEAVES[1], 1, 5, [*proof[:place], node, *proof[place + 1 :]], roots[5])
            proof = list(tree.consistency_proof(3, 5))
            assert not verify_consistency(3, roots[3], 5, roots[5], [*proof[:place], node, *proof[place + 1 :]])


def test_true_is_not_a_size_even_where_one_would_be_right(roots):
    assert verify_inclusion(LEAVES[0], 0, 1, (), roots[1])
    assert not verify_inclusion(LEAVES[0], False, 1, (), roots[1])
    assert not verify_inclusion(LEAVES[0], 0, True, (), roots[1])
    assert not verify_consistency(True, roots[1], 1, roots[1], ())


def test_the_largest_sizes_are_verified_in_few_steps():
    leaf = root = LEAVES[0]
    proof = []
    # The leftmost leaf of a tree of 2^63 - 1 leaves has 63 siblings.
    for i in range(63):
        proof.append(LEAVES[i % MOST])
        root = node_hash(root, proof[-1])
    assert verify_inclusion(leaf, 0, MAX_SIZE, proof, root)
    assert not verify_inclusion(leaf, 0, MAX_SIZE, proof[:-1], root)
    assert not verify_inclusion(leaf, 0, MAX_SIZE + 1, proof, root)


@given(st.lists(st.integers(0, 9), max_size=8))
def test_leaves_may_come_in_any_portions(portions):
    tree, frontier, sent = Tree(), Frontier(), 0
    for number in portions:
        part = [leaf_hash(b"%d" % i) for i in range(sent, sent + number)]
        sent += number
        tree.extend(part)
        frontier = Frontier(frontier.size, frontier.hashes)
        for leaf in part:
            frontier.append(leaf)
        assert tree.size == frontier.size == sent
        assert tree.root() == frontier.root == mth([leaf_hash(b"%d" % i) for i in range(sent)])


def test_what_does_not_fit_is_refused_and_changes_nothing(tree, roots):
    for size, hashes in [
        (1, ()),
        (0, LEAVES[:1]),
        (3, LEAVES[:1]),
        (2, [b"short"]),
        (1, LEAVES[0]),
        (-1, ()),
        (True, LEAVES[:1]),
    ]:
        with pytest.raises(ValueError):
            Frontier(size, hashes)
    frontier, grown = Frontier(1, LEAVES[:1]), Tree()
    grown.extend(LEAVES[:3])
    for wrong in WRONG_HASHES:
        with pytest.raises(ValueError):
            frontier.append(wrong)
        with pytest.raises(ValueError):
            grown.extend([LEAVES[3], wrong])
    assert (frontier.size, frontier.root, grown.size, grown.root()) == (1, roots[1], 3, roots[3])
    for index, size in [(0, 0), (1, 1), (-1, 1), (0, MOST + 1), (True, 3), (0, True), ("0", 1)]:
        with pytest.raises(ValueError):
            tree.inclusion_proof(index, size)
    for old, new in [(2, 1), (-1, 1), (1, MOST + 1), (True, 3), (0, "1")]:
        with pytest.raises(ValueError):
            tree.consistency_proof(old, new)
    for size in (-1, MOST + 1, True, "1"):
        with pytest.raises(ValueError):
            tree.root(size)


def test_pymerkle_makes_the_same_roots_and_proofs():
    pymerkle = pytest.importorskip("pymerkle")
    ours, theirs = Tree(), pymerkle.InmemoryTree(algorithm="sha256")
    assert theirs.get_root() == EMPTY_ROOT
    for i in range(40):
        theirs.append_entry(b"%d" % i)
    ours.extend(LEAVES[:40])
    for n in range(1, 41):
        assert ours.root(n) == theirs.get_root(n)
        for i in range(n):
            # It counts leaves from one, and begins the path with the leaf itself.
            leaf, *proof = theirs.prove_inclusion(i + 1, n).path
            assert leaf == LEAVES[i]
            assert tuple(proof) == ours.inclusion_proof(i, n)
            # Its consistency path is of another form; its verdict on it is about the same two roots.
            pymerkle.verify_consistency(ours.root(i + 1), ours.root(n), theirs.prove_consistency(i + 1, n))
