"""Treatment, remission, relapse, transplantation and death of SIMULATED patients, in days from diagnosis.

What happens after a patient's follow-up has ended is not seen. All times are whole days, in the order in which the
schema's rules want them.

Sources. Deaths within a month of intensive induction at up to 65 years: 5.8 % (Percival et al. 2015, SEER 2008-2010,
PMC4465209). Orders of size that the hazards were set to by hand: median survival by ELN 2022 not reached, 16.8 and 9.7
months (Blood Adv 2023, 7:1899), 5 % to 60 % relative survival at 5 years by age (Derolf et al. 2009, Blood 113:3666).
Every single hazard is a guess.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synthema.aml.classification import Bools, Texts

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_NEVER = 1 << 30
# When a response to intensive induction is judged.
_EVALUATION_DAY = 42

_RISKS = ("favourable", "intermediate", "adverse")
# By risk group: remission after intensive and after other treatment, relapse of those in remission, share that lives
# on after relapse, median days from relapse to death, transplantation in first remission at the age of 50.
_REMISSION = (0.90, 0.74, 0.56)
_REMISSION_OTHER = (0.45, 0.30, 0.22)
_RELAPSE = (0.36, 0.55, 0.74)
_RESCUED = (0.40, 0.20, 0.07)
_DAYS_AFTER_RELAPSE = (330.0, 210.0, 120.0)
_TRANSPLANTED = (0.08, 0.50, 0.62)


@dataclass(frozen=True, slots=True)
class Host:
    """What the course depends on; arrays of shape (n_patients,)."""

    age: Floats
    ecog: Ints
    risk: Texts
    tp53: Bools
    promyelocytic: Bools
    follow_up: Ints


def simulated_course(host: Host, *, rng: np.random.Generator) -> dict[str, npt.NDArray[np.object_] | Ints | Floats]:
    """Return the columns of treatment and outcome."""
    n, age = len(host.age), host.age
    risk = np.select([host.risk == word for word in _RISKS], range(3)).astype(np.int64)
    intensive = rng.random(n) < _fit(age) * np.where(host.ecog >= 3, 0.5, 1.0)
    early = rng.random(n) < np.where(
        intensive, np.minimum(0.058 * np.exp(0.035 * (age - 60)), 0.4), np.minimum(0.15 + 0.006 * (age - 60), 0.35)
    )
    remission = rng.random(n) < _remission(host, risk, intensive)
    remission &= ~early
    cr = np.where(intensive, rng.integers(24, 60, n), 40 + rng.exponential(60, n).astype(np.int64))
    cr = np.where(remission, np.minimum(cr, 900), _NEVER)

    relapse_share = np.array(_RELAPSE)[risk]
    relapse_share = np.where(host.promyelocytic, 0.10, np.where(host.tp53, 0.95, relapse_share))
    relapse_share = np.where(intensive, relapse_share, np.minimum(relapse_share + 0.25, 0.97))
    to_relapse = np.exp(rng.normal(np.log(270), 0.8, n)).astype(np.int64) + 1
    to_transplant = rng.integers(30, 160, n)
    offered = rng.random(n) < np.array(_TRANSPLANTED)[risk] * np.clip((78 - age) / 28, 0, 1.2)
    in_first = remission & intensive & offered & ~host.promyelocytic & (to_transplant < to_relapse)
    relapses = remission & (rng.random(n) < np.where(in_first, 0.55, 1.0) * relapse_share)
    relapse = np.where(relapses, cr + np.where(in_first, to_transplant, 0) + to_relapse, _NEVER)
    transplant = np.where(in_first, cr + to_transplant, _NEVER)

    rescued = rng.random(n) < np.where(host.tp53, 0.02, np.array(_RESCUED)[risk]) * np.clip((85 - age) / 30, 0, 1)
    second = relapses & rescued & ~in_first & ~host.promyelocytic & (age < 72)
    transplant = np.where(second, relapse + rng.integers(60, 180, n), transplant)
    refractory = intensive & ~remission & ~early & (age < 68) & (rng.random(n) < 0.22)
    transplant = np.where(refractory, _EVALUATION_DAY + rng.integers(30, 150, n), transplant)

    death = _death(host, risk, intensive, early, remission, cr, relapse, relapses & ~rescued, transplant, rng)
    return _seen(host, intensive, cr, relapse, transplant, death, risk, rng)


def _fit(age: Floats) -> Floats:
    """Return the chance of intensive treatment: 19 of 20 below 60, half at 72, few above 80."""
    return np.asarray(0.96 / (1 + np.exp((age - 72) / 4)))


def _remission(host: Host, risk: Ints, intensive: Bools) -> Floats:
    chance = np.where(intensive, np.array(_REMISSION)[risk], np.array(_REMISSION_OTHER)[risk])
    chance = np.where(host.tp53, chance * 0.65, np.where(host.promyelocytic, 0.95, chance))
    return np.asarray(chance * np.clip(1 - 0.006 * (host.age - 55), 0.6, 1.05))


def _death(
    host: Host,
    risk: Ints,
    intensive: Bools,
    early: Bools,
    remission: Bools,
    cr: Ints,
    relapse: Ints,
    dies_of_relapse: Bools,
    transplant: Ints,
    rng: np.random.Generator,
) -> Ints:
    n, age = len(host.age), host.age
    frailty = np.exp(0.015 * (age - 60))
    # Of anything else: a hazard a year that grows tenfold from 40 to 64 (guess).
    other = 1 + (rng.exponential(1, n) / (0.001 * np.exp(0.095 * (age - 40))) * 365).astype(np.int64)
    death = np.minimum(other, _NEVER)
    death = np.where(early, rng.integers(1, 31, n), death)
    unremitted = ~remission & ~early & (transplant == _NEVER)
    days = rng.exponential(np.where(intensive, 230, 190) / frailty, n).astype(np.int64)
    death = np.where(unremitted, np.minimum(death, _EVALUATION_DAY + 1 + days), death)
    after = (rng.exponential(np.array(_DAYS_AFTER_RELAPSE)[risk] / np.log(2) / frailty, n)).astype(np.int64) + 1
    death = np.where(dies_of_relapse, np.minimum(death, relapse + after), death)
    # Of the transplantation itself, or of leukaemia that was active when it was done.
    grafted = transplant < _NEVER
    active = grafted & ~remission
    toxic = grafted & (rng.random(n) < np.clip(0.14 + 0.004 * (age - 50), 0.05, 0.4) + 0.4 * active)
    death = np.where(toxic, np.minimum(death, transplant + 1 + rng.exponential(240, n).astype(np.int64)), death)
    return np.asarray(np.where(remission, np.maximum(death, cr + 1), death))


def _seen(
    host: Host,
    intensive: Bools,
    cr: Ints,
    relapse: Ints,
    transplant: Ints,
    death: Ints,
    risk: Ints,
    rng: np.random.Generator,
) -> dict[str, npt.NDArray[np.object_] | Ints | Floats]:
    n = len(death)
    # Whoever dies before a relapse or a transplantation has none.
    end = np.minimum(death, host.follow_up)
    died = death <= host.follow_up
    has_cr, has_relapse, has_graft = cr <= end, relapse <= end, transplant <= end
    judged = intensive & ~has_cr & (end >= _EVALUATION_DAY)
    lost_early = intensive & ~has_cr & died & (end < _EVALUATION_DAY)
    response = np.full(n, None, dtype=object)
    response[intensive & has_cr] = np.where(rng.random(n) < 0.8, "CR", "CRi")[intensive & has_cr]
    response[judged], response[lost_early] = "refractory", "early death"
    none = judged | (~has_cr & died)
    event = np.select(
        [none, has_relapse, has_cr & died], ["no remission", "relapse", "death in remission"], default="none"
    ).astype(object)
    to_event = np.where(judged, _EVALUATION_DAY, np.where(has_relapse, np.minimum(relapse, end), end))
    status = np.where(~has_cr, "active disease", np.where(transplant > relapse, "CR2 or later", "CR1")).astype(object)
    status[~has_graft] = None
    family = np.where(rng.random(n) < 0.3, "1", "0").astype(object)
    family[~has_graft] = None
    recurred = np.where(has_relapse | died, "1", "0").astype(object)
    recurred[~has_cr] = None
    autologous = has_cr & ~has_graft & ~has_relapse & intensive & (risk < 2) & (host.age < 66) & (end > cr + 90)
    autologous &= rng.random(n) < 0.07
    return {
        "Intensive chemotherapy induction": _text(intensive),
        "Allogeneic HSCT": _text(has_graft),
        "Autologous HSCT": _text(autologous),
        "Overall survival": end,
        "TIME TO CR": _days(cr, has_cr),
        "TIME TO HSCT": _days(transplant, has_graft),
        "TIME TO RELAPSE": _days(relapse, has_relapse),
        "STATUS AT HSCT": status,
        "TIME FROM CR1 TO HSCT": _days(transplant - cr, has_graft & has_cr),
        "FAMILY DONOR": family,
        "RESPONSE TO INDUCTION": response,
        "STATUS_OS": _text(died),
        "STATUS_EFS": _text(event != "none"),
        "EFS EVENT": event,
        "TIME TO EFS": to_event,
        "RFS STATUS": recurred,
        "TIME TO RFS": _days(np.where(has_relapse, relapse, end) - cr, has_cr),
    }


def _days(times: Ints, seen: Bools) -> Floats:
    return np.where(seen, times.astype(np.float64), np.nan)


def _text(flag: npt.NDArray[np.bool_]) -> npt.NDArray[np.object_]:
    return np.where(flag, "1", "0").astype(object)
