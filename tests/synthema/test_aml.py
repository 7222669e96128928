"""The AML example: its schema, and simulated patients that show what is known of the disease and break no rule."""

import io
import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact

from generators import Domain, encode
from generators.rules import any_broken, forbidden_codes
from privacy import SchemaError
from synthema.aml import SimulatedSite, aml_schema, simulated_aml_patients, simulated_aml_sites
from synthema.aml.genetics import CHROMOSOMES
from synthema.tables import read_table

SCHEMA = aml_schema()
# Associations below are asked of 4,000 patients: each is so strong there that chance gives it less than once in 10^9.
N, P_THRESHOLD = 4_000, 1e-9
FUSIONS = ("t_15_17", "t_8_21", "inv16_t16_16", "MLL_REARRANGED", "inv3_t3_3", "t_6_9", "t_9_22")


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    return simulated_aml_patients(N, rng=np.random.default_rng(20260))


def has(frame: pd.DataFrame, name: str) -> np.ndarray:
    return (frame[name] == "1").to_numpy()


def p_of(one: np.ndarray, two: np.ndarray, alternative: str) -> float:
    table = [[np.sum(one & two), np.sum(one & ~two)], [np.sum(~one & two), np.sum(~one & ~two)]]
    return float(fisher_exact(table, alternative=alternative).pvalue)


def test_the_schema_has_the_columns_of_the_public_one():
    names = SCHEMA.names
    assert (len(names), len(set(names))) == (144, 144)
    assert names[:1] + names[37:38] + names[89:90] == ("ID", "KARYOTYPE", "ASXL1")
    assert len(names[:37]) == 37
    assert len(names[37:89]) == 52
    assert len(names[89:]) == 55
    flags = [name for name in names[38:] if SCHEMA.column(name).categories == ("0", "1")]
    assert len(flags) == 106
    assert len(Domain.from_schema(SCHEMA)) == 144
    assert sum(1 for _ in itertools.combinations(Domain.from_schema(SCHEMA), 2)) == 10_296


def test_the_schema_survives_its_file_formats(tmp_path):
    for name in ("schema.toml", "schema.json"):
        SCHEMA.save(tmp_path / name)
        assert type(SCHEMA).load(tmp_path / name) == SCHEMA


def test_simulated_patients_fit_schema_rules_and_codes(patients):
    SCHEMA.validate(patients)
    domain, codes = Domain.from_schema(SCHEMA), encode(patients, SCHEMA)
    assert codes.shape == (N, 144)
    assert not any_broken(forbidden_codes(SCHEMA), codes, domain).any()


@pytest.mark.parametrize(
    ("column", "value", "rows"),
    [
        ("WHO 2022 label", "AML with NPM1 mutation", "t_8_21"),
        ("anomaly chr 8", "0", "plus8_8q"),
        ("SEX", "0", "monoY"),
        ("Allogeneic HSCT", "0", "Allogeneic HSCT"),
        ("complex", "0", "complex"),
        ("ELN 2022", "adverse", "inv16_t16_16"),
    ],
)
def test_a_patient_who_cannot_be_is_refused(patients, column, value, rows):
    broken = patients.copy()
    broken.loc[broken[rows] == "1", column] = value
    with pytest.raises(SchemaError):
        SCHEMA.validate(broken)


def test_other_sites_and_seeds_fit_too_and_a_seed_repeats_its_patients():
    rng = np.random.default_rng(7)
    for site in simulated_aml_sites(8, rng=rng):
        frame = simulated_aml_patients(150, site=site, rng=rng)
        SCHEMA.validate(frame)
        assert frame["ID"].str.startswith(site.name).all()
        assert frame["ID"].is_unique
    one, two, other = (simulated_aml_patients(40, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, two)
    assert not one.equals(other)


def test_a_written_table_is_read_as_it_was(patients, tmp_path):
    head = patients.head(300)
    (tmp_path / "site.csv").write_text(head.to_csv(index=False), encoding="utf-8")
    found = read_table(tmp_path / "site.csv", SCHEMA)
    assert found.columns.tolist() == head.columns.tolist()
    for name in SCHEMA.names:
        assert found[name].isna().tolist() == head[name].isna().tolist(), name
        there = head[name].notna()
        assert found[name][there].tolist() == head[name][there].tolist(), name
    assert io.StringIO(head.to_csv(index=False)).readline().count(",") == 143


def test_genes_go_together_and_exclude_each_other_as_is_known(patients):
    together = [("NPM1", "DNMT3A"), ("NPM1", "FLT3_ITD"), ("TP53", "complex"), ("SRSF2", "RUNX1"), ("KIT", "t_8_21")]
    for one, two in together:
        assert p_of(has(patients, one), has(patients, two), "greater") < P_THRESHOLD, (one, two)
    apart = [("NPM1", "RUNX1"), ("NPM1", "TP53"), ("NPM1", "complex")]
    for one, two in apart:
        assert p_of(has(patients, one), has(patients, two), "less") < P_THRESHOLD, (one, two)
    # The three together: FLT3-ITD more often beside both than beside NPM1 alone.
    npm1, itd, dnmt3a = (has(patients, name) for name in ("NPM1", "FLT3_ITD", "DNMT3A"))
    assert itd[npm1 & dnmt3a].mean() > itd[npm1 & ~dnmt3a].mean() + 0.05
    # Negative control: genes that nothing joins, and one gene over rows in another order.
    assert p_of(has(patients, "CBL"), has(patients, "FLT3_TKD"), "greater") > 1e-4
    shuffled = np.random.default_rng(3).permutation(has(patients, "DNMT3A"))
    assert p_of(has(patients, "NPM1"), shuffled, "greater") > 1e-4


def test_fusions_exclude_each_other_and_lie_on_their_chromosomes(patients):
    for one, two in itertools.combinations(FUSIONS, 2):
        assert not (has(patients, one) & has(patients, two)).any(), (one, two)
    for flag, places in CHROMOSOMES.items():
        for place in places:
            assert not (has(patients, flag) & ~has(patients, f"anomaly chr {place}")).any(), (flag, place)
    assert not (has(patients, "monoY") & (patients["SEX"] == "0")).any()


def test_age_tilts_genes_and_survival(patients):
    age = patients["AGE"].to_numpy()
    for gene, older in (("SRSF2", True), ("TP53", True), ("TET2", True), ("t_8_21", False), ("t_15_17", False)):
        mutated = has(patients, gene)
        assert (age[mutated].mean() > age[~mutated].mean() + 2) == older, gene
        assert (age[mutated].mean() < age[~mutated].mean() - 2) == (not older), gene
    dead = has(patients, "STATUS_OS") & (patients["Overall survival"].to_numpy() <= 365)
    known = dead | (patients["Overall survival"].to_numpy() > 365)
    shares = [dead[known & (age >= low) & (age < low + 15)].mean() for low in (30, 45, 60, 75)]
    assert shares == sorted(shares)


def test_risk_groups_follow_the_public_rules_row_by_row(patients):
    def expected(row: pd.Series) -> set[str]:
        on = {name for name in row.index if row[name] == "1"}
        if on & {"t_15_17", "t_8_21", "inv16_t16_16"}:
            return {"favourable"}
        adverse = {"t_6_9", "t_9_22", "inv3_t3_3", "minus5_5q", "mono7", "mono17_17p_abn17p", "complex", "TP53"}
        if on & adverse or row["KARYOTYPE"] == "complex and monosomal":
            return {"adverse"}
        if "MLL_REARRANGED" in on:
            # Whether it is t(9;11) is no column of the table.
            return {"intermediate", "adverse"}
        if "NPM1" in on:
            return {"intermediate" if "FLT3_ITD" in on else "favourable"}
        if "CEBPA_bi" in on:
            return {"favourable"}
        genes = {"ASXL1", "BCOR", "EZH2", "RUNX1", "SF3B1", "SRSF2", "STAG2", "U2AF1", "ZRSR2"}
        return {"adverse"} if on & genes else {"intermediate"}

    for _, row in patients.head(1500).iterrows():
        assert row["ELN 2022"] in expected(row), row["ID"]
    assert set(patients["ELN 2022"]) == {"favourable", "intermediate", "adverse"}


def test_survival_falls_from_favourable_to_adverse_risk(patients):
    treated = has(patients, "Intensive chemotherapy induction")
    days, died = patients["Overall survival"].to_numpy(), has(patients, "STATUS_OS")
    known = (died & (days <= 730)) | (days > 730)
    alive = {
        risk: (days[rows] > 730).mean()
        for risk in ("favourable", "intermediate", "adverse")
        if (rows := known & treated & (patients["ELN 2022"] == risk).to_numpy()).sum() > 200
    }
    assert alive["favourable"] > alive["intermediate"] + 0.1 > alive["adverse"] + 0.2
    assert 0.15 < (~died).mean() < 0.6


def test_sites_differ_in_age_and_gaps():
    rng = np.random.default_rng(5)
    centre = simulated_aml_patients(800, site=SimulatedSite("a", referral_share=1.0, missing_share=0.0), rng=rng)
    district = simulated_aml_patients(800, site=SimulatedSite("b", referral_share=0.0, missing_share=0.2), rng=rng)
    assert district["AGE"].mean() > centre["AGE"].mean() + 8
    laboratory = ["HB", "PLT", "WBC", "LDH", "BM BLASTS", "PB BLASTS", "ECOG", "SPLENOMEGALY"]
    assert not centre[laboratory].isna().any().any()
    assert district[laboratory].isna().mean().between(0.1, 0.9).all()
    # Blood counts are missing together more often than one by one.
    gone = district[["HB", "PLT", "WBC"]].isna()
    assert gone.all(axis=1).mean() > 5 * gone.mean().prod()


@pytest.mark.parametrize("settings", [{"referral_share": 1.2}, {"missing_share": -0.1}, {"follow_up_days": (900, 90)}])
def test_impossible_sites_are_refused(settings):
    with pytest.raises(ValueError, match="must"):
        SimulatedSite("x", **settings)
    with pytest.raises(ValueError, match="at least 1"):
        simulated_aml_patients(0)
