"""A ledger's accounts in numbers, in plain words, and as a plot over time."""

from __future__ import annotations

import sys
from typing import Any

from privacy import NonPrivate
from privacy.ledger.history import history
from synthema.cli.ledger_common import opened
from synthema.cli.ledger_plot import budget_plot


def ledger_summary(file: str) -> dict[str, Any]:
    """Return the accounts of a ledger as plain data. Raises TableError if there is no such file."""
    with opened(file) as ledger:
        size, head = ledger.head
        accounts: list[dict[str, Any]] = []
        points = {
            each.account: [[p.seq, p.at, p.epsilon_spent, p.epsilon_cap] for p in each.points]
            for each in history(ledger)
        }
        for account in ledger.accounts():
            if account.filter == "exact":
                released = [event.what for event in ledger.events(account.name) if isinstance(event, NonPrivate)]
                accounts.append({"name": account.name, "kind": "exact", "released": released})
                continue
            left = ledger.remaining(account.name)
            found: dict[str, Any] = {
                "name": account.name,
                "kind": "private",
                "filter": account.filter,
                "neighbours": account.neighbours,
                "parent": account.parent,
                "epsilon_cap": left.epsilon_cap,
                "delta_cap": left.delta_cap,
                "epsilon_spent": left.epsilon_spent,
                "spent": left.spent,
                "reserved": left.reserved,
                "left": left.left,
            }
            if account.filter == "zcdp":
                found |= {"rho_spent": left.rho_spent, "rho_left": left.rho_left}
            accounts.append({**found, "text": str(left), "over_time": points.get(account.name, [])})
        return {
            "file": file,
            "site": ledger.site,
            "ledger_id": ledger.ledger_id,
            "entries": size,
            "head": head,
            "accounts": accounts,
            "pending": list(ledger.pending()),
        }


def ledger_text(summary: dict[str, Any]) -> str:
    """Return the summary for people."""
    lines = [f"{summary['file']}: site {summary['site'] or '(unnamed)'}, {summary['entries']} entries"]
    lines.append(f"head {summary['head']} (note it elsewhere: it exposes a rewritten history)")
    private = [account for account in summary["accounts"] if account["kind"] == "private"]
    if private:
        width = max(7, *(len(account["name"]) for account in private))
        lines += ["", f"{'account':<{width}}{'epsilon':>10}{'of cap':>10}{'used':>7}{'delta':>10}  costs add up as"]
        lines += [
            f"{account['name']:<{width}}{_up(account['epsilon_spent']):>10}{account['epsilon_cap']:>10.4g}"
            f"{_share(account):>7}{account['delta_cap']:>10.0e}  {account['filter']}"
            + (f", below {account['parent']}" if account["parent"] else "")
            for account in private
        ]
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    for account in private:
        lines += ["", account["text"], *budget_plot(account["over_time"], unicode=unicode)]
    for account in summary["accounts"]:
        if account["kind"] != "private":
            lines += ["", f"account {account['name']!r}: exact releases, which no epsilon covers:"]
            lines.extend(f"  {what}" for what in account["released"])
    lines.extend(f"reserved and not started: {key}" for key in summary["pending"])
    if "page" in summary:
        lines.append(f"page: {summary['page']}")
    return "\n".join(lines)


def _up(value: float) -> str:
    from privacy.auditing import rounded_up

    return rounded_up(value, 4)


def _share(account: dict[str, Any]) -> str:
    share = account["epsilon_spent"] / account["epsilon_cap"]
    return f"{min(share, 9.99):.0%}"
