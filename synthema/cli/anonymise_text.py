"""What `synthema anonymise` and `synthema risk` print: for people as text, for scripts as JSON. INTERNAL, both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from anonymise import QuasiIdentifiers, RiskDocument
    from synthema.exact_release import Recorded
    from synthema.release import Decided, Released

NOT_RECORDED: Final = (
    "No ledger was written: nobody will know that this table was released, and nothing counts the releases of the same "
    "patients. Give --ledger and --account to have it recorded."
)
_INTERNAL: Final = "INTERNAL: counts of patients. Do not pass this on."
_FOUND: Final = 8


def release_body(made: Released, decided: Decided, recorded: Recorded | None, files: dict[str, str]) -> dict[str, Any]:
    """Return what a release was, as plain data."""
    from synthema.release_manifest import levels_of
    from synthema.release_models import described

    result, schema = made.result, decided.schema
    return {
        "audience": "INTERNAL",
        "files": files,
        "rows": len(result.table),
        "rows_read": made.n_rows,
        "suppressed": result.suppressed,
        "unit": "patient" if schema.patient_id else "row",
        "models": [described(model) for model in decided.policy.privacy_models],
        "node": None if result.node is None else dict(result.node),
        "levels": levels_of(schema, result.node),
        "quality": decided.policy.release.quality,
        "algorithm": decided.policy.release.algorithm,
        "warning": made.warning,
        "score": result.score,
        "optimal": result.optimal,
        "gap": result.gap,
        "checked": result.n_checked,
        "policy_sha256": decided.content_hash,
        "ledger": None
        if recorded is None
        else {"account": recorded.account, "key": recorded.key, "number": recorded.number, "warning": recorded.warning},
        "note": NOT_RECORDED if recorded is None else None,
    }


def release_text(body: dict[str, Any]) -> str:
    """Return the same for people."""
    lines = [f"{body['rows']:,} anonymised rows in {body['files']['out']}"]
    lines += [f"The {name} is in {file}." for name, file in body["files"].items() if name != "out"]
    lines += [
        "",
        _INTERNAL,
        f"Left out: {body['suppressed']:,} {body['unit']}(s); {body['rows_read']:,} rows were read.",
    ]
    lines.append(f"Models: {'; '.join(body['models'])}.")
    if body["node"] is not None:
        lines.append("Levels, 0 being as it was:")
        width = max(map(len, body["node"]))
        lines += [f"  {name:<{width}}  {level} of {body['levels'][name] - 1}" for name, level in body["node"].items()]
    lines.append(f"{body['quality'].replace('_', ' ').capitalize()} {body['score']:.6g}, {_proof(body)}.")
    lines.append(f"Release policy {body['policy_sha256']}.")
    if body["warning"] is not None:
        lines.append(f"WARNING. {body['warning']}.")
    paid = body["ledger"]
    if paid is None:
        return "\n".join([*lines, "", f"NOT IN ANY LEDGER. {body['note']}"])
    lines += ["", f"Account {paid['account']}: exact release {paid['number']}, {paid['key']}. No epsilon covers it."]
    return "\n".join(lines if paid["warning"] is None else [*lines, f"WARNING. {paid['warning']}"])


def _proof(body: dict[str, Any]) -> str:
    if body["optimal"]:
        return "the least of all combinations of levels, proven"
    if body["node"] is None:
        return f"by {body['algorithm'].replace('_', ' ')}, which proves no least"
    return (
        f"not proven to be the least: at most {body['gap']:.3g} less is possible. The time limit stopped the "
        "search, so another run may give another table"
    )


def risk_body(document: RiskDocument, found: QuasiIdentifiers | None, report: str | None) -> dict[str, Any]:
    """Return the risks of a table as plain data."""
    from dataclasses import asdict

    body: dict[str, Any] = {**document.to_dict(), "quasi_identifiers_found": None if found is None else asdict(found)}
    return body if report is None else {**body, "page": report}


def risk_text(document: RiskDocument, found: QuasiIdentifiers | None, report: str | None) -> str:
    """Return the risks of a table for people."""
    return "\n".join(_risk_lines(document, found, report))


def _risk_lines(document: RiskDocument, found: QuasiIdentifiers | None, report: str | None) -> Iterator[str]:
    from anonymise.report import words

    yield f"{document.title}. {_INTERNAL}"
    yield f"Quasi-identifiers: {', '.join(document.shown.quasi_identifiers)}."
    for answer in words.answers(document):
        yield from ("", f"{answer.question} {words.VERDICTS[answer.verdict].upper()}", f"  {answer.text}")
    yield ""
    rows = list(words.rows(document))
    width = max(len(row.label) for row in rows)
    both = document.after is not None
    yield f"{'':<{width}}  {'before':>9}" + (f"  {'after':>9}" if both else "")
    for row in rows:
        yield f"{row.label:<{width}}  {row.before:>9}" + (f"  {row.after:>9}" if both else "") + f"  {row.meaning}"
    yield from _model_lines(document)
    yield from ("", f"What rules say of the {'anonymised' if both else 'raw'} table (to find nothing proves nothing):")
    yield from [f"  {finding}" for finding in document.findings] or ["  nothing was found"]
    if found is not None:
        yield from ("", f"Columns that single out more than {found.limit:.0%}, alone or together:")
        yield from [
            f"  {', '.join(each.columns)}: {each.singled_out:.1%} singled out" for each in found.minimal[:_FOUND]
        ] or ["  none of up to three columns" if found.complete else "  none of those that were counted"]
        if len(found.minimal) > _FOUND:
            yield f"  and {len(found.minimal) - _FOUND} more sets (--json lists all)"
    if report is not None:
        yield from ("", f"The page: {report}")


def _model_lines(document: RiskDocument) -> Iterator[str]:
    if document.shown.models:
        yield from ("", "Models:")
    for check in document.shown.models:
        yield f"  {check.model}: " + ("holds" if check.holds else f"FAILS for {check.share_failing:.1%}")
