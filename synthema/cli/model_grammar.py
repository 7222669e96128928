"""Privacy models as options of a command: `--l 3:diagnosis:entropy`.

A value is NUMBERS[:COLUMN[:KIND]]. Columns that are taken together are joined by "+". What does not fit this form (a
column with ":" in its name, an estimator's level) is written in a policy file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from synthema.errors import PolicyError

_L_KINDS: Final = "distinct, entropy, or recursive,C"


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What was given on the command line; None or empty: not asked for."""

    k: int | None = None
    k_map: str | None = None
    l: tuple[str, ...] = ()
    t: tuple[str, ...] = ()
    beta: tuple[str, ...] = ()
    delta_disclosure: tuple[str, ...] = ()
    alpha: tuple[str, ...] = ()
    presence: str | None = None
    average_risk: float | None = None
    sample_uniqueness: float | None = None
    population_uniqueness: str | None = None

    @property
    def given(self) -> bool:
        """Whether any model was asked for."""
        return self != ModelOptions()

    def terms(self) -> tuple[dict[str, Any], ...]:
        """Return the models as plain data (`synthema.release_models`). Raises PolicyError, naming the option."""
        out: list[dict[str, Any]] = []
        # (alpha, k) asks for the k itself.
        if self.k is not None and not self.alpha:
            out.append({"model": "k-anonymity", "k": self.k})
        if self.k_map is not None:
            out.append(_k_map(self.k_map))
        out += [_l_diversity(text) for text in self.l]
        out += [_closeness(text) for text in self.t]
        out += [_likeness(text) for text in self.beta]
        out += [
            {"model": "delta-disclosure", **_one(text, "delta", "--delta-disclosure")} for text in self.delta_disclosure
        ]
        out += [self._alpha(text) for text in self.alpha]
        if self.presence is not None:
            low, high = _parts(self.presence, "--presence", "LOW:HIGH", most=2, least=2)
            out.append(
                {"model": "delta-presence", "low": _number(low, "--presence"), "high": _number(high, "--presence")}
            )
        if self.average_risk is not None:
            out.append({"model": "average-risk", "threshold": self.average_risk})
        if self.sample_uniqueness is not None:
            out.append({"model": "sample-uniqueness", "threshold": self.sample_uniqueness})
        if self.population_uniqueness is not None:
            out.append(_population_uniqueness(self.population_uniqueness))
        return tuple(out)

    def _alpha(self, text: str) -> dict[str, Any]:
        if self.k is None:
            raise PolicyError("--alpha needs --k: (alpha,k)-anonymity asks for both")
        return {"model": "alpha-k-anonymity", "k": self.k, **_one(text, "alpha", "--alpha")}


def weights_of(texts: Iterable[str], option: str) -> dict[str, float]:
    """Return the numbers of columns of texts such as "age=2,sex=0.5". Raises PolicyError."""
    out: dict[str, float] = {}
    for text in texts:
        for part in text.split(","):
            name, sign, number = part.rpartition("=")
            if not sign or not name.strip():
                raise PolicyError(f"{option} takes COLUMN=NUMBER, several with commas, got {part!r}")
            if name.strip() in out:
                raise PolicyError(f"{option} names {name.strip()!r} more than once")
            out[name.strip()] = float(_number(number, option))
    return out


def _l_diversity(text: str) -> dict[str, Any]:
    form = f"L:COLUMN[:KIND], KIND being {_L_KINDS}"
    number, column, *kind = _parts(text, "--l", form, least=2, most=3)
    terms: dict[str, Any] = {"model": "l-diversity", "l": _number(number, "--l"), "attribute": _attribute(column)}
    if kind:
        name, comma, c = kind[0].partition(",")
        if name not in ("distinct", "entropy", "recursive") or bool(comma) != (name == "recursive"):
            raise PolicyError(f"--l takes {form}, got {text!r}")
        terms |= {"kind": name} | ({"c": _number(c, "--l")} if comma else {})
    return terms


def _closeness(text: str) -> dict[str, Any]:
    number, column, *distance = _parts(text, "--t", "T:COLUMN[:equal|ordered|hierarchical]", least=2, most=3)
    terms = {"model": "t-closeness", "t": _number(number, "--t"), "attribute": _attribute(column)}
    return terms | ({"distance": distance[0]} if distance else {})


def _likeness(text: str) -> dict[str, Any]:
    number, column, *kind = _parts(text, "--beta", "BETA:COLUMN[:basic|enhanced]", least=2, most=3)
    terms = {"model": "beta-likeness", "beta": _number(number, "--beta"), "attribute": _attribute(column)}
    return terms | ({"kind": kind[0]} if kind else {})


def _k_map(text: str) -> dict[str, Any]:
    k, *more = _parts(text, "--k-map", "K[:POPULATION_SIZE[:ESTIMATOR]]", least=1, most=3)
    terms: dict[str, Any] = {"model": "k-map", "k": _number(k, "--k-map")}
    if more:
        terms["population_size"] = _number(more[0], "--k-map")
    return terms | ({"estimator": more[1]} if len(more) > 1 else {})


def _population_uniqueness(text: str) -> dict[str, Any]:
    option = "--population-uniqueness"
    share, size, *more = _parts(text, option, "SHARE:POPULATION_SIZE[:ESTIMATOR]", least=2, most=3)
    terms = {
        "model": "population-uniqueness",
        "threshold": _number(share, option),
        "population_size": _number(size, option),
    }
    return terms | ({"estimator": more[0]} if more else {})


def _one(text: str, name: str, option: str) -> dict[str, Any]:
    number, column = _parts(text, option, "NUMBER:COLUMN", least=2, most=2)
    return {name: _number(number, option), "attribute": _attribute(column)}


def _parts(text: str, option: str, form: str, *, least: int, most: int) -> list[str]:
    parts = [part.strip() for part in text.split(":")]
    if not least <= len(parts) <= most or not all(parts):
        raise PolicyError(f"{option} takes {form}, got {text!r}")
    return parts


def _attribute(text: str) -> str | list[str]:
    names = [name.strip() for name in text.split("+")]
    return names[0] if len(names) == 1 else names


def _number(text: str, option: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise PolicyError(f"{option} needs a number, got {text!r}") from None
