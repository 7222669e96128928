"""Packages: what a dealer writes, what a courier sees of it, and what becomes of it when bytes are altered."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import random

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import smpc
from privacy.randomness import InsecureSeededRng
from smpc.dealing import check_separate, deal
from smpc.errors import DealerNotSeparate, MaterialDamaged, MaterialError, PackageRefused, TripleReused
from smpc.kinds import (
    Bit,
    Digits,
    Gate,
    Gates,
    MatrixProduct,
    OneHot,
    Product,
    Square,
    Subsets,
    Truncation,
    all_of,
    node,
)
from smpc.material import Dealer, Kind, MaterialStore
from smpc.package import Manifest, PackageFile
from smpc.pieces import MaskedPieces
from smpc.plans import amounts_of, describe, kind_of, plan_text, read_plan
from smpc.prg import Prg
from smpc.record import Record
from smpc.ring import FIELD61, P61, RING64
from smpc.sealed_files import load_sealing_key, new_sealing_key, opened, sealed
from smpc.store import install_package
from smpc.streams import reduce_to_elements
from smpc.transport.roster import Identity, new_identity_file

KINDS = [
    Product(RING64),
    Product(FIELD61),
    Square(FIELD61),
    MatrixProduct(RING64, 3, 4, 2),
    all_of(3),
    node(4, whole=True),
    Digits(8),
    Digits(64),
    Truncation(20),
    Bit(RING64),
    Bit(FIELD61),
    Gate(),
    Gates(2, 3),
    Subsets(4),
    OneHot(3),
    MaskedPieces(16, 3, 2, 20),
]
TAMPERINGS = 10_000


def package_of(path):
    return PackageFile(os.open(path, os.O_RDONLY), path.name)


def shares_of(path, kind, start, count):
    package = package_of(path)
    last = package.manifest.is_last
    arrays = kind.streams(package.seed, with_tied=not last, start=start).draw(count)
    return [*arrays, *(package.correction(kind, start, count) if last else [])]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_the_shares_of_items_from_packages_fit_wherever_they_are_entered(tmp_path, kind):
    dealt = deal({kind: 300}, 3, tmp_path)
    for start, count in ((0, 300), (0, 1), (17, 40), (299, 1), (300, 0)):
        shares = [shares_of(path, kind, start, count) for path in dealt.files]
        fields = [*kind.free, *kind.tied]
        totals = []
        for field, *parts in zip(fields, *shares, strict=True):
            total = parts[0]
            for part in parts[1:]:
                total = field.domain.add(total, part)
            totals.append(total)
        for got, wanted in zip(totals[len(kind.free) :], kind.tie(totals[: len(kind.free)], count), strict=True):
            assert (got == wanted).all()


def test_corrections_are_found_over_the_borders_of_chunks(tmp_path):
    # 2^17 items of 8 bytes fill a chunk.
    kind = Square(RING64)
    last = deal({Digits(8): 10, kind: 3 * 2**17 + 5}, 2, tmp_path).files[1]
    whole = package_of(last).correction(kind, 0, 3 * 2**17 + 5)[0]
    package = package_of(last)
    for start, count in ((2**17 - 3, 7), (2**17, 2**17), (5, 2**18), (3 * 2**17 + 4, 1)):
        assert (package.correction(kind, start, count)[0] == whole[start : start + count]).all()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, 9), min_size=1, max_size=6), skipped=st.integers(0, 20))
def test_an_item_is_the_same_however_those_before_it_are_cut_or_passed_over(kind, cuts, skipped):
    whole = MaterialStore(bytes(32), corrections=None).take(kind, skipped + sum(cuts))
    store = MaterialStore(bytes(32), corrections=None)
    store.skip(kind, skipped)
    pieces = [store.take(kind, cut) for cut in cuts]
    for field, expected, *got in zip([*kind.free, *kind.tied], whole, *pieces, strict=True):
        assert (np.concatenate(got, axis=-1) == expected[..., skipped * field.length :]).all()


@given(prepared=st.integers(0, 20), taken=st.integers(0, 10), start=st.integers(10, 40))
def test_items_that_were_expanded_ahead_are_passed_over_as_well(prepared, taken, start):
    kind = Product(FIELD61)
    whole = MaterialStore(bytes(32), corrections=None).take(kind, 50)
    store = MaterialStore(bytes(32), corrections=None)
    store.prepare({kind: prepared})
    store.take(kind, taken)
    store.skip(kind, start)
    for got, expected in zip(store.take(kind, 5), whole, strict=True):
        assert (got == expected[start : start + 5]).all()
    with pytest.raises(TripleReused):
        store.skip(kind, start)


def test_items_that_failed_on_their_way_are_burnt_with_those_expanded_before():
    class Broken:
        calls = 0

        def correction(self, kind, _start, count):
            self.calls += 1
            if self.calls == 2:
                raise ConnectionError
            return [np.zeros(field.shape(count), field.domain.dtype) for field in kind.tied]

    kind, whole = Product(RING64), MaterialStore(bytes(32), corrections=None).take(Product(RING64), 30)
    store = MaterialStore(bytes(32), corrections=Broken())
    store.prepare({kind: 5})
    with pytest.raises(ConnectionError):
        store.take(kind, 10)
    assert (store.take(kind, 3)[0] == whole[0][10:13]).all()


@given(start=st.integers(0, 2**20), length=st.integers(1, 100))
def test_a_stream_can_be_entered_at_any_byte(start, length):
    whole = Prg(bytes(32), b"x", start=start - start % 4096).bytes(start % 4096 + length)
    assert Prg(bytes(32), b"x", start=start).bytes(length) == whole[start % 4096 :]


def test_a_stream_is_entered_at_the_block_of_its_counter():
    far = 2**63 + 5
    block = Prg(bytes(32), b"x", start=far - far % 16).bytes(32)
    assert Prg(bytes(32), b"x", start=far).bytes(20) == block[5:25]
    for bad in (-1, 2**64, 1.0, True):
        with pytest.raises(ValueError, match="start"):
            Prg(bytes(32), b"x", start=bad)


def test_a_word_that_is_no_element_is_replaced_by_one_of_its_position():
    # 61 bits equal to p come once in 2^61 words, so they are put there.
    def spare(position):
        return Prg(bytes(32), f"spare {position}".encode())

    words = np.array([5, P61, 2**64 - 1, P61 - 1, 2**61], dtype=np.uint64)
    reduce_to_elements(words, P61, 100, spare)
    replaced = [int(spare(100 + i).uint64(1)[0]) & P61 for i in (1, 2)]
    assert words.tolist() == [5, *replaced, P61 - 1, 0]
    # However the stream is cut, the same.
    other = np.array([2**64 - 1], dtype=np.uint64)
    reduce_to_elements(other, P61, 102, spare)
    assert int(other[0]) == replaced[1]


def test_a_small_field_is_drawn_uniformly():
    # Of 3 bits, 3 of 8 words are refused: what stands in for them shows, as it never does for p = 2^61 - 1.
    sample_size, alpha = 20_000, 1e-4
    words = InsecureSeededRng(7).uint64(sample_size)
    biased = (words & np.uint64(7)) % np.uint64(5)
    reduce_to_elements(words, 5, 0, lambda position: Prg(bytes(32), f"spare {position}".encode()))
    assert stats.chisquare(np.bincount(words.astype(int), minlength=5)).pvalue > alpha
    # Negative control: reduced instead of drawn again.
    assert stats.chisquare(np.bincount(biased.astype(int), minlength=5)).pvalue < alpha


def test_the_package_of_the_last_party_holds_the_corrections_and_the_others_next_to_nothing(tmp_path):
    amounts = {Product(RING64): 1000, Digits(16): 100}
    dealt = deal(amounts, 3, tmp_path)
    assert dealt.n_bytes[0] == dealt.n_bytes[1] < 500
    # One chunk of each kind, with 16 bytes of checksum.
    assert dealt.n_bytes[2] - dealt.n_bytes[1] == 8 * 1000 + 2 * 4 * 100 + 2 * 16
    assert [path.stat().st_size for path in dealt.files] == list(dealt.n_bytes)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in dealt.files)
    with pytest.raises(PackageRefused, match="overwritten"):
        deal(amounts, 3, tmp_path)


def test_two_batches_have_nothing_in_common(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    one, two = (package_of(deal({Digits(8): 5}, 2, tmp_path / name).files[0]) for name in "ab")
    assert one.manifest.batch != two.manifest.batch
    assert one.seed != two.seed
    assert one.manifest.fingerprint != two.manifest.fingerprint


def everything(path):
    """Return all that a package says, after it was installed and read."""
    package = package_of(path)
    package.check()
    tied = [package.correction(kind, 0, count) for kind, count in package.manifest.amounts.items()]
    return package.manifest, package.seed, [words.tobytes() for arrays in tied for words in arrays]


def tampered(data, rng):
    """Return the bytes with one to four alterations: bits, bytes, pieces cut out, doubled, cut off, added."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        length = rng.choice((1, 2, 8, 16, 64, 500))
        what = rng.randrange(6)
        if what == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            data[at : at + length] = rng.randbytes(len(data[at : at + length]))
        elif what == 2:
            del data[at : at + length]
        elif what == 3:
            data[at:at] = data[at : at + length]
        elif what == 4:
            del data[at:]
        else:
            data += rng.randbytes(length)
    return bytes(data)


@pytest.mark.slow
def test_ten_thousand_tamperings_of_a_package_fail_or_change_nothing(tmp_path):
    path = deal({Product(RING64): 40, Digits(16): 9, all_of(3): 2}, 2, tmp_path).files[1]
    data, rng = path.read_bytes(), random.Random(5)
    honest, refused = everything(path), 0
    target = tmp_path / "tampered"
    descriptor = os.open(target, os.O_CREAT | os.O_RDWR)
    for _ in range(TAMPERINGS):
        other = tampered(data, rng)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, other, 0)
        try:
            package = PackageFile(descriptor, "tampered")
            package.check()
            tied = [package.correction(kind, 0, count) for kind, count in package.manifest.amounts.items()]
        except MaterialDamaged:
            refused += 1
        else:
            assert (package.manifest, package.seed, [w.tobytes() for each in tied for w in each]) == honest
            assert other == data
    assert refused > TAMPERINGS * 0.95


@pytest.mark.slow
def test_tamperings_of_a_record_fail_or_cut_off_entries_that_the_other_parties_remember(tmp_path):
    # What is cut off at the end cannot be told from the file alone: those are found in the agreement.
    path = tmp_path / "record"
    path.touch()
    descriptor = os.open(path, os.O_RDWR)
    from smpc.record import Entry, Type

    record = Record(descriptor, "record", fingerprint=bytes(32))
    for number in range(1, 6):
        record.add([Entry(Type.STATEMENT, value=number, tag=bytes([number] * 16)), Entry(Type.MARK, 0, 10 * number)])
    data, rng = path.read_bytes(), random.Random(6)
    for _ in range(TAMPERINGS // 5):
        other = tampered(data, rng)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, other, 0)
        try:
            Record(descriptor, "record", fingerprint=bytes(32))
        except MaterialDamaged:
            continue
        assert data.startswith(other[: len(other) - len(other) % 64])


@pytest.fixture
def keys(tmp_path):
    new_identity_file(tmp_path / "dealer.pem")
    new_sealing_key(tmp_path / "party.pem")
    return Identity.load(0, tmp_path / "dealer.pem"), load_sealing_key(tmp_path / "party.pem")


def test_a_sealed_package_is_read_by_its_party_alone(tmp_path, keys):
    dealer, key = keys
    other = X25519PrivateKey.generate()
    recipients = [key.public_key().public_bytes_raw(), other.public_key().public_bytes_raw()]
    dealt = deal({Product(RING64): 20_000}, 2, tmp_path, recipients=recipients, identity=dealer)
    manifest = install_package(dealt.files[1], tmp_path / "store", key=other, dealer=dealer.public)
    assert (manifest.party, manifest.batch) == (1, dealt.batch)
    for wrong, trusted in ((key, dealer.public), (other, bytes(32)), (other, key.public_key().public_bytes_raw())):
        with pytest.raises(PackageRefused):
            install_package(dealt.files[1], tmp_path / "no", key=wrong, dealer=trusted)
    with pytest.raises(MaterialDamaged):
        install_package(dealt.files[1], tmp_path / "no")
    assert sorted(path.name for path in tmp_path.iterdir() if "no" in path.name) == []
    assert manifest.batch.hex().encode() not in dealt.files[1].read_bytes()


def test_a_sealed_file_that_was_altered_anywhere_is_refused(tmp_path, keys):
    dealer, key = keys
    content = os.urandom(3 * 65536)
    data = b"".join(sealed([content[:100_000], content[100_000:]], key.public_key().public_bytes_raw(), dealer))
    path = tmp_path / "sealed"

    def read(data):
        path.write_bytes(data)
        with path.open("rb") as file:
            return b"".join(opened(file, key, dealer.public))

    assert read(data) == content
    header, piece = 168, 65536 + 16
    rng = random.Random(1)
    places = [*range(0, header, 5), *(rng.randrange(len(data)) for _ in range(60)), len(data) - 1]
    altered = [data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :] for i in places]
    first, second = data[header : header + piece], data[header + piece : header + 2 * piece]
    altered += [data[:header] + second + first + data[header + 2 * piece :], data[: header + piece], data[:header], b""]
    altered += [data + b"x", data + first, data[:-1], data[:header] + first + data[header:]]
    for other in altered:
        with pytest.raises(PackageRefused):
            read(other)


def test_somebody_elses_package_is_not_taken_for_the_dealers(tmp_path, keys):
    """A courier who seals material that it knows, in the dealer's name."""
    dealer, key = keys
    new_identity_file(tmp_path / "courier.pem")
    courier = Identity.load(0, tmp_path / "courier.pem")
    recipient = key.public_key().public_bytes_raw()
    path = tmp_path / "forged"
    honest = b"".join(sealed([b"material"], recipient, dealer))
    forged = b"".join(sealed([b"known"], recipient, courier))
    for data in (forged, forged[:72] + dealer.public + forged[104:], honest[:168] + forged[168:]):
        path.write_bytes(data)
        with path.open("rb") as file, pytest.raises(PackageRefused):
            list(opened(file, key, dealer.public))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_a_kind_is_described_and_found_again(kind):
    assert kind_of(json.loads(json.dumps(describe(kind)))) == kind


def test_every_kind_can_be_described():
    for module in pkgutil.walk_packages(smpc.__path__, "smpc."):
        importlib.import_module(module.name)
    defined = {each for each in Kind.__subclasses__() if each.__module__.startswith("smpc.")}
    assert {each.__name__ for each in defined} == {type(kind).__name__ for kind in KINDS}


@pytest.mark.parametrize(
    "description",
    [
        {"kind": "Product"},
        {"kind": "Product", "domain": "RING65"},
        {"kind": "Product", "domain": "BITS"},
        {"kind": "Product", "domain": "RING64", "more": 1},
        {"kind": "Kind"},
        {"kind": "Field", "domain": "RING64"},
        {"kind": "os.system"},
        {"kind": 3},
        {"kind": "Digits", "width": 7},
        {"kind": "Digits", "width": True},
        {"kind": "Digits", "width": "8"},
        {"kind": "Truncation", "n_bits": 1000},
        {"kind": "MaskedPieces", "width": 64, "log_pieces": 2**23, "degree": 1, "mask_bits": 2},
        {"kind": "Subsets", "n_bits": 200},
        {"kind": "Truncation", "n_bits": -1},
        {"kind": "MatrixProduct", "domain": "RING64", "m": 2**30, "k": 2**30, "n": 1},
        {"kind": "Conjunctions", "monomials": []},
        {"kind": "Conjunctions", "monomials": [[]]},
        {"kind": "Conjunctions", "monomials": [list(range(40))]},
        {"kind": "Conjunctions", "monomials": [[0, -1]]},
    ],
)
def test_what_is_no_kind_is_refused(description):
    with pytest.raises(PackageRefused):
        kind_of(description)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"format": "synthema-plan-1", "n_parties": 2}',
        '{"format": "synthema-plan-2", "n_parties": 2, "material": []}',
        '{"format": "synthema-plan-1", "n_parties": 2, "n_parties": 3, "material": []}',
        '{"format": "synthema-plan-1", "n_parties": NaN, "material": []}',
        '{"format": "synthema-plan-1", "n_parties": 2, "material": [{"kind": "Gate"}]}',
        '{"format": "synthema-plan-1", "n_parties": 2, "material": [{"kind": "Gate", "count": 0}]}',
        '{"format": "synthema-plan-1", "n_parties": 2, "material": [{"kind": "Gate", "count": 1.0}]}',
        '{"format": "synthema-plan-1", "n_parties": 2, "material": [%s, %s]}' % (('{"kind": "Gate", "count": 1}',) * 2),
        "[" * 100_000,
    ],
)
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(PackageRefused):
        read_plan(text)


@given(counts=st.lists(st.integers(1, 2**40), min_size=len(KINDS), max_size=len(KINDS)), n_parties=st.integers(2, 5))
def test_a_plan_is_read_as_it_was_written(counts, n_parties):
    amounts = dict(zip(KINDS, counts, strict=True))
    assert read_plan(plan_text(amounts, n_parties)) == (amounts, n_parties)
    assert amounts_of([]) == {}


def test_a_manifest_of_no_batch_is_refused():
    for batch, n_parties, party in ((bytes(15), 2, 0), (bytes(16), 1, 0), (bytes(16), 6, 0), (bytes(16), 2, 2)):
        with pytest.raises(PackageRefused):
            Manifest(batch, n_parties, party, {})


def test_a_dealer_that_runs_the_relay_or_a_party_is_refused():
    check_separate("Trust Office", relay=None, parties=["A", "B"])
    for dealer, relay, parties in (("A", "a", ["B"]), ("LKH Graz", "hub", ["x", "L.K.H. graz"])):
        with pytest.raises(DealerNotSeparate, match="reconstruct"):
            check_separate(dealer, relay=relay, parties=parties)


def test_nothing_secret_is_shown(tmp_path):
    path = deal({Product(RING64): 10}, 2, tmp_path).files[1]
    package = package_of(path)
    assert repr(package) == "PackageFile(party=1, kinds=1)"
    assert package.seed.hex() not in repr(package.manifest)
    assert repr(Product(RING64).streams(package.seed, with_tied=True)) == "Streams(<hidden>)"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MaterialError) as caught:
        package_of(path)
    assert package.seed.hex() not in str(caught.value)


def test_the_dealer_and_one_party_can_reconstruct_an_input():
    """What the documentation says of a dealer that colludes: with one party's messages it sees what was multiplied."""
    dealer = Dealer(2, rng=InsecureSeededRng(3))
    a = [store.take(Product(RING64), 1)[0] for store in (dealer.store(0), dealer.store(1))]
    secret = np.array([42], dtype=np.uint64)
    opened_mask = secret - (a[0] + a[1])
    everything_dealt = [Product(RING64).streams(seed, with_tied=False).draw(1)[0] for seed in dealer._seeds]
    assert opened_mask + everything_dealt[0] + everything_dealt[1] == secret
