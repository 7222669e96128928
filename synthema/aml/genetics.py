"""Karyotypes and mutations of SIMULATED patients: a genomic class by age and history, then what goes with the class.

class     one of `CLASSES`: fusions, NPM1, CEBPA, TP53 with aneuploidy, chromatin and spliceosome genes, or none
tilt      change of the log odds for each ten years of age, around the age of 60
flags     0/1 columns of the schema, as boolean arrays of shape (n_patients,)

Sources of the rounded shares. Anything that is not listed is a guess, chosen so that known associations show:
[P] Papaemmanuil et al. 2016, N Engl J Med 374:2209 (1,540 patients): chromatin and spliceosome genes 18 %, TP53 or
    aneuploidy 13 %, IDH2 R172 1 %; NPM1, DNMT3A and FLT3-ITD together more often than two by two
[G] Grossmann et al. 2012, Blood 120:2963 (841 patients): PML-RARA 29, RUNX1-RUNX1T1 35, CBFB-MYH11 31, CEBPA double 42,
    NPM1 without FLT3-ITD 186, TP53 80
[T] TCGA 2013, N Engl J Med 368:2059 (200 patients): NPM1 27 %, fusions 18 %, cohesin 13 %, spliceosome 14 %
[V] Verhaak et al. 2005, Blood 106:3747: NPM1 with normal karyotype and FLT3-ITD, rarely with CEBPA and NRAS
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Flags = dict[str, npt.NDArray[np.bool_]]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Share at the age of 60 and tilt. [G] for fusions and CEBPA, [T] and [G] for NPM1, [P] for TP53 and chromatin; the
# rarer fusions and all tilts are guesses.
CLASSES: dict[str, tuple[float, float]] = {
    "t_15_17": (0.034, -0.35),
    "t_8_21": (0.042, -0.35),
    "inv16_t16_16": (0.037, -0.35),
    "MLL_REARRANGED": (0.035, -0.30),
    "inv3_t3_3": (0.013, 0.0),
    "t_6_9": (0.010, -0.30),
    "t_9_22": (0.006, 0.0),
    "NPM1": (0.280, -0.05),
    "CEBPA_bi": (0.045, -0.25),
    "TP53": (0.120, 0.30),
    "chromatin": (0.180, 0.40),
    "none": (0.198, 0.0),
}
_CLASS_NAMES = tuple(CLASSES)
FUSIONS = _CLASS_NAMES[:7]

# Factors on a class's share after a history: guesses in the direction that registries report.
_HISTORY = {
    "myelodysplastic": {"chromatin": 2.5, "TP53": 1.6, "NPM1": 0.4, "CEBPA_bi": 0.4, "t_15_17": 0.1, "t_8_21": 0.2},
    "therapy-related": {"TP53": 2.2, "MLL_REARRANGED": 2.5, "NPM1": 0.6, "t_15_17": 1.3},
}

# Probability without class and tilt of each gene of the panel; all guesses, near the published orders of size.
_GENES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("ATRX", "BRAF", "CBLB", "CDKN2A", "EP300", "FBXW7", "GNAS", "KDM5A", "MLL5", "MPL"), (0.006, 0.0)),
    **dict.fromkeys(("PRPF40B", "PTEN", "RB1", "SF1", "SF3A1", "SH2B3", "U2AF2", "MYC"), (0.006, 0.0)),
    **dict.fromkeys(("CREBBP", "CUX1", "MLL2", "MLL3", "IKZF1", "ETV6"), (0.015, 0.1)),
    **dict.fromkeys(("CBL", "KDM6A", "GATA2", "NF1", "PHF6"), (0.025, 0.0)),
    "ASXL1": (0.04, 0.30),
    "BCOR": (0.03, 0.0),
    "DNMT3A": (0.14, 0.10),
    "EZH2": (0.02, 0.20),
    "FLT3_ITD": (0.13, -0.10),
    "FLT3_TKD": (0.06, -0.05),
    "IDH1": (0.06, 0.05),
    "IDH2": (0.08, 0.15),
    "JAK2": (0.015, 0.2),
    "KIT": (0.01, 0.0),
    "KRAS": (0.05, 0.0),
    "MLL": (0.05, 0.1),
    "NRAS": (0.14, -0.05),
    "PTPN11": (0.06, 0.0),
    "RAD21": (0.03, 0.0),
    "RUNX1": (0.07, 0.15),
    "SF3B1": (0.02, 0.25),
    "SRSF2": (0.03, 0.45),
    "STAG2": (0.03, 0.15),
    "TET2": (0.10, 0.30),
    "TP53": (0.005, 0.2),
    "U2AF1": (0.02, 0.20),
    "WT1": (0.07, -0.25),
    "ZRSR2": (0.01, 0.25),
}

# Instead of the above within a class. Directions by [P] and [V]; numbers are guesses.
_IN_CLASS: dict[str, dict[str, float]] = {
    "t_15_17": {"FLT3_ITD": 0.30, "WT1": 0.12, "DNMT3A": 0.01, "RUNX1": 0.005, "IDH1": 0.01, "IDH2": 0.01},
    "t_8_21": {"KIT": 0.25, "NRAS": 0.18, "ASXL1": 0.10, "RAD21": 0.08, "FLT3_ITD": 0.06, "DNMT3A": 0.01},
    "inv16_t16_16": {"KIT": 0.30, "NRAS": 0.42, "KRAS": 0.15, "FLT3_TKD": 0.15, "FLT3_ITD": 0.04, "DNMT3A": 0.01},
    "MLL_REARRANGED": {"KRAS": 0.22, "NRAS": 0.22, "DNMT3A": 0.03, "TP53": 0.05, "TET2": 0.03},
    "inv3_t3_3": {"NRAS": 0.27, "KRAS": 0.12, "PTPN11": 0.15, "GATA2": 0.12, "RUNX1": 0.10, "SF3B1": 0.18},
    "t_6_9": {"FLT3_ITD": 0.70, "KRAS": 0.08},
    "t_9_22": {"RUNX1": 0.25, "ASXL1": 0.12},
    "NPM1": {"DNMT3A": 0.50, "FLT3_ITD": 0.35, "FLT3_TKD": 0.13, "IDH1": 0.12, "IDH2": 0.14, "TET2": 0.15,
             "NRAS": 0.17, "PTPN11": 0.14, "RAD21": 0.07, "RUNX1": 0.01, "ASXL1": 0.02, "SRSF2": 0.05},
    "CEBPA_bi": {"GATA2": 0.30, "WT1": 0.20, "NRAS": 0.15, "TET2": 0.10, "FLT3_ITD": 0.10, "DNMT3A": 0.04},
    "TP53": {"TP53": 0.78, "FLT3_ITD": 0.03, "NRAS": 0.05, "RUNX1": 0.03, "DNMT3A": 0.12, "NF1": 0.06, "WT1": 0.02},
    "chromatin": {"SRSF2": 0.30, "RUNX1": 0.40, "ASXL1": 0.35, "STAG2": 0.18, "BCOR": 0.13, "U2AF1": 0.14, "EZH2": 0.09,
                  "ZRSR2": 0.05, "SF3B1": 0.14, "MLL": 0.14, "PHF6": 0.10, "TET2": 0.26, "IDH2": 0.20, "NRAS": 0.20},
}  # fmt: skip

_CHROMATIN_GENES = ("SRSF2", "RUNX1", "ASXL1", "STAG2", "BCOR", "U2AF1", "EZH2", "ZRSR2", "SF3B1")

# Abnormality of a flag -> the chromosomes on which it lies.
CHROMOSOMES: dict[str, tuple[str, ...]] = {
    "t_15_17": ("15", "17"),
    "t_8_21": ("8", "21"),
    "inv16_t16_16": ("16",),
    "t_6_9": ("6", "9"),
    "t_9_22": ("9", "22"),
    "MLL_REARRANGED": ("11",),
    "inv3_t3_3": ("3",),
    "abn3q_other": ("3",),
    "mono4_4q_abn(4q)": ("4",),
    "minus5_5q": ("5",),
    "mono7": ("7",),
    "del7q": ("7",),
    "7other": ("7",),
    "plus8_8q": ("8",),
    "del9q": ("9",),
    "plus11_11q": ("11",),
    "mono12_12p_abn12p": ("12",),
    "plus13": ("13",),
    "mono17_17p_abn17p": ("17",),
    "mono18_18q": ("18",),
    "mono20_20q": ("20",),
    "plus21": ("21",),
    "plus22": ("22",),
    "monoY": ("y",),
    "var_recurr_balanced": (),
    "var_recurr_unbalanced": (),
}
NAMES_OF_CHROMOSOMES = (*map(str, range(1, 23)), "x", "y")

# Further abnormalities by class ("": of any other): guesses in the direction that textbooks give.
_ABNORMALITIES: dict[str, dict[str, float]] = {
    "": {"plus8_8q": 0.05, "monoY": 0.02, "var_recurr_balanced": 0.01, "plus21": 0.01, "plus13": 0.01, "del9q": 0.01},
    "t_15_17": {"plus8_8q": 0.10, "7other": 0.03},
    "t_8_21": {"monoY": 0.45, "del9q": 0.15, "plus8_8q": 0.05},
    "inv16_t16_16": {"plus22": 0.15, "plus8_8q": 0.12, "plus21": 0.04, "del7q": 0.04},
    "MLL_REARRANGED": {"plus8_8q": 0.15},
    "inv3_t3_3": {"mono7": 0.50},
    "t_9_22": {"mono7": 0.12},
    "NPM1": {"plus8_8q": 0.05, "del9q": 0.03, "monoY": 0.03, "plus21": 0.01},
    "CEBPA_bi": {"del9q": 0.07, "plus8_8q": 0.03},
    "chromatin": {"plus8_8q": 0.13, "mono7": 0.06, "del7q": 0.06, "plus13": 0.06, "plus11_11q": 0.05, "monoY": 0.04,
                  "mono20_20q": 0.05, "plus21": 0.03, "minus5_5q": 0.02},
    "TP53": {"minus5_5q": 0.72, "mono17_17p_abn17p": 0.48, "mono7": 0.32, "del7q": 0.15, "7other": 0.08,
             "mono12_12p_abn12p": 0.28, "mono18_18q": 0.26, "mono20_20q": 0.24, "abn3q_other": 0.16, "plus8_8q": 0.20,
             "mono4_4q_abn(4q)": 0.12, "plus11_11q": 0.08, "plus13": 0.06, "plus21": 0.10, "plus22": 0.08,
             "monoY": 0.10, "var_recurr_unbalanced": 0.20},
}  # fmt: skip
_MONOSOMIES = ("mono7", "mono17_17p_abn17p", "mono18_18q", "mono20_20q", "mono12_12p_abn12p", "mono4_4q_abn(4q)")


def simulated_classes(age: Floats, history: npt.NDArray[np.object_], *, rng: np.random.Generator) -> Ints:
    """Return each patient's class, an index into `CLASSES`."""
    decades = (age[:, None] - 60) / 10
    shares = np.array([share for share, _ in CLASSES.values()])
    tilts = np.array([tilt for _, tilt in CLASSES.values()])
    weights = shares * np.exp(tilts * decades)
    for kind, factors in _HISTORY.items():
        row = np.array([factors.get(name, 1.0) for name in _CLASS_NAMES])
        weights[history == kind] *= row
    cumulative = np.cumsum(weights, axis=1)
    drawn: Ints = (rng.random((len(age), 1)) * cumulative[:, -1:] > cumulative).sum(axis=1)
    return drawn


def simulated_mutations(classes: Ints, age: Floats, *, rng: np.random.Generator) -> Flags:
    """Return the 55 genes of the panel."""
    n, decades = len(age), (age - 60) / 10
    name_of = np.array(_CLASS_NAMES, dtype=object)[classes]
    uniform = {gene: rng.random(n) for gene in _GENES}

    def chance(gene: str) -> Floats:
        base, tilt = _GENES[gene]
        probability = np.full(n, base)
        for kind, own in _IN_CLASS.items():
            if gene in own:
                probability[name_of == kind] = own[gene]
        odds = probability / (1 - probability) * np.exp(tilt * decades)
        return np.asarray(odds / (1 + odds))

    flags: Flags = {gene: uniform[gene] < chance(gene) for gene in _GENES}
    flags["NPM1"] = name_of == "NPM1"
    flags["CEBPA_bi"] = name_of == "CEBPA_bi"
    # [P]: FLT3-ITD is more frequent still where NPM1 and DNMT3A are both mutated.
    three = flags["NPM1"] & flags["DNMT3A"]
    flags["FLT3_ITD"] |= three & (rng.random(n) < 0.18)
    # IDH1, IDH2, TET2 and WT1 act on one pathway and rarely meet: the later of two mostly goes.
    earlier = np.zeros(n, dtype=bool)
    for gene in ("IDH1", "IDH2", "TET2", "WT1"):
        flags[gene] &= ~earlier | (rng.random(n) < 0.12)
        earlier |= flags[gene]
    # A class without its mark would be none.
    bare = (name_of == "chromatin") & ~np.logical_or.reduce([flags[gene] for gene in _CHROMATIN_GENES])
    marks = rng.integers(0, len(_CHROMATIN_GENES), n)
    for number, gene in enumerate(_CHROMATIN_GENES):
        flags[gene] |= bare & (marks == number)
    return flags


def simulated_karyotypes(
    classes: Ints, male: npt.NDArray[np.bool_], failed_share: float, *, rng: np.random.Generator
) -> tuple[npt.NDArray[np.object_], Flags]:
    """Return the karyotype in one word, None where the analysis failed, and the flags of the schema."""
    n = len(classes)
    name_of = np.array(_CLASS_NAMES, dtype=object)[classes]
    flags: Flags = {name: name_of == name for name in FUSIONS}
    probability: dict[str, Floats] = {
        name: np.full(n, _ABNORMALITIES[""].get(name, 0.003)) for name in CHROMOSOMES if name not in FUSIONS
    }
    for kind, own in _ABNORMALITIES.items():
        rows = name_of == kind
        for name, value in own.items():
            probability[name][rows] = value
    # One in eight of this class has TP53 mutated without aneuploidy.
    quiet = (name_of == "TP53") & (rng.random(n) < 0.12)
    for name, chances in probability.items():
        chances[quiet] = 0.01
        flags[name] = rng.random(n) < chances
    flags["monoY"] &= male
    flags["del7q"] &= ~flags["mono7"]
    count = np.sum([flags[name] for name in CHROMOSOMES], axis=0)
    # Further chromosomes without a flag of their own: markers, additions, losses.
    for name in NAMES_OF_CHROMOSOMES:
        touched = [flags[flag] for flag, places in CHROMOSOMES.items() if name in places]
        explained = np.logical_or.reduce(touched) if touched else np.zeros(n, dtype=bool)
        further = rng.random(n) < np.where((name_of == "TP53") & ~quiet, 0.12, 0.004)
        if name == "y":
            further &= male
        count = count + (further & ~explained)
        flags[f"anomaly chr {name}"] = explained | further
    losses = np.sum([flags[name] for name in _MONOSOMIES], axis=0)
    flags["complex"] = count >= 3
    words = np.array(["normal", "1 abnormality", "2 abnormalities", "complex"], dtype=object)[np.minimum(count, 3)]
    words[flags["complex"] & (flags["mono7"] | (losses >= 2))] = "complex and monosomal"
    # A fusion is found by its transcript even where no cell divides, so only other analyses count as failed.
    failed = (rng.random(n) < failed_share) & ~np.isin(name_of, FUSIONS)
    words[failed] = None
    return words, {name: flag & ~failed for name, flag in flags.items()}


def as_texts(flags: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, npt.NDArray[np.object_]]:
    """Return flags as the schema's categories."""
    texts = np.array(["0", "1"], dtype=object)
    return {name: texts[flag.astype(np.int64)] for name, flag in flags.items()}
