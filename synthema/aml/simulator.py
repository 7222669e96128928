"""SIMULATED patients with acute myeloid leukaemia: age and history, genes, class and risk, blood, treatment, survival.

They are drawn from the laws written here and in the modules beside this one; no patient's data went into them but
through the published shares that are named there. They protect nobody, because there is nobody. A seed is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from synthema.aml import classification
from synthema.aml.course import Host, simulated_course
from synthema.aml.genetics import (
    CLASSES,
    Flags,
    as_texts,
    simulated_classes,
    simulated_karyotypes,
    simulated_mutations,
)
from synthema.aml.schema import aml_schema

Floats = npt.NDArray[np.float64]

# Median age of whole populations: 69 (Derolf et al. 2009, Blood 113:3666, Sweden), of patients in trials of intensive
# treatment: 56 (1,570 patients, validation of ELN 2022). Standard deviations are guesses.
_REGISTRY_AGE, _REFERRAL_AGE, _AGE_STD = 69.0, 56.0, 13.0

# Medians of white cells (10^9/l) and blasts in blood (per cent) by class ("": of any other): guesses.
_WHITE_CELLS = {"": 9.0, "t_15_17": 4.0, "t_8_21": 13.0, "inv16_t16_16": 32.0, "NPM1": 26.0, "MLL_REARRANGED": 22.0,
                "CEBPA_bi": 22.0, "TP53": 5.0, "chromatin": 6.0}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SimulatedSite:
    """A simulated hospital.

    referral_share    of its patients who were sent for intensive treatment: younger than those of its own district
    missing_share     of laboratory values, performance status and spleen size that nobody wrote down
    failed_share      of karyotypes
    follow_up_days    shortest and longest time from diagnosis to the day of the export
    """

    name: str = "simulated"
    referral_share: float = 0.5
    missing_share: float = 0.06
    failed_share: float = 0.03
    follow_up_days: tuple[int, int] = (200, 3000)

    def __post_init__(self) -> None:
        shares = (self.referral_share, self.missing_share, self.failed_share)
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"shares of a simulated site must be in [0, 1], got {shares}")
        first, last = self.follow_up_days
        if not 1 <= first < last <= 9000:
            raise ValueError(f"follow_up_days must ascend within 1..9000, got {self.follow_up_days}")


def simulated_aml_sites(count: int, *, rng: np.random.Generator) -> list[SimulatedSite]:
    """Return hospitals that differ in whom they see, what they write down and how long they follow.

    Examples
    --------
    >>> [site.name for site in simulated_aml_sites(2, rng=np.random.default_rng(1))]
    ['site-01', 'site-02']
    """
    if not 1 <= count <= 1000:
        raise ValueError(f"count must be in 1..1000, got {count}")
    digits = max(2, len(str(count)))
    return [
        SimulatedSite(
            name=f"site-{number:0{digits}d}",
            referral_share=round(float(rng.beta(2, 2)), 3),
            missing_share=round(float(rng.beta(1.5, 18)), 3),
            failed_share=round(float(rng.beta(2, 50)), 3),
            follow_up_days=(int(rng.integers(90, 400)), int(rng.integers(1800, 4500))),
        )
        for number in range(1, count + 1)
    ]


def simulated_aml_patients(
    n: int, *, site: SimulatedSite | None = None, rng: np.random.Generator | None = None
) -> pd.DataFrame:
    """Return SIMULATED patients that fit `aml_schema()`: columns and types as `read_table` returns them.

    Parameters
    ----------
    n
        Number of rows, at least 1.
    site
        The hospital; one between registry and referral centre if None. Its name begins the patients' IDs.
    rng
        Source of everything random; a seeded one gives the same patients again.

    Examples
    --------
    >>> patients = simulated_aml_patients(50, rng=np.random.default_rng(1))
    >>> patients.shape
    (50, 144)
    >>> aml_schema().validate(patients)
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    site = site or SimulatedSite()
    rng = rng or np.random.default_rng()
    schema = aml_schema()
    centre = np.where(rng.random(n) < site.referral_share, _REFERRAL_AGE, _REGISTRY_AGE)
    age = np.floor(np.clip(rng.normal(centre, _AGE_STD), 18, 98))
    male = rng.random(n) < 0.54
    qualifier = _histories(age, rng)
    history = np.select(
        [qualifier == "therapy-related", np.char.startswith(qualifier.astype(str), "progressed")],
        ["therapy-related", "myelodysplastic"],
        default="none",
    ).astype(object)
    classes = simulated_classes(age, history, rng=rng)
    genes = simulated_mutations(classes, age, rng=rng)
    karyotype, flags = simulated_karyotypes(classes, male, site.failed_share, rng=rng)
    # Whoever is in this class has TP53 mutated or is aneuploid, mostly both.
    genes["TP53"] |= (classes == list(CLASSES).index("TP53")) & ~flags["complex"]
    known: Flags = {**flags, **genes}
    t_9_11 = known["MLL_REARRANGED"] & (rng.random(n) < 0.45)
    columns: dict[str, Any] = {
        "ID": np.array([f"{site.name}-{number:06d}" for number in range(n)], dtype=object),
        "WHO 2016": classification.who_2016(known, qualifier, t_9_11),
        "WHO 2022": classification.who_2022(known, qualifier),
        "ICC 2022": classification.icc_2022(known, t_9_11),
        "Qualifier": qualifier,
        "ELN 2017": classification.eln_2017(known, karyotype, t_9_11, rng.random(n) < 0.5),
        "ELN 2022": classification.eln_2022(known, karyotype, t_9_11),
        "AGE": age.astype(np.int64),
        "SEX": np.where(male, "1", "0").astype(object),
        "KARYOTYPE": karyotype,
        **as_texts(known),
    }
    for name in ("WHO 2016", "WHO 2022", "ICC 2022"):
        labels = dict(zip(schema.column(name).categories, schema.column(f"{name} label").categories, strict=True))
        columns[f"{name} label"] = np.array([labels[code] for code in columns[name]], dtype=object)
    laboratory, ecog = _laboratory(classes, known, age, rng)
    host = Host(
        age=age,
        ecog=ecog,
        risk=columns["ELN 2022"],
        tp53=known["TP53"],
        promyelocytic=known["t_15_17"],
        follow_up=rng.integers(*site.follow_up_days, n),
    )
    columns |= simulated_course(host, rng=rng)
    columns |= _with_gaps(laboratory, site.missing_share, rng)
    return pd.DataFrame({name: columns[name] for name in schema.names})


def _histories(age: Floats, rng: np.random.Generator) -> npt.NDArray[np.object_]:
    """Return qualifiers: after MDS, MDS/MPN or other treatment more often the older; shares are guesses."""
    older = 1 / (1 + np.exp(-(age - 62) / 12))
    uniform = rng.random(len(age))
    edges = np.cumsum([0.04 + 0.16 * older, 0.01 + 0.03 * older, 0.04 + 0.04 * older, np.full(len(age), 0.005)], axis=0)
    words = ["progressed from MDS", "progressed from MDS/MPN", "therapy-related", "germline predisposition"]
    return np.select([uniform < edge for edge in edges], words, default="none").astype(object)


def _laboratory(
    classes: npt.NDArray[np.int64], flags: Flags, age: Floats, rng: np.random.Generator
) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.int64]]:
    """Return blood, marrow, spleen and performance status; all laws are guesses in plausible ranges."""
    n = len(classes)
    median = np.array([_WHITE_CELLS.get(name, _WHITE_CELLS[""]) for name in CLASSES])[classes]
    median = median * np.where(flags["FLT3_ITD"], 1.9, 1.0) * np.where(flags["NRAS"] | flags["PTPN11"], 1.2, 1.0)
    white = np.clip(np.exp(rng.normal(np.log(median), 1.1)), 0.3, 600)
    marrow = 20 + 78 * rng.beta(1.6 + 0.35 * np.log1p(white), 1.7)
    # Fewer than 20 % of blasts are enough where a fusion or NPM1 defines the class.
    defined = np.isin(classes, [list(CLASSES).index(name) for name in ("t_15_17", "t_8_21", "inv16_t16_16", "NPM1")])
    marrow = np.where(defined & (rng.random(n) < 0.05), rng.integers(10, 20, n), marrow)
    blood = marrow * rng.beta(0.6 + 0.45 * np.log1p(white), 1.6)
    lactate = np.exp(rng.normal(np.log(230 + 7 * np.sqrt(white) * np.sqrt(np.log1p(white)) * 4), 0.45))
    ecog = rng.binomial(4, np.clip(0.12 + 0.004 * (age - 40) + 0.0004 * np.minimum(white, 200), 0.05, 0.6))
    laboratory = {
        "HB": np.round(np.clip(rng.normal(9.1, 1.7, n), 3, 18), 1),
        "PLT": np.round(np.clip(np.exp(rng.normal(np.log(55), 0.85, n)), 1, 1500)),
        "WBC": np.round(white, 1),
        "LDH": np.round(np.clip(lactate, 80, 15000)),
        "BM BLASTS": np.round(marrow),
        "PB BLASTS": np.round(blood),
        "ECOG": np.array([str(grade) for grade in ecog], dtype=object),
        "SPLENOMEGALY": np.where(rng.random(n) < 0.06 + 0.12 * (white > 50), "1", "0").astype(object),
    }
    return laboratory, ecog


def _with_gaps(
    values: dict[str, npt.NDArray[Any]], share: float, rng: np.random.Generator
) -> dict[str, npt.NDArray[Any]]:
    """Return the values with gaps: blood counts mostly together, spleen size most often."""
    n = len(values["HB"])
    sheet = rng.random(n) < 0.6 * share
    factors = {"HB": 0.4, "PLT": 0.4, "WBC": 0.4, "SPLENOMEGALY": 4.0, "ECOG": 2.0}
    out = {}
    for name, column in values.items():
        gone = rng.random(n) < min(factors.get(name, 1.0) * share, 0.9)
        if name in ("HB", "PLT", "WBC"):
            gone |= sheet
        filled = column.copy()
        filled[gone] = None if column.dtype == object else np.nan
        out[name] = filled
    return out
