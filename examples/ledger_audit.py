"""A hospital, its data officer, a witness and an auditor: a budget that is spent, raised, exported and verified.

Run it with `uv run python examples/ledger_audit.py`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from privacy import BudgetExceeded, DiscreteGaussian
from privacy.ledger import (
    LocalWitness,
    WitnessPolicy,
    check_proof,
    generate_key,
    open_ledger,
    prove,
    verify_export,
)
from privacy.ledger.export import export

COUNT = DiscreteGaussian(noise_multiplier=4.0)


def main() -> None:
    """Play all four parts, each in a folder of its own."""
    folder = Path(tempfile.mkdtemp())
    vienna, madrid = folder / "vienna", folder / "madrid"
    for each in (vienna, madrid):
        each.mkdir()
    url = f"sqlite:///{vienna}/site.db"

    # Vienna makes its ledger, and puts its own key and its data officer's in force.
    site = generate_key(vienna / "site.key", name="vienna.example/ledger")
    officer = generate_key(vienna / "officer.key", name="vienna.example/officer")
    with open_ledger(url, site="vienna", signer=site) as ledger:
        ledger.set_key("site", site.verifier.vkey, reason="the first key", holder=site)
        ledger.set_key("officer", officer.verifier.vkey, reason="data protection officer", holder=officer)
        ledger.open_account("aml-2026", epsilon=1.5, delta=1e-6, neighbours="add_remove_one")
        origin = f"synthema-ledger/{ledger.ledger_id}"

    # Madrid is a witness: it knows Vienna's public key, and remembers how far Vienna's ledger was.
    witness = LocalWitness(
        madrid / "witness.db",
        generate_key(madrid / "witness.key", name="madrid.example/witness"),
        {origin: site.verifier},
    )

    # Vienna spends. Nothing starts before Madrid has cosigned what went before it.
    with open_ledger(url, signer=site, witnesses=WitnessPolicy([witness]), anchor=folder / "anchor") as ledger:
        print(ledger.dry_run("aml-2026", COUNT))
        for name in ("diagnoses", "relapses", "transplants"):
            try:
                with ledger.spend("aml-2026", COUNT, key=name, purpose=f"number of {name}") as spend:
                    spend.release(100)
            except BudgetExceeded as refusal:
                print(f"refused: {refusal}")
        # More than was promised takes two keys, and stays in the history.
        ledger.set_cap("aml-2026", epsilon=3.0, delta=1e-6, reason="ethics board, vote 12", officer=officer)
        with ledger.spend("aml-2026", COUNT, key="transplants", purpose="number of transplants") as spend:
            spend.release(31)
        ledger.checkpoint()
        print(ledger.remaining("aml-2026"))
        size = export(ledger, folder / "vienna.export")
        (folder / "cap.proof").write_bytes(prove(ledger, 4))

    # An auditor has the export and three public texts, and neither the ledger nor a network.
    result = verify_export(folder / "vienna.export", site_key=site.verifier.vkey, witness_keys=[witness.vkey])
    print(f"{size} entries, ok: {result.ok}, assurance: {result.assurance}, up to entry {result.covered}")
    found = check_proof((folder / "cap.proof").read_bytes(), site_key=site.verifier.vkey, witness_keys=[witness.vkey])
    print(f"entry {found['seq']} alone: {found['kind']} of {found['entry']['account']}, {found['assurance']}")

    # One digit of one entry.
    forged = (folder / "vienna.export").read_text(encoding="utf-8").replace("vote 12", "vote 13")
    (folder / "forged.export").write_text(forged, encoding="utf-8")
    result = verify_export(folder / "forged.export")
    print(f"forged, ok: {result.ok}, first bad entry: {result.first_bad}")


if __name__ == "__main__":
    main()
