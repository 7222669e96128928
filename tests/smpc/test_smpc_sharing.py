import hmac
import itertools
from collections import Counter

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from privacy.randomness import InsecureSeededRng
from smpc import FIELD61, RING64, DomainMismatch, RangeExceeded, SharePackage, pool, reconstruct, share
from smpc.sharing import expand_seed

DOMAINS = [RING64, FIELD61]


@pytest.mark.parametrize("domain", DOMAINS)
@given(data=st.data(), n_parties=st.integers(2, 5))
def test_sharing_and_reconstructing_is_the_identity(domain, data, n_parties):
    bound = domain.largest
    values = data.draw(st.lists(st.integers(-bound, bound) | st.sampled_from([-bound, 0, bound]), max_size=6))
    packages = share(np.array(values, dtype=np.int64), n_parties, domain=domain)
    assert reconstruct(packages).tolist() == values


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_sum_of_five_sites_shares_is_the_sum_of_their_counts(domain):
    counts = np.arange(5 * 12).reshape(5, 3, 4) * 1000
    by_site = [share(table, 3, domain=domain) for table in counts]
    total = np.zeros((3, 4), dtype=np.uint64)
    for party in range(3):
        for packages in by_site:
            total = domain.add(total, packages[party].expand())
    assert domain.to_signed(total).tolist() == counts.sum(axis=0).tolist()


@pytest.mark.parametrize("domain", DOMAINS)
@given(data=st.data())
def test_pooled_packages_are_those_of_the_sum(domain, data):
    n_parties, n_sites = data.draw(st.integers(2, 5)), data.draw(st.integers(1, 6))
    bound = domain.largest // n_sites
    tables = [data.draw(st.lists(st.integers(-bound, bound), min_size=3, max_size=3)) for _ in range(n_sites)]
    by_site = [share(np.array(table), n_parties, domain=domain) for table in tables]
    before = [package.values.copy() for packages in by_site for package in packages if package.values is not None]
    sums = [pool(packages, domain=domain) for packages in zip(*by_site, strict=True)]
    after = [package.values for packages in by_site for package in packages if package.values is not None]
    assert all(np.array_equal(one, two) for one, two in zip(before, after, strict=True))
    joined = [SharePackage(domain, (3,), values=words) for words in sums]
    assert reconstruct(joined).tolist() == np.array(tables, dtype=object).sum(axis=0).tolist()


def test_packages_that_do_not_belong_together_are_not_pooled():
    with pytest.raises(ValueError, match="no package"):
        pool([])
    with pytest.raises(DomainMismatch):
        pool([share([1], 2)[0], share([1], 2, domain=FIELD61)[0]])
    with pytest.raises(DomainMismatch):
        pool([share([1], 2, domain=FIELD61)[0]])
    with pytest.raises(ValueError, match="one shape"):
        pool([share([1], 2)[1], share([1, 2], 2)[1]])
    no_element = SharePackage(FIELD61, (1,), values=np.array([2**61 - 1], dtype=np.uint64))
    with pytest.raises(RangeExceeded):
        pool([no_element], domain=FIELD61)


@pytest.mark.parametrize("domain", DOMAINS)
def test_all_but_one_package_are_32_bytes(domain):
    packages = share(np.zeros((1000, 3), dtype=np.int64), 4, domain=domain)
    assert [package.n_bytes for package in packages] == [32, 32, 32, 24_000]
    assert len({package.seed for package in packages}) == 4


def test_any_shares_but_one_have_a_law_that_does_not_know_the_secret():
    # Exactly, by enumeration in Z_8: with uniform r_1, r_2 and r_3 = x - r_1 - r_2, any two are uniform on all pairs.
    q = 8
    for x in range(q):
        triples = [(r, s, (x - r - s) % q) for r, s in itertools.product(range(q), repeat=2)]
        for kept in itertools.combinations(range(3), 2):
            assert set(Counter(tuple(t[i] for i in kept) for t in triples).values()) == {1}


SAMPLE_SIZE = 1 << 15
ALPHA = 1e-6


def _independence_pvalue(pair):
    """Chi-square that two words, by their top 4 and low 4 bits, are uniform on all 256 x 256 combinations of halves."""
    pvalues = []
    for shift in (0, 57):
        a, b = (((w >> np.uint64(shift)) & np.uint64(15)).astype(int) for w in pair)
        pvalues.append(stats.chisquare(np.bincount(16 * a + b, minlength=256)).pvalue)
    return min(pvalues)


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("secret", [0, 1, -5])
def test_any_two_of_three_shares_look_uniform_whatever_the_secret(domain, secret):
    packages = share(np.full(SAMPLE_SIZE, secret), 3, domain=domain, rng=InsecureSeededRng(11))
    shares = [package.expand() for package in packages]
    for pair in itertools.combinations(shares, 2):
        assert _independence_pvalue(pair) > ALPHA
    # Negative control: the same seed for two parties.
    assert _independence_pvalue((shares[0], shares[0])) < ALPHA


def test_two_sharings_of_one_value_have_no_word_in_common():
    first, second = (share(np.zeros(1000, dtype=np.int64), 2) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert not (a.expand() == b.expand()).any()


def test_a_package_shows_domain_and_shape_only():
    packages = share([123456789, 5], 2, rng=InsecureSeededRng(3))
    for package in packages:
        assert repr(package) == f"SharePackage(RING64, shape=(2,), n_bytes={package.n_bytes})"
        assert "123456789" not in str(package)


def test_packages_that_do_not_belong_together_are_refused():
    a, b = share([1], 2), share([1], 2, domain=FIELD61)
    with pytest.raises(DomainMismatch):
        reconstruct([a[0], b[1]])
    with pytest.raises(ValueError, match="shape"):
        reconstruct([a[0], share([1, 2], 2)[1]])
    with pytest.raises(ValueError, match="n_parties"):
        reconstruct(a[:1])


@pytest.mark.parametrize("n_parties", [0, 1, 6, True, 2.0])
def test_numbers_of_parties_outside_2_to_5_are_refused(n_parties):
    with pytest.raises(ValueError, match="n_parties"):
        share([1], n_parties)


def test_a_package_holds_exactly_one_of_seed_and_values():
    with pytest.raises(ValueError, match="either"):
        SharePackage(RING64, (1,))
    with pytest.raises(ValueError, match="either"):
        SharePackage(RING64, (1,), seed=bytes(32), values=np.zeros(1, np.uint64))
    with pytest.raises(ValueError, match="shape"):
        SharePackage(RING64, (2,), values=np.zeros(1, np.uint64))


def test_a_number_beyond_the_field_is_refused_before_anything_is_shared():
    with pytest.raises(RangeExceeded):
        share([2**60], 2, domain=FIELD61)


def test_a_seed_expands_to_the_same_share_everywhere():
    # Fixes the format, from its definition: parties of different versions would otherwise add up to noise.
    key = hmac.digest(bytes(32), b"synthema/smpc/prg/1\x00share", "sha256")
    block = Cipher(AES(key), ECB()).encryptor().update(bytes(16))
    words = [int.from_bytes(block[:8], "little"), int.from_bytes(block[8:], "little")]
    assert expand_seed(bytes(32), RING64, (2,)).tolist() == words
    assert expand_seed(bytes(32), FIELD61, (2,)).tolist() == [word % 2**61 for word in words]
