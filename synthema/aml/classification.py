"""Classes and risk by the public rules, from the flags of the schema.

Sources: ELN 2017 (Doehner et al., Blood 129:424), ELN 2022 (Doehner et al., Blood 140:1345, table 6), WHO 2016 (Arber
et al., Blood 127:2391), WHO 2022 (Khoury et al., Leukemia 36:1703), ICC 2022 (Arber et al., Blood 140:1200).

The rules are those that the columns can tell; a hospital's own classification, by a haematologist, knows more:
- promyelocytic leukaemia, which ELN does not grade, counts as favourable;
- CEBPA_bi stands for in-frame bZIP mutations of CEBPA; TP53 for a variant allele frequency of at least 10 %;
- NPM1 with FLT3-ITD is intermediate in ELN 2022, whatever myelodysplasia-related genes are mutated;
- blast counts between 10 % and 20 % and dysplasia are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Texts = npt.NDArray[np.object_]

MR_GENES = ("ASXL1", "BCOR", "EZH2", "SF3B1", "SRSF2", "STAG2", "U2AF1", "ZRSR2")
_FUSIONS = ("t_15_17", "t_8_21", "inv16_t16_16")


def any_of(flags: Mapping[str, Bools], names: Sequence[str]) -> Bools:
    """Return where at least one of the flags is set."""
    return np.asarray(np.logical_or.reduce([flags[name] for name in names]))


def adverse_cytogenetics(flags: Mapping[str, Bools], karyotype: Texts, t_9_11: Bools) -> Bools:
    """Return where the karyotype alone means adverse risk, in both editions."""
    names = ("t_6_9", "t_9_22", "inv3_t3_3", "minus5_5q", "mono7", "mono17_17p_abn17p", "complex")
    return np.asarray(
        any_of(flags, names) | (flags["MLL_REARRANGED"] & ~t_9_11) | (karyotype == "complex and monosomal")
    )


def eln_2022(flags: Mapping[str, Bools], karyotype: Texts, t_9_11: Bools) -> Texts:
    """Return the risk group. `t_9_11`: which KMT2A rearrangements are MLLT3::KMT2A."""
    adverse = adverse_cytogenetics(flags, karyotype, t_9_11) | flags["TP53"]
    return _first_of(
        (any_of(flags, _FUSIONS), "favourable"),
        (adverse, "adverse"),
        (flags["NPM1"] & ~flags["FLT3_ITD"], "favourable"),
        (flags["CEBPA_bi"], "favourable"),
        (flags["NPM1"] | t_9_11, "intermediate"),
        (any_of(flags, (*MR_GENES, "RUNX1")), "adverse"),
        otherwise="intermediate",
    )


def eln_2017(flags: Mapping[str, Bools], karyotype: Texts, t_9_11: Bools, itd_high: Bools) -> Texts:
    """Return the risk group. `itd_high`: where the allelic ratio of FLT3-ITD is at least 0.5."""
    adverse = adverse_cytogenetics(flags, karyotype, t_9_11) | flags["TP53"]
    high = flags["FLT3_ITD"] & itd_high
    return _first_of(
        (any_of(flags, _FUSIONS), "favourable"),
        (adverse, "adverse"),
        (flags["NPM1"] & ~high, "favourable"),
        (flags["CEBPA_bi"], "favourable"),
        (flags["NPM1"] | t_9_11, "intermediate"),
        (high | any_of(flags, ("ASXL1", "RUNX1")), "adverse"),
        otherwise="intermediate",
    )


def who_2016(flags: Mapping[str, Bools], qualifier: Texts, t_9_11: Bools) -> Texts:
    """Return the class's short code: therapy before fusions, a history of myelodysplasia before mutations."""
    cytogenetic = any_of(flags, ("complex", "minus5_5q", "mono7", "del7q", "mono12_12p_abn12p", "mono17_17p_abn17p"))
    return _first_of(
        (qualifier == "therapy-related", "therapy-related"),
        (flags["t_15_17"], "PML-RARA"),
        (flags["t_8_21"], "RUNX1-RUNX1T1"),
        (flags["inv16_t16_16"], "CBFB-MYH11"),
        (t_9_11, "MLLT3-KMT2A"),
        (flags["t_6_9"], "DEK-NUP214"),
        (flags["inv3_t3_3"], "GATA2-MECOM"),
        (flags["t_9_22"], "BCR-ABL1"),
        (_progressed(qualifier) | cytogenetic, "MRC"),
        (flags["NPM1"], "NPM1"),
        (flags["CEBPA_bi"], "CEBPA"),
        (flags["RUNX1"], "RUNX1"),
        otherwise="NOS",
    )


def who_2022(flags: Mapping[str, Bools], qualifier: Texts) -> Texts:
    """Return the class's short code."""
    cytogenetic = any_of(flags, ("complex", "minus5_5q", "mono7", "del7q", "mono12_12p_abn12p", "mono17_17p_abn17p"))
    return _first_of(
        *_fusions_2022(flags),
        (flags["MLL_REARRANGED"], "KMT2A"),
        (flags["NPM1"], "NPM1"),
        (flags["CEBPA_bi"], "CEBPA"),
        (flags["var_recurr_balanced"], "other genetic"),
        (_progressed(qualifier) | cytogenetic | any_of(flags, MR_GENES), "MR"),
        otherwise="differentiation",
    )


def icc_2022(flags: Mapping[str, Bools], t_9_11: Bools) -> Texts:
    """Return the class's short code; history is a qualifier here, not a class."""
    cytogenetic = any_of(
        flags,
        ("complex", "minus5_5q", "mono7", "del7q", "plus8_8q", "mono12_12p_abn12p", "mono17_17p_abn17p", "mono20_20q"),
    )
    return _first_of(
        *_fusions_2022(flags),
        (t_9_11, "MLLT3-KMT2A"),
        (flags["MLL_REARRANGED"], "other KMT2A"),
        (flags["NPM1"], "NPM1"),
        (flags["CEBPA_bi"], "CEBPA"),
        (flags["TP53"], "TP53"),
        (any_of(flags, (*MR_GENES, "RUNX1")), "MR gene"),
        (cytogenetic, "MR cytogenetic"),
        otherwise="NOS",
    )


def _fusions_2022(flags: Mapping[str, Bools]) -> tuple[tuple[Bools, str], ...]:
    return (
        (flags["t_15_17"], "PML-RARA"),
        (flags["t_8_21"], "RUNX1-RUNX1T1"),
        (flags["inv16_t16_16"], "CBFB-MYH11"),
        (flags["t_6_9"], "DEK-NUP214"),
        (flags["t_9_22"], "BCR-ABL1"),
        (flags["inv3_t3_3"], "MECOM"),
    )


def _progressed(qualifier: Texts) -> Bools:
    return np.isin(qualifier, ("progressed from MDS", "progressed from MDS/MPN"))


def _first_of(*cases: tuple[Any, str], otherwise: str) -> Texts:
    """Return for each row the word of its first case that holds."""
    words: Texts = np.select([case for case, _ in cases], [word for _, word in cases], default=otherwise).astype(object)
    return words
