"""No patient makes up more than nine tenths of a sum that is opened; decided on shares, refused without a value."""

import contextlib
import re

import numpy as np
import pytest
from governance_cases import ANNA, CURVES, SITES, site, study
from hypothesis import given
from hypothesis import strategies as st

from smpc import run_local
from synthema.errors import DisclosureRefused, ModelFailed
from synthema.learning import dominance
from synthema.learning.families import FAMILIES
from synthema.learning.glm_sums import Encoding, site_sums
from synthema.learning.newton import Newton
from synthema.learning.responses import Patients
from synthema.pipeline import run

PATIENTS = st.lists(st.integers(0, 2**30), min_size=1, max_size=6)


def on_shares(tables) -> bool:
    """Return what the parties find: a table of every site, shape (patients, sums)."""
    inputs = [np.concatenate([np.sum(table, axis=0), np.max(table, axis=0)]) for table in tables]
    n_sums = np.shape(tables[0])[1]

    async def protocol(session, x):
        parts = await session.input(x)
        return await dominance.any_dominated(session, [p[:n_sums] for p in parts], [p[n_sums:] for p in parts])

    results = run_local(protocol, inputs=inputs).results
    assert len(set(results)) == 1
    return results[0]


@given(st.lists(PATIENTS, min_size=2, max_size=4))
def test_the_parties_find_what_the_pooled_rows_show(sites):
    everybody = [value for values in sites for value in values]
    dominated = 10 * max(everybody) > 9 * sum(everybody)
    assert on_shares([np.array(values)[:, None] for values in sites]) == dominated


@pytest.mark.parametrize(("first", "rest", "dominated"), [(9, 1, False), (10, 1, True), (91, 9, True), (0, 0, False)])
def test_the_border_is_nine_tenths_of_the_sum_over_all_sites(first, rest, dominated):
    assert on_shares([np.array([[first]]), np.array([[rest]])]) == dominated


def test_one_dominated_sum_among_many_is_found_wherever_it_stands():
    fair = np.full((3, 5), 100)
    for where in range(5):
        skewed = fair.copy()
        skewed[1, where] = 100_000
        assert on_shares([fair, skewed, fair])
    assert not on_shares([fair, fair, fair])


def test_what_the_parties_see_is_one_yes_or_no_and_says_neither_which_sum_nor_which_site_nor_how_many():
    """A party's view of what is opened as a value: one field element, zero if no sum is dominated, else uniform."""
    from smpc import Session

    seen = []
    original = Session.open

    async def watched(self, *xs):
        out = await original(self, *xs)
        if self.party == 0:
            seen.extend(np.ravel(out).tolist())
        return out

    Session.open = watched
    try:
        for dominated in range(4):
            for _ in range(RUNS):
                tables = [np.full((3, 3), 50) for _ in range(2)]
                for where in range(dominated):
                    tables[where % 2][0, where] = 10**6
                on_shares(tables)
    finally:
        Session.open = original
    runs = np.array(seen, dtype=np.float64).reshape(4, RUNS)
    assert not runs[0].any()
    # Uniform on the field, whatever the number is: a number that showed itself would fail by far.
    for row in runs[1:]:
        assert kolmogorov(row / P) > P_LEAST
    assert kolmogorov(np.arange(1, RUNS + 1) / P) < P_LEAST


RUNS, P_LEAST, P = 20, 1e-4, 2**61 - 1


def kolmogorov(values):
    """Return the p-value of values of a field, scaled by its size, under the uniform law."""
    from scipy.special import kolmogorov as tail

    values = np.sort(np.mod(values, 1.0))
    n = len(values)
    steps = np.arange(n + 1) / n
    distance = max(np.abs(values - steps[1:]).max(), np.abs(values - steps[:-1]).max())
    return tail(distance * np.sqrt(n))


@pytest.mark.parametrize("kind", ["logistic", "linear", "poisson"])
@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_what_a_site_states_is_the_sum_and_the_largest_of_what_its_patients_add(kind, n, seed):
    rng = np.random.default_rng(seed)
    x, beta = rng.uniform(-1, 1, (n, 3)), rng.normal(size=3)
    y = {"logistic": rng.integers(0, 2, n), "linear": rng.uniform(-1, 1, n), "poisson": rng.poisson(2.0, n)}[kind]
    family, patients = FAMILIES[kind], Patients(x, y.astype(float), None)
    encoding = Encoding.of(1000.0, n_sites=3, most_rows=1 << 10)
    _, total, largest = encoding.encode(site_sums(family, patients, beta)).reshape(3, -1)
    # What one patient adds: the sums of a site that has this one alone.
    each = np.array(
        [site_sums(family, Patients(x[i : i + 1], y[i : i + 1].astype(float), None), beta).values for i in range(n)]
    )
    unit = 2.0**-encoding.dominance_bits
    assert (total * unit <= np.abs(each).sum(axis=0) + 1e-12).all()
    assert (total * unit >= np.abs(each).sum(axis=0) - 1.01 * unit).all()
    true = np.abs(each).max(axis=0)
    assert (largest * unit >= true - 1e-12).all()
    # A bound stands for the largest only where the site's own sum alone is more than enough for it.
    exact = largest * unit <= true + 1.01 * unit
    assert (exact | (largest * unit < 0.9 * np.abs(each).sum(axis=0) + 1.01 * unit)).all()


def test_a_bound_decides_as_the_largest_itself_and_spares_most_passes():
    rng = np.random.default_rng(3)
    x, beta = rng.uniform(-1, 1, (3000, 4)), np.full(4, 0.3)
    x[:, 1] = rng.random(3000) < 1e-3
    x[:, 2] = (rng.random(3000) < 1e-3) & (x[:, 1] == 0)
    # One patient alone in a product of covariates: the bound of the pair does not do.
    x[7, 1], x[7, 2] = 1.0, 1.0
    patients = Patients(x, (rng.random(3000) < 0.5).astype(float), None)
    sums = site_sums(FAMILIES["logistic"], patients, beta)
    p = 0.5 * (1 + np.tanh(0.5 * x @ beta))
    j, k = np.triu_indices(4)
    products = np.abs(x[:, j] * x[:, k]) * (p * (1 - p))[:, None]
    true, total = products.max(axis=0), products.sum(axis=0)
    np.testing.assert_allclose(sums.totals[4:-1], total, rtol=1e-12)
    assert ((sums.largest[4:-1] > 0.9 * total) == (true > 0.9 * total)).all()
    assert (true > 0.9 * total).tolist() == [(a, b) == (1, 2) for a, b in zip(j, k, strict=True)]


# A fever that one patient alone has, and everybody else has none of: their value is the sum.
EXACT = {"logistic": {"horizon_days": 180, "covariates": ["age", "marker"]}}
COLUMNS = {"marker": {"role": "sensitive", "kind": "continuous", "bounds": [-1000, 1000], "edges": [0]}}


def places(tmp_path, largest):
    from governance_cases import SCHEMA, frame

    from privacy import Schema
    from privacy.ledger import open_ledger
    from synthema.policy import SitePolicy
    from synthema.site import Site

    schema = SCHEMA | {"columns": SCHEMA["columns"] | COLUMNS}
    asked = study(study={"schema": schema}, exact=EXACT, synthesis=None)
    out = {}
    rng = np.random.default_rng(7)
    for name in SITES:
        table = frame(name, 120)
        # Zero is the middle of the public bounds, so these patients add (next to) nothing to the marker's sums.
        table["marker"] = rng.uniform(-1e-3, 1e-3, len(table))
        out[name] = Site(
            name,
            table,
            Schema.from_dict(schema),
            ledger=open_ledger(f"sqlite:///{tmp_path}/{name}.db", site=name),
            policy=SitePolicy(5.0, 1e-6, partners=frozenset(SITES), allow_exact=True),
            secret=b"s" * 32,
        )
    # At the first site, so that nobody who reads the outcome can tell a site from it.
    out["vienna"].rows.loc[0, "marker"] = largest
    return asked, out


def test_a_model_whose_sums_are_one_patients_is_not_opened_and_the_refusal_holds_no_value(tmp_path):
    asked, sites = places(tmp_path, 731.5)
    with pytest.raises(DisclosureRefused, match=r"one patient would make up more than 0\.9") as caught:
        run(asked.signed(ANNA), sites, folder=tmp_path)
    text = str(caught.value)
    assert re.findall(r"\d+\.?\d*", text) == ["0.9"]
    assert not any(name in text for name in (*SITES, "marker"))
    # What had started is charged, and the answer is none.
    assert [charge.answered for charge in sites["vienna"].history().charges] == [False]


@pytest.mark.parametrize("bound", [-1000.0, 1000.0])
def test_a_patient_at_the_other_bound_than_everybody_makes_up_the_sum_of_distances(tmp_path, bound):
    asked, sites = places(tmp_path, -bound)
    for name, each in sites.items():
        each.rows["marker"] = np.where((each.rows.index == 0) & (name == "vienna"), -bound, bound)
    with pytest.raises(DisclosureRefused, match=r"one patient would make up more than 0\.9"):
        run(asked.signed(ANNA), sites, folder=tmp_path)


def test_many_patients_at_either_bound_are_no_reason_to_refuse(tmp_path):
    asked, sites = places(tmp_path, 1000.0)
    for each in sites.values():
        each.rows["marker"] = np.where(np.random.default_rng(1).random(len(each.rows)) < 0.5, -1000.0, 1000.0)
    assert run(asked.signed(ANNA), sites, folder=tmp_path).released.logistic is not None


def test_without_the_rule_the_same_sums_would_have_been_opened(tmp_path, monkeypatch):
    """The negative control: the opened information is the patient's value, squared, to a few digits."""
    opened = []
    original = Newton.update

    def watched(self, sums):
        opened.append((self.beta.copy(), sums))
        original(self, sums)

    async def never(*_):
        return False

    monkeypatch.setattr(dominance, "any_dominated", never)
    monkeypatch.setattr(Newton, "update", watched)
    asked, sites = places(tmp_path, 731.5)
    # The model itself does not converge on such a table: what was opened on the way is enough.
    with contextlib.suppress(ModelFailed):
        run(asked.signed(ANNA), sites, folder=tmp_path)
    _, sums = opened[0]
    p = 3
    information = np.zeros((p, p))
    information[np.triu_indices(p)] = sums[p:]
    # The marker's own information over that with the intercept is x w x / (x w) = x: the scaled value.
    told = 1000 * information[2, 2] / information[0, 2]
    assert told == pytest.approx(731.5, rel=0.01)


def test_ordinary_sums_are_opened(tmp_path):
    sites = {name: site(tmp_path, name, allow_exact=True, min_grid_days=30) for name in SITES}
    asked = study(exact=CURVES | {"logistic": {"horizon_days": 360, "covariates": ["age"]}}, synthesis=None)
    assert run(asked.signed(ANNA), sites, folder=tmp_path).released.logistic.iterations > 1
