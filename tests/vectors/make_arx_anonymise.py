"""Make arx_anonymise.json: what ARX 3.9.2 itself finds on Adult, for every privacy model and quality metric it has.

    python tests/vectors/make_arx_anonymise.py configurations --data DIR > configurations.txt
    java -Xmx2G -XX:+UseSerialGC -cp CLASSES ArxRun < configurations.txt > results.jsonl      # benchmarks/arx/README.md
    python tests/vectors/make_arx_anonymise.py collect --results results.jsonl > tests/vectors/arx_anonymise.json

DIR holds adult.csv (30,162 rows) and one hierarchy file a column. Results may be given in several files.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

NINE = (
    "sex", "age", "race", "marital-status", "education", "native-country", "workclass", "occupation", "salary-class",
)  # fmt: skip
EIGHT = tuple(name for name in NINE if name != "occupation")
SIX = ("sex", "age", "race", "marital-status", "workclass", "salary-class")
FIVE = ("sex", "race", "marital-status", "education", "salary-class")
LIMITS = (0.0, 0.02, 1.0)
POPULATION = 300_000

# kind: names of its parameters, in the order in which the Java driver takes them.
MODELS: dict[str, tuple[str, ...]] = {
    "k": ("k",),
    "distinct": ("attribute", "l"),
    "entropy": ("attribute", "l"),
    "grassberger": ("attribute", "l"),
    "recursive": ("attribute", "c", "l"),
    "t_equal": ("attribute", "t"),
    "t_ordered": ("attribute", "t"),
    "t_hierarchical": ("attribute", "t"),
    "delta_disclosure": ("attribute", "delta"),
    "beta_basic": ("attribute", "beta"),
    "beta_enhanced": ("attribute", "beta"),
    "delta_presence": ("lowest", "highest"),
    "k_map": ("k",),
    "k_map_poisson": ("k", "significance", "population_size"),
    "k_map_zero_truncated": ("k", "significance", "population_size"),
    "inclusion": (),
    "average_risk": ("average",),
    "average_risk_bounded": ("average", "highest", "records_at_risk"),
    "sample_uniqueness": ("fraction",),
    "population_uniqueness": ("estimator", "fraction", "population_size"),
}

SENSITIVE_MODELS = [
    "k:2", "k:5", "k:11",
    "distinct:occupation:3", "k:5|distinct:occupation:5",
    "entropy:occupation:2.5", "k:5|entropy:occupation:4", "k:5|grassberger:occupation:4",
    "recursive:occupation:2:3", "k:5|recursive:occupation:4:3",
    "t_equal:occupation:0.4", "k:5|t_equal:occupation:0.2",
    "t_ordered:occupation:0.2", "k:5|t_ordered:occupation:0.1",
    "t_hierarchical:occupation:0.3", "k:5|t_hierarchical:occupation:0.15",
    "delta_disclosure:occupation:1", "k:5|delta_disclosure:occupation:2.5",
    "beta_basic:occupation:1", "k:5|beta_basic:occupation:3",
    "beta_enhanced:occupation:1", "k:5|beta_enhanced:occupation:3",
    "k:3|distinct:occupation:3|t_equal:occupation:0.3", "k:5|average_risk:0.02|distinct:occupation:3",
]  # fmt: skip
TABLE_MODELS = [
    "average_risk:0.02", "average_risk:0.1", "k:2|average_risk_bounded:0.05:0.2:0.01",
    "sample_uniqueness:0", "sample_uniqueness:0.01", "k:2|sample_uniqueness:0.05",
    f"population_uniqueness:zayatz:0.01:{POPULATION}", f"population_uniqueness:pitman:0.01:{POPULATION}",
    f"population_uniqueness:snb:0.01:{POPULATION}", f"population_uniqueness:dankar:0.01:{POPULATION}",
    f"k:2|population_uniqueness:dankar:0.001:{POPULATION}",
    f"k_map_poisson:5:0.05:{POPULATION}", f"k_map_zero_truncated:5:0.05:{POPULATION}",
]  # fmt: skip
POPULATION_MODELS = [
    "delta_presence:0:0.7", "delta_presence:0.1:0.8", "k_map:11", "k:5|k_map:20", "k:3|delta_presence:0:0.9",
    "k:5|inclusion",
]  # fmt: skip
METRICS = [
    ("loss:arithmetic", {"gs": 0.0}), ("loss:arithmetic", {"gs": 0.25}), ("loss:arithmetic", {"gs": 0.75}),
    ("loss:arithmetic", {"gs": 1.0}), ("loss:arithmetic", {"weights": "age:3,sex:0.5"}), ("loss:geometric", {}),
    ("loss:geometric", {"weights": "age:0.9,race:0.2"}), ("loss:sum", {}), ("loss:max", {}), ("loss:rank", {}),
    ("precision:arithmetic", {}), ("precision:arithmetic", {"gs": 0.25}), ("precision:arithmetic", {"gs": 0.75}),
    ("discernibility", {}), ("aecs", {}), ("aecs", {"gs": 0.25}), ("aecs", {"gs": 0.75}), ("entropy:sum", {}),
    ("entropy:arithmetic", {"gs": 0.25}), ("entropy:sum", {"gs": 0.75}), ("normalised_entropy:arithmetic", {}),
    ("ambiguity", {}), ("kl", {}), ("classification", {"response": "occupation"}),
    ("classification", {"response": "occupation", "gs": 0.25}),
    ("classification", {"response": "occupation", "gs": 0.75}),
    ("height:sum", {}), ("entropy_based", {}),
]  # fmt: skip
RISKS: list[tuple[str, dict[str, str]]] = [
    ("risk_nine", {"table": "adult", "qi": ",".join(NINE), "models": "k:5", "limit": "0.02"}),
    (
        "risk_release",
        {
            "table": "adult",
            "qi": ",".join(NINE),
            "models": "average_risk:0.1",
            "limit": "0.02",
            "node": "0,3,0,0,2,1,0,1,0",
        },
    ),
    ("risk_six", {"table": "adult_2000", "rows": "2000", "qi": ",".join(SIX), "models": "k:2", "limit": "0.02"}),
]
COMMENT = [
    "What ARX finds on Adult: 30,162 rows (adult) or its first 2,000 in file order (adult_2000).",
    "Table and hierarchies are those of tests/anonymise/data.",
    "node: level of each quasi-identifier, in the order of attribute_sets; null if no node satisfies the models.",
    "score: ARX's, all digits; it cuts each column's loss to ten decimals.",
    "suppressed: rows that the release marks as outliers; with limit > 0 ARX also marks rows that are '*' everywhere.",
    "n_feasible, n_ties: all nodes were checked; how many satisfy the models, how many have exactly the best score.",
    "best_score: only where checking every node found a better one than ARX's search did.",
    "released_rows: that many first rows are the released table; all rows of the table are the population.",
    "metric: function aggregates the columns; gs_factor is 0.5 where absent; weights are divided by the largest one,",
    "  a column without one has weight 0.5.",
    "risks: of a raw table (no models) or of a release without its suppressed rows. summary[threshold]: of prosecutor",
    "  and journalist the share of records at risk, the highest risk, the success rate; of marketer the success rate.",
    "  population[sampling fraction]: estimated share of the population that is alone; null: ARX found none.",
    "warm_ms: ARX's time for one search in a warm JVM on a shared machine with two cores: an order of magnitude only.",
]
SLOW_METRICS = ("loss:rank", "loss:max", "entropy_based")


def configurations() -> Iterator[dict[str, str]]:
    small = {"table": "adult_2000", "rows": "2000", "exhaustive": "1"}
    six, five, eight, nine = (",".join(names) for names in (SIX, FIVE, EIGHT, NINE))
    yield from _grid({**small, "qi": six}, SENSITIVE_MODELS + TABLE_MODELS)
    yield from _grid({**small, "qi": five}, ["k:3|t_ordered:age:0.15", "distinct:age:6|distinct:occupation:4"])
    ordinal = ["k:3|t_hierarchical:education:0.2", "k:3|t_hierarchical:education:0.1"]
    yield from _grid({**small, "qi": six}, ordinal)
    yield from _grid({**small, "qi": six, "subset": "1000"}, POPULATION_MODELS)
    for (metric, options), limit in product(METRICS, LIMITS):
        yield {**small, "qi": six, "models": "k:5", "metric": metric, "limit": f"{limit:g}", **_text(options)}
    whole = {"table": "adult", "repeats": "1"}
    yield from _grid(
        {**whole, "qi": nine}, ["k:2", "k:5", "k:11", *TABLE_MODELS[:2], *TABLE_MODELS[3:5], TABLE_MODELS[9]]
    )
    yield from _grid({**whole, "qi": eight}, SENSITIVE_MODELS)
    yield from _grid({**whole, "qi": eight, "subset": "15000"}, POPULATION_MODELS)
    for (metric, options), limit in product(METRICS, (0.02, 1.0)):
        if metric not in SLOW_METRICS and "weights" not in options:
            yield {**whole, "qi": eight, "models": "k:5", "metric": metric, "limit": f"{limit:g}", **_text(options)}


def _grid(base: dict[str, str], models: list[str]) -> Iterator[dict[str, str]]:
    for text, limit in product(models, LIMITS):
        yield {**base, "models": text, "metric": "loss:arithmetic", "limit": f"{limit:g}"}


def _text(options: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in options.items()}


def _identifier(entry: dict[str, str]) -> str:
    parts = [entry["table"], str(entry["qi"].count(",") + 1), entry["models"], entry["metric"], entry["limit"]]
    return "/".join([*parts, *(entry[key] for key in ("subset", "gs", "weights", "response") if key in entry)])


def _models(text: str) -> list[dict[str, Any]]:
    result = []
    for part in text.split("|"):
        kind, *values = part.split(":")
        numbers = [value if value.replace("-", "").isalpha() else json.loads(value) for value in values]
        result.append({"kind": kind, **dict(zip(MODELS[kind], numbers, strict=True))})
    return result


def _metric(entry: dict[str, str]) -> dict[str, Any]:
    name, _, function = entry["metric"].partition(":")
    result: dict[str, Any] = {"name": name, **({"function": function} if function else {})}
    if "gs" in entry:
        result["gs_factor"] = float(entry["gs"])
    if "weights" in entry:
        result["weights"] = {pair.split(":")[0]: float(pair.split(":")[1]) for pair in entry["weights"].split(",")}
    if "response" in entry:
        result["response"] = entry["response"]
    return result


def _record(entry: dict[str, str], found: dict[str, Any]) -> dict[str, Any]:
    quasi = entry["qi"].split(",")
    record: dict[str, Any] = {
        "table": entry["table"],
        "quasi_identifiers": f"{len(quasi)}",
        "models": _models(entry["models"]),
    }
    record["metric"] = _metric(entry)
    record["limit"] = float(entry["limit"])
    if "subset" in entry:
        record["released_rows"] = int(entry["subset"])
    for key in ("node", "score", "suppressed", "optimal", "n_checked", "n_feasible", "n_ties", "best_score"):
        if key in found:
            record[key] = found[key]
    if "search_ms" in found:
        record["warm_ms"] = found["search_ms"]
    if found.get("best_score") == found.get("score"):
        record.pop("best_score", None)
    return record


def _risk(found: dict[str, Any], name: str, entry: dict[str, str]) -> list[dict[str, Any]]:
    common = {"table": entry["table"], "quasi_identifiers": str(entry["qi"].count(",") + 1)}
    output = {**common, "models": _models(entry["models"]), "limit": float(entry["limit"]), "node": found["node"]}
    risks = []
    for which, description in (("risk_input", common), ("risk_output", {**output, "suppressed": found["suppressed"]})):
        if which == "risk_output" or name != "risk_release":
            risks.append({**description, **found[which]})
    return risks


def _collect(files: list[Path]) -> str:
    found: dict[str, dict[str, Any]] = {}
    for path in files:
        for line in path.read_text().splitlines():
            result = json.loads(line)
            found.setdefault(result["id"], {}).update(result)
    records = []
    for entry in configurations():
        result = found.get(_identifier(entry))
        if result is None:
            continue
        if "error" in result:
            print(_identifier(entry), result["error"], file=sys.stderr)
            continue
        records.append(_record(entry, result))
    head = {
        "source": "ARX 3.9.2, built from its sources, optimal algorithm, by tests/vectors/make_arx_anonymise.py",
        "comment": COMMENT,
        "attribute_sets": {str(len(names)): names for names in (NINE, EIGHT, SIX, FIVE)},
        "model_parameters": MODELS,
    }
    releases = [_risk(found[name], name, *what) for name, *what in RISKS if name in found]
    risks = ",\n".join("  " + json.dumps(risk, separators=(",", ":")) for rows in releases for risk in rows)
    lines = ",\n".join("  " + json.dumps(record, separators=(",", ":")) for record in records)
    return json.dumps(head, indent=1)[:-2] + f',\n "risks": [\n{risks}\n ],\n "results": [\n{lines}\n ]\n}}\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("configurations", "collect"))
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--results", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    if arguments.command == "collect":
        sys.stdout.write(_collect(arguments.results))
        return
    for entry in configurations():
        _print({**entry, "id": _identifier(entry)}, arguments.data)
    for name, entry in RISKS:
        _print({**entry, "id": name, "risk": "1"}, arguments.data)


def _print(entry: dict[str, str], data: Path) -> None:
    line = {**entry, "table": str(data / "adult.csv"), "hierarchies": str(data)}
    print(" ".join(f"{key}={value}" for key, value in line.items()))


if __name__ == "__main__":
    main()
