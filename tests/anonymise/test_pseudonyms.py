import copy
import hmac
import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from anonymise import (
    KeyRing,
    PseudonymKey,
    encrypt_ids,
    pseudonym_buckets,
    pseudonymise,
    rotate_pseudonyms,
    rotation_table,
)
from anonymise.keys import hkdf_sha256
from anonymise.pseudonyms import macs

VECTORS = json.loads((Path(__file__).parent / "vectors" / "hmac_hkdf_sha256.json").read_text(encoding="utf-8"))
KEY = bytes(range(32))
DOMAIN = ("aml-2026", "patient")
N_IDS = 20_000
N_BUCKETS = 64
# Chi-squared test of uniformity on fixed ids under a fixed key: the outcome does not vary from run to run.
P_THRESHOLD = 1e-4


@pytest.mark.parametrize("case", VECTORS["hmac"]["tests"], ids=lambda case: case["comment"])
def test_hmac_vectors(case):
    mac = macs([case["text"]], bytes.fromhex(case["key"]))[0]
    assert (mac.hex() == case["mac"]) == (case["result"] == "valid")


@given(st.binary(min_size=0, max_size=200), st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=200)))
def test_macs_are_those_of_the_standard_library(key, texts):
    assert macs(texts, key) == [hmac.digest(key, text.encode(), "sha256") for text in texts]
    assert macs(texts, key, length=16) == [mac[:16] for mac in macs(texts, key)]


@pytest.mark.parametrize("case", VECTORS["hkdf"]["tests"], ids=lambda case: case["comment"])
def test_hkdf_vectors(case):
    okm = hkdf_sha256(
        bytes.fromhex(case["ikm"]),
        info=bytes.fromhex(case["info"]),
        salt=bytes.fromhex(case["salt"]) or None,
        length=case["length"],
    )
    assert (okm.hex() == case["okm"]) == (case["result"] == "valid")


def test_a_pseudonym_is_the_truncated_hmac_under_the_domains_subkey():
    info = b"".join(
        len(part).to_bytes(4, "big") + part
        for part in (b"synthema/anonymise/v1", b"pseudonym", b"aml-2026", b"patient")
    )
    extracted = hmac.digest(bytes(32), KEY, "sha256")
    subkey = hmac.digest(extracted, info + b"\x01", "sha256")
    assert pseudonymise(["MRN-1"], KEY, domain=DOMAIN)[0] == hmac.digest(subkey, b"MRN-1", "sha256")[:16].hex()


def test_equal_ids_get_equal_pseudonyms_whatever_they_are_stored_as():
    expected = pseudonymise(["7", "8", "7"], KEY, domain=DOMAIN).tolist()
    assert expected[0] == expected[2] != expected[1]
    for ids in (
        [7, 8, 7],
        [7.0, 8.0, 7.0],
        np.array([7, 8, 7]),
        pd.Series([7, 8, 7], dtype="Int64"),
        [" 7", "8 ", "7\t"],
    ):
        assert pseudonymise(ids, PseudonymKey(KEY), domain=DOMAIN).tolist() == expected
    assert pseudonymise(pd.Series(["7", "8", "7"], dtype="category"), KEY, domain=DOMAIN).tolist() == expected
    assert pseudonymise(["007"], KEY, domain=DOMAIN)[0] not in expected
    # Composed and decomposed e-acute are one letter.
    assert len(set(pseudonymise(["Zo\u00e9", "Zoe\u0301"], KEY, domain=DOMAIN))) == 1


def test_domains_keys_and_purposes_are_unlinkable():
    ids = [f"MRN-{i}" for i in range(100)]
    other_key = bytes(31) + b"\x01"
    sets = [
        set(pseudonymise(ids, key, domain=domain))
        for key, domain in [
            (KEY, DOMAIN),
            (KEY, ("aml-2027", "patient")),
            (KEY, ("aml-2026", "sample")),
            (KEY, ("aml-2026p", "atient")),
            (other_key, DOMAIN),
        ]
    ]
    assert len(set.union(*sets)) == 500
    key = PseudonymKey(KEY)
    assert key.subkey("pseudonym", DOMAIN) != key.subkey("bucket", DOMAIN)


def chi_squared_p(buckets):
    return stats.chisquare(np.bincount(buckets, minlength=N_BUCKETS)).pvalue


def test_buckets_are_uniform():
    ids = [f"MRN-{i}" for i in range(N_IDS)]
    assert chi_squared_p(pseudonym_buckets(ids, KEY, domain=DOMAIN, n_buckets=N_BUCKETS)) > P_THRESHOLD


def test_the_test_of_uniformity_notices_a_modulo_bias():
    # Negative control: a byte reduced modulo 60 fills buckets 0..15 more often, and buckets 60..63 never.
    found = macs([f"MRN-{i}" for i in range(N_IDS)], KEY)
    assert chi_squared_p(np.array([mac[0] % 60 for mac in found])) < P_THRESHOLD


def test_sites_with_one_key_agree_on_a_patients_bucket():
    vienna = pseudonym_buckets(["A-1", "B-2"], KEY, domain=DOMAIN, n_buckets=2**40)
    madrid = pseudonym_buckets(["B-2 ", "C-3"], KEY, domain=DOMAIN, n_buckets=2**40)
    assert vienna[1] == madrid[0]
    assert len({*vienna, *madrid}) == 3
    assert pseudonym_buckets(["x"], KEY, domain=DOMAIN, n_buckets=1).tolist() == [0]
    assert pseudonym_buckets(["x"], KEY, domain=DOMAIN, n_buckets=2**62)[0] >= 0


def test_a_bucket_tells_nothing_about_the_pseudonym():
    ids = [f"MRN-{i}" for i in range(64)]
    buckets = pseudonym_buckets(ids, KEY, domain=DOMAIN, n_buckets=256).tolist()
    names = pseudonymise(ids, KEY, domain=DOMAIN)
    for start in range(0, 32, 2):  # No byte of the pseudonym is the bucket.
        assert sum(bucket == int(name[start : start + 2], 16) for bucket, name in zip(buckets, names, strict=True)) < 8


def test_no_ids_give_no_pseudonyms():
    assert pseudonymise([], KEY, domain=DOMAIN).shape == (0,)
    assert pseudonym_buckets([], KEY, domain=DOMAIN, n_buckets=8).shape == (0,)


@pytest.mark.parametrize("bad", [None, float("nan"), pd.NA, pd.NaT, "", "  ", 1.5, True, b"MRN", ("MRN",)])
def test_a_missing_or_ambiguous_id_is_refused_without_being_named(bad):
    with pytest.raises(ValueError, match="every row needs one") as caught:
        pseudonymise(["MRN-secret", bad], KEY, domain=DOMAIN)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("bad", [b"short", bytes(31), bytes(33), "0" * 32, None])
def test_a_key_is_32_bytes_and_a_wrong_one_is_not_repeated(bad):
    with pytest.raises(ValueError, match="32 bytes") as caught:
        PseudonymKey(bad)
    assert repr(bad) not in str(caught.value)


def test_a_key_does_not_show_and_is_not_pickled():
    key = PseudonymKey(KEY)
    assert repr(key) == str(key) == "PseudonymKey(hidden)"
    with pytest.raises(TypeError, match="not serialised"):
        pickle.dumps(key)
    with pytest.raises(TypeError, match="not serialised"):
        copy.copy(key)
    assert set(PseudonymKey.generate().subkey("a", DOMAIN)) != set(PseudonymKey.generate().subkey("a", DOMAIN))


@pytest.mark.parametrize("n_buckets", [0, -2, 3, 1000, 2**63, 8.0, True])
def test_the_number_of_buckets_is_a_power_of_two(n_buckets):
    with pytest.raises(ValueError, match="n_buckets must be"):
        pseudonym_buckets(["x"], KEY, domain=DOMAIN, n_buckets=n_buckets)


def test_domains_and_ids_are_what_they_should_be():
    with pytest.raises(ValueError, match="neither empty"):
        pseudonymise(["x"], KEY, domain=("aml", ""))
    with pytest.raises(ValueError, match="not one text"):
        pseudonymise("MRN-1", KEY, domain=DOMAIN)


# ---------------------------------------------------------------- what an attacker can do

N_PATIENTS = 20_000
MRNS = [f"{number:06d}" for number in range(100_000, 100_000 + N_PATIENTS)]


def dictionary_attack(released, name_of):
    """Return how many released names an attacker reverses who can list all ids and compute `name_of`."""
    book = {name_of(text): text for text in MRNS}
    return sum(name in book for name in released)


def test_a_dictionary_of_all_ids_reverses_plain_hashes_and_no_pseudonym():
    import hashlib

    plain = [hashlib.sha256(text.encode()).hexdigest() for text in MRNS]
    assert dictionary_attack(plain, lambda text: hashlib.sha256(text.encode()).hexdigest()) == N_PATIENTS  # Control.
    # The attacker knows the method, the domain and another key.
    other = PseudonymKey(bytes(31) + b"\x01")
    ring = KeyRing({1: PseudonymKey(KEY)})
    public = hkdf_sha256(b"", info=b"aml-2026patient")
    guesses = [
        lambda text: hashlib.sha256(text.encode()).hexdigest()[:32],
        lambda text: hmac.digest(b"", text.encode(), "sha256").hex()[:32],
        lambda text: hmac.digest(public, text.encode(), "sha256").hex()[:32],
    ]
    released = pseudonymise(MRNS, KEY, domain=DOMAIN)
    versioned = [name.removeprefix("v1.") for name in pseudonymise(MRNS, ring, domain=DOMAIN)]
    tokens = encrypt_ids(MRNS, KEY, domain=DOMAIN)
    for guess in guesses:
        assert dictionary_attack([*released, *versioned, *tokens], guess) == 0
    assert not set(released) & set(pseudonymise(MRNS, other, domain=DOMAIN))
    assert not set(tokens) & set(encrypt_ids(MRNS, other, domain=DOMAIN))
    # And with the key it is reversed: pseudonymised data stay personal data.
    assert dictionary_attack(released, dict(zip(MRNS, released, strict=True)).get) == N_PATIENTS


def ranks_agree(one, other):
    """p of the hypothesis that the orders of two columns of names have nothing to do with each other."""
    return stats.spearmanr([int(name[:12], 16) for name in one], [int(name[:12], 16) for name in other]).pvalue


@pytest.mark.parametrize("make", [pseudonymise, encrypt_ids])
def test_two_domains_are_unlinkable_without_the_key(make):
    patients, samples = (make(MRNS, KEY, domain=("aml-2026", field)) for field in ("patient", "sample"))
    assert len({*patients, *samples}) == 2 * N_PATIENTS
    assert ranks_agree(patients, samples) > P_THRESHOLD
    # Bits agree as often as coins do: 32 hexadecimal digits of 20,000 pairs.
    bits = sum((int(a[:32], 16) ^ int(b[:32], 16)).bit_count() for a, b in zip(patients, samples, strict=True))
    assert abs(bits - 64 * N_PATIENTS) < 4 * np.sqrt(32 * N_PATIENTS)
    # Negative control: names that keep an order are linked at once.
    assert ranks_agree(patients, [f"{int(name[:12], 16) // 2:032x}"[-12:] for name in patients]) < P_THRESHOLD


def test_tables_and_sites_that_share_a_key_join_on_the_pseudonym():
    visits = pd.DataFrame({"mrn": ["7", "8", "7"], "hb": [9.1, 8.0, 9.9]})
    samples = pd.DataFrame({"patient": pd.array([8, 9], dtype="Int64"), "blasts": [0.3, 0.1]})
    visits["name"] = pseudonymise(visits["mrn"], PseudonymKey(KEY), domain=DOMAIN)
    samples["name"] = pseudonymise(samples["patient"], KEY, domain=DOMAIN)
    assert visits.merge(samples, on="name")[["mrn", "patient"]].values.tolist() == [["8", 8]]
    # A domain of one site keeps its names apart from the others'.
    vienna, madrid = (pseudonymise(["8"], KEY, domain=(*DOMAIN, site))[0] for site in ("vienna", "madrid"))
    assert len({vienna, madrid, visits["name"][1]}) == 3


def test_a_rotation_table_leads_from_the_old_names_to_the_new_ones_and_hides_the_order():
    old = KeyRing({1: PseudonymKey(KEY)})
    ring = old.rotated(PseudonymKey(bytes(31) + b"\x01"))
    ids = [f"MRN-{i}" for i in range(500)]
    table = rotation_table([*ids, *ids, " MRN-0"], ring, domain=DOMAIN, old=1)
    before, after = pseudonymise(ids, old, domain=DOMAIN), pseudonymise(ids, ring, domain=DOMAIN)
    assert dict(zip(table["old"], table["new"], strict=True)) == dict(zip(before, after, strict=True))
    assert table["new"].tolist() != after.tolist()
    # Part old, part new: in the transition both are read.
    mixed = pd.Series([*before[:3], *after[2:5]])
    assert rotate_pseudonyms(mixed, table).tolist() == after[[0, 1, 2, 2, 3, 4]].tolist()
    with pytest.raises(ValueError, match="column 'pseudonym': holds a pseudonym that the rotation table does not know"):
        rotate_pseudonyms(["v1." + "0" * 32], table)
    with pytest.raises(ValueError, match="no version 9"):
        rotation_table(ids, ring, domain=DOMAIN, old=9)


def test_the_version_of_the_key_stands_in_front():
    ring = KeyRing({1: PseudonymKey(KEY)})
    names = pseudonymise(["MRN-1", "MRN-2"], ring, domain=DOMAIN)
    assert {name[:3] for name in names} == {"v1."}
    assert {len(name) for name in names} == {35}
    # Another version, another sub-key: a version cut off does not make names of single keys.
    assert names[0][3:] != pseudonymise(["MRN-1"], KEY, domain=DOMAIN)[0]


def test_an_id_that_lost_its_digits_as_a_double_is_refused():
    with pytest.raises(ValueError, match="column 'mrn': an id was read as a decimal number and has lost digits"):
        pseudonymise(pd.Series([9007199254740993.0], name="mrn"), KEY, domain=DOMAIN)
