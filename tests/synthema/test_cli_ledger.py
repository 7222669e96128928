"""`synthema ledger` as sites, auditors and witnesses meet it: each command, its JSON, refusals and exit codes."""

import json
import os
import re
import runpy
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from privacy import DiscreteGaussian, NonPrivate
from privacy.ledger import load_key, open_ledger
from privacy.ledger.notes import Note
from synthema.cli.app import app
from synthema.cli.ledger_plot import budget_plot
from synthema.report.ledger import budget_chart

EVENT = DiscreteGaussian(noise_multiplier=20.0)
EXAMPLE = Path(__file__).parents[2] / "examples" / "ledger_audit.py"


def run(*words, code=0, typed=None):
    done = CliRunner().invoke(app, ["ledger", *map(str, words)], input=typed, catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


def run_json(*words, code=0):
    return json.loads(run(*words, "--json", code=code).stdout, parse_constant=pytest.fail)


class Site:
    """A ledger, its keys, and a witness's, each made by the commands, in a copy of their folder."""

    def __init__(self, folder):
        self.folder = folder
        self.db, self.key, self.officer = folder / "site.db", folder / "site.key", folder / "officer.key"
        self.witness, self.made = (json.loads((folder / name).read_text()) for name in ("witness.json", "made.json"))
        self.witness_key, self.vkey = self.witness["witness_vkey"], self.made["site_key"]

    def open(self):
        return open_ledger(f"sqlite:///{self.db}", signer=load_key(self.key))

    def checkpoint(self):
        return run_json("checkpoint", self.db, "--key", self.key)["note"]

    def export(self, name):
        run("export", self.db, self.folder / name)
        return self.folder / name

    def witnessed(self, file, *more, code=0):
        place = self.folder / "state.db"
        return run_json(
            "witness", place, file, "--key", self.folder / "w.key", "--log-key", self.vkey, *more, code=code
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    witness = run_json("new-key", folder / "w.key", "--name", "madrid/witness", "--no-passphrase")
    run("new-key", folder / "officer.key", "--name", "vienna/officer", "--no-passphrase")
    account = ["--account", "aml", "--epsilon", 3, "--delta", 1e-6, "--neighbours", "add_remove_one"]
    made = run_json(
        *("init", folder / "site.db", "--site", "vienna", "--key", folder / "site.key", "--no-passphrase", *account),
        *("--witness-key", witness["witness_vkey"], "--anchor", folder / "anchor"),
    )
    (folder / "witness.json").write_text(json.dumps(witness))
    (folder / "made.json").write_text(json.dumps(made))
    with Site(folder).open() as ledger:
        with ledger.spend("aml", EVENT, key="1", purpose="a count") as block:
            block.release(987654321)
        ledger.reserve("aml", EVENT, key="left", purpose="a count")
    return folder


@pytest.fixture
def site(made, tmp_path):
    return Site(shutil.copytree(made, tmp_path / "site"))


# init and keys


def test_init_makes_a_ledger_with_keys_and_says_what_belongs_where(tmp_path):
    text = run("init", tmp_path / "a.db", "--site", "St. Anna + Co", "--no-passphrase").stdout
    for words in ("secret key", "answers.key", "anchor: none", "ledger id", "St.-Anna-Co/ledger+"):
        assert words in text
    with open_ledger(f"sqlite:///{tmp_path}/a.db") as ledger:
        assert (ledger.site, ledger.head[0]) == ("St. Anna + Co", 2)
    assert (tmp_path / "a.db-site.key").stat().st_mode & 0o077 == 0


def test_init_takes_an_account_a_witness_and_an_anchor(site):
    assert site.made["entries"] == 4
    assert Path(site.made["anchor"]).is_file()
    with site.open() as ledger:
        roles = [entry.body["role"] for entry in ledger.entries() if entry.kind == "rotate_key"]
    assert roles == ["site", "witness madrid/witness"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--account", "aml"], 2, "needs --account, --epsilon"),
        (["--account", "aml", "--epsilon", "-1", "--delta", "1e-6", "--neighbours", "replace_one"], 2, "epsilon"),
        (["--account", "aml", "--epsilon", "nan", "--delta", "1e-6", "--neighbours", "replace_one"], 2, "epsilon"),
        (["--witness-key", "no key"], 2, "verifier key"),
    ],
)
def test_what_cannot_be_made_leaves_nothing_behind(tmp_path, words, code, said):
    done = run("init", tmp_path / "a.db", "--site", "v", "--no-passphrase", *words, code=code)
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_never_touches_a_ledger_or_a_key_that_is_there(site):
    assert "exists" in run("init", site.db, "--site", "v", "--no-passphrase", code=4).stderr
    assert "overwritten" in run("new-key", site.key, "--name", "x", "--no-passphrase", code=4).stderr
    other = run_json("init", site.folder / "b.db", "--site", "v", "--key", site.key)
    assert other["site_key"] == site.vkey, "a key that is there is used"


def test_a_passphrase_is_asked_for_twice_read_from_a_file_or_wrong(tmp_path):
    key = tmp_path / "k"
    run("init", tmp_path / "a.db", "--site", "v", "--key", key, typed="six words\nsix words\n")
    assert b"ENCRYPTED" in key.read_bytes()
    (tmp_path / "pass").write_text("six words\n")
    run("checkpoint", tmp_path / "a.db", "--key", key, "--passphrase-file", tmp_path / "pass")
    run("checkpoint", tmp_path / "a.db", "--key", key, typed="six words\n")
    done = run("checkpoint", tmp_path / "a.db", "--key", key, typed="seven words\n", code=4)
    assert "wrong" in done.stderr
    assert "words" not in done.output.replace("passphrase", "")
    run("new-key", tmp_path / "k2", "--name", "x", "--passphrase-file", tmp_path / "pass")
    assert b"ENCRYPTED" in (tmp_path / "k2").read_bytes()


def test_a_cap_falls_by_one_key_and_rises_by_two(site):
    terms = [
        "cap",
        site.db,
        "aml",
        "--delta",
        1e-6,
        "--reason",
        "board",
        "--key",
        site.key,
        "--anchor",
        site.folder / "anchor",
    ]
    assert run_json(*terms, "--epsilon", 2)["epsilon_cap"] == 2.0
    assert "officer" in run(*terms, "--epsilon", 4, code=4).stderr
    run("set-key", site.db, "officer", "--new", site.officer, "--key", site.key, "--reason", "first")
    assert run_json(*terms, "--epsilon", 4, "--officer-key", site.officer)["epsilon_cap"] == 4.0
    assert "epsilon" in run(*terms, "--epsilon", 3).stdout
    run("set-key", site.db, "officer", "--key", site.key, "--reason", "left")
    run(*terms, "--epsilon", 4, "--officer-key", site.officer, code=4)
    run("cap", site.db, "aml", "--epsilon", 1, "--delta", 1e-6, "--reason", "r", code=4)
    run("set-key", site.db, "x", "--new", site.officer, "--vkey", "y", "--key", site.key, "--reason", "r", code=2)
    assert run_json("verify", site.db)[0]["ok"]


# show, quote, void


def test_show_has_a_table_a_plot_and_json(site, tmp_path):
    text = run("show", site.db).stdout
    for words in ("account", "aml", "of cap", "head", "reserved and not started: left", "entry"):
        assert words in text
    assert set(text) & set("#▁▂▃▄▅▆▇█")
    shown = run_json("show", site.db)
    (account,) = shown["accounts"]
    assert account["over_time"][-1][2] == account["epsilon_spent"] > 0
    assert {"epsilon_cap", "delta_cap", "spent", "reserved", "left", "rho_left", "filter"} <= account.keys()
    assert (shown["pending"], shown["site"]) == (["left"], "vienna")
    assert run("show", tmp_path / "none.db", code=2).stderr.count("\n") == 1
    assert run_json("show", tmp_path / "none.db", code=2)["error"] == "TableError"


def test_show_takes_accounts_of_every_kind(tmp_path):
    with open_ledger(f"sqlite:///{tmp_path}/a.db") as ledger:
        common = {"epsilon": 1.0, "delta": 1e-6, "neighbours": "add_remove_one"}
        for rule in ("zcdp", "renyi", "pure"):
            ledger.open_account(rule, filter=rule, **common)
        ledger.open_account("part", parent="zcdp", **common)
        ledger.open_exact_account("exact")
        with ledger.spend("exact", NonPrivate("a <curve>"), key="e", purpose="a curve"):
            pass
        with ledger.spend("part", EVENT, key="p", purpose="a count"):
            pass
    text = run("show", tmp_path / "a.db", "--html", tmp_path / "page.html").stdout
    for words in ("renyi", "pure", "zcdp, below zcdp", "a <curve>", "page:"):
        assert words in text
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "a &lt;curve&gt;" in page
    assert "<curve>" not in page
    assert len(run_json("show", tmp_path / "a.db")["accounts"]) == 5


def test_the_page_needs_nothing_from_elsewhere_and_holds_no_answer(site, tmp_path):
    body = run_json("show", site.db, "--html", tmp_path / "page.html")
    page = Path(body["page"]).read_text(encoding="utf-8")
    assert page.count("<svg") == 1
    assert "default-src &#39;none&#39;" in page
    assert not re.search(r"(src|href)=\"(?!#|data:,)", page)
    assert "987654321" not in page
    assert "<script" not in page


def test_the_plot_and_the_chart_take_time_or_entries_and_infinite_values():
    years = [[i, f"20{20 + i}-01-01T00:00:00Z", 0.1 * i, 1.0] for i in range(1, 6)]
    assert "2021-01-01" in budget_plot(years)[-1]
    assert "2023" in budget_chart(years, key="k", name="n")
    at_once = [[i, "2026-01-01T00:00:00Z", 0.1 * i, 1.0] for i in range(1, 6)]
    back = [[1, "2026-01-02T00:00:00Z", 0.0, 1.0], [2, "2026-01-01T00:00:00Z", float("inf"), 1.0]]
    for points in (at_once, back):
        lines = budget_plot(points, unicode=False)
        assert "entry 1" in lines[-1]
        assert "".join(lines).isascii()
        assert "#" in "".join(lines)
        assert "entry" in budget_chart(points, key="k", name="n")
    assert budget_plot(years[:1])
    for nothing in ([], [[1, "2026-01-01T00:00:00Z", 0.0, 1.0]]):
        assert budget_plot(nothing) == []
    heights = [
        sum(line[9 + column : 10 + column] not in ("", " ", "╌", "─") for line in budget_plot(years)[:-1])
        for column in range(60)
    ]
    assert heights == sorted(heights)
    assert heights[-1] > heights[0]


def test_quote_prices_without_charging(site):
    before = site.db.read_bytes()
    found = run_json("quote", site.db, "aml", "gaussian:noise_multiplier=50", "x3")
    assert found["fits"] is True
    assert 0 < found["epsilon_alone"] < found["epsilon_after"] < 3
    assert run_json("quote", site.db, "aml", "zcdp:rho=100")["fits"] is False
    assert "fits" in run("quote", site.db, "aml", "pure:epsilon=0.1").stdout
    assert site.db.read_bytes() == before
    assert "unknown kind" in run("quote", site.db, "aml", "x:y=1", code=2).stderr
    assert run_json("quote", site.db, "none", "pure:epsilon=1", code=4)["error"] == "UnknownAccount"
    with site.open() as ledger:
        ledger.open_account("pure", epsilon=1.0, delta=1e-6, neighbours="add_remove_one", filter="pure")
    assert run_json("quote", site.db, "pure", "gaussian:noise_multiplier=50", code=2)["error"] == "UnsupportedEvent"


def test_void_gives_back_what_was_never_started(site):
    assert run_json("void", site.db, "left", "--anchor", site.folder / "anchor") == {"ok": True, "voided": "left"}
    assert run_json("void", site.db, "1", code=4)["error"] == "LedgerRefused"


# verify, export, prove, witness


def test_verify_says_in_words_how_far_a_ledger_or_an_export_is_vouched_for(site):
    assert "could have rewritten" in run("verify", site.db).stdout
    done = run("verify", site.db, "--site-key", site.vkey, code=5)
    assert "no checkpoint of it is signed" in done.stdout, "who brings a key wants to know whether it vouches"
    site.checkpoint()
    export = site.export("x.export")
    for file in (site.db, export):
        (found,) = run_json("verify", file, "--site-key", site.vkey)
        assert (found["ok"], found["assurance"], found["first_bad"]) == (True, "signed", None)
        assert f"first {found['covered']} entries" in found["meaning"]
        assert run("verify", file, "--site-key", site.witness["vkey"], code=5)
    head = json.loads(export.read_bytes().splitlines()[3])["hash"]
    assert "noted elsewhere" in run("verify", site.db, export, "--head", head).stdout
    assert "another" in run("verify", site.db, "--head", "0" * 64, code=5).stdout
    assert "verifier key" in run("verify", site.db, "--site-key", "x", code=2).stderr
    assert run("verify", site.folder / "none.db", code=5)


def test_verify_names_the_first_bad_entry_with_exit_code_five(site):
    export = site.export("x.export")
    lines = export.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"vienna", b"madrid").replace(b"madrid", b"padova", 1)
    export.write_bytes(b"".join(lines))
    done = run("verify", site.db, export, code=5)
    assert "first bad entry: 3" in done.stdout
    assert "nothing in it is to be relied on" in done.stdout
    assert [item["ok"] for item in run_json("verify", site.db, export, code=5)] == [True, False]


def test_export_never_overwrites_and_holds_no_answer(site):
    export = site.export("x.export")
    assert b"987654321" not in export.read_bytes()
    assert run_json("export", site.db, site.folder / "y.export")["entries"] == 8
    assert run_json("export", site.db, export, code=4)["error"] == "LedgerRefused"
    run("export", site.folder / "none.db", site.folder / "z", code=2)


def test_a_witness_cosigns_forwards_only_and_its_line_makes_an_export_witnessed(site):
    note = site.checkpoint()
    first = site.export("1.export")
    done = site.witnessed(first)
    assert done["first"] is True
    with site.open() as ledger:
        ledger.note("news")
    later = site.checkpoint()
    (site.folder / "note").write_text(later)
    assert "no proof is at hand" in site.witnessed(site.folder / "note", code=3)["message"]
    second = site.export("2.export")
    line = site.witnessed(site.folder / "note", "--export", second)
    assert line["first"] is False
    assert line["size"] > done["size"]
    (site.folder / "cosigned").write_text(Note.parse(later).with_signatures([line["cosignature"]]).render())
    keys = ["--site-key", site.vkey, "--witness-key", site.witness_key]
    (found,) = run_json("verify", second, *keys, "--note", site.folder / "cosigned")
    assert (found["ok"], found["assurance"]) == (True, "witnessed")
    assert run_json("verify", second, *keys, code=5)[0]["ok"] is False
    # An older export, as from a restored backup: the auditor's note and the witness both see it.
    assert "an old copy" in run("verify", first, *keys, "--note", site.folder / "cosigned", code=5).stdout
    (site.folder / "old").write_text(note)
    refused = site.witnessed(site.folder / "old", code=3)
    assert (refused["error"], refused["reason"]) == ("WitnessRefused", "smaller")
    assert site.witnessed(first, code=3)["reason"] == "smaller"


def test_a_witness_refuses_what_does_not_verify_has_no_checkpoint_or_another_key(site):
    bare = site.export("bare.export")
    assert "no checkpoint" in site.witnessed(bare, code=3)["message"]
    site.checkpoint()
    export = site.export("x.export")
    (site.folder / "bad.export").write_bytes(export.read_bytes().replace(b"vienna", b"padova", 1))
    assert "does not verify" in site.witnessed(site.folder / "bad.export", code=3)["message"]
    words = ["witness", site.folder / "other.db", export, "--key", site.folder / "w.key", "--log-key"]
    assert "never in force" in run_json(*words, site.witness["vkey"], code=3)["message"]
    assert run(*words, "x", code=2)
    text = run(*words, site.vkey)
    assert text.stdout.startswith("— madrid/witness ")
    assert "first checkpoint" in text.stderr
    (site.folder / "dir").mkdir()
    assert run("witness", site.folder / "dir", export, "--key", site.folder / "w.key", "--log-key", site.vkey, code=4)


def test_a_proof_is_written_and_checked_and_a_changed_one_is_exit_code_five(site):
    out = site.folder / "p"
    assert "no checkpoint" in run("prove", site.db, 2, out, code=4).stderr
    note = site.checkpoint()
    (site.folder / "note").write_text(note)
    assert run_json("prove", site.db, 4, out, "--note", site.folder / "note")["bytes"] < 4000
    found = run_json("check-proof", out, "--site-key", site.vkey, "--ledger-id", site.made["ledger_id"])
    assert (found["kind"], found["seq"], found["assurance"]) == ("open_account", 4, "signed")
    assert "is proved: signed by the site" in run("check-proof", out, "--site-key", site.vkey).stdout
    run("check-proof", out, "--site-key", site.vkey, "--witness-key", site.witness_key, code=5)
    run("check-proof", out, "--site-key", site.vkey, "--ledger-id", "0" * 64, code=5)
    out.write_bytes(out.read_bytes().replace(b"aml", b"ami"))
    assert run_json("check-proof", out, "--site-key", site.vkey, code=5)["error"] == "ProofInvalid"
    assert run("prove", site.db, 99, site.folder / "q", code=4)
    run("check-proof", site.folder / "none", "--site-key", site.vkey, code=2)


# backup, doctor


def test_a_backup_verifies_and_its_restoring_is_refused_with_the_anchor(site):
    done = run_json("backup", site.db, site.folder / "b.db")
    assert done["ok"] is True
    assert "anchor" in done["restoring"]
    assert run_json("verify", site.folder / "b.db", "--head", done["head"])[0]["ok"]
    assert run_json("backup", site.db, site.folder / "b.db", code=4)["error"] == "LedgerRefused"
    run("backup", site.folder / "none.db", site.folder / "c.db", code=2)
    run("checkpoint", site.db, "--key", site.key, "--anchor", site.folder / "anchor")
    error = run_json("void", site.folder / "b.db", "left", "--anchor", site.folder / "anchor", code=4)
    assert error["error"] == "LedgerRestored"
    assert error["seen"] > error["size"]


def test_the_doctors_errors_are_exit_code_five(site, tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))
    text = run("doctor", site.db, "--key", site.key).stdout
    assert "apsw" in text
    assert "ok    queue" in text
    found = run_json("doctor", site.db, "--anchor", site.folder / "anchor", code=5)
    assert found[0].keys() == {"level", "check", "what", "way_out"}
    assert [each["level"] for each in found] == sorted(
        (each["level"] for each in found), key=["error", "warn", "ok"].index
    )
    assert "own folder" in found[0]["what"]
    assert "not there" in run("doctor", tmp_path / "none.db", code=5).stdout


# as a process


def test_the_help_names_every_command_and_loads_nothing_heavy():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom synthema.cli.app import app\n"
        "print(CliRunner().invoke(app, ['ledger', '--help']).stdout)\n"
        "print([n for n in ('numpy', 'pandas', 'cryptography', 'jinja2', 'privacy') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"}
    )
    for name in ("init", "show", "verify", "export", "prove", "check-proof", "checkpoint", "witness", "void", "backup"):
        assert f"│ {name} " in done.stdout
    for name in ("doctor", "quote", "cap", "new-key", "set-key"):
        assert f"│ {name} " in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_example_runs_and_shows_what_it_says(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    for words in ("refused:", "assurance: witnessed", "open_account of aml-2026, witnessed", "forged, ok: False"):
        assert words in printed


def test_an_officer_signs_a_cap_away_from_the_ledger_and_the_signature_is_good_for_that_cap_alone(site):
    run_json("new-key", site.folder / "o.key", "--name", "dpo", "--no-passphrase")
    run_json("set-key", site.db, "officer", "--new", site.folder / "o.key", "--key", site.key, "--reason", "r")
    cap = ["cap", site.db, "aml", "--epsilon", "9", "--delta", "1e-6", "--reason", "board", "--key", site.key]
    assert run_json(*cap, code=4)["error"] == "LedgerRefused"
    run_json(*cap, "--statement", site.folder / "cap.json")
    signed = run_json("sign-cap", site.folder / "cap.json", "--key", site.folder / "o.key")
    assert (signed["account"], signed["epsilon"], signed["reason"]) == ("aml", "9.0", "board")
    assert "epsilon 9.0" in run("sign-cap", site.folder / "cap.json", "--key", site.folder / "o.key").stdout
    more = [*cap[:4], "10", *cap[5:], "--officer-signature", signed["signature"]]
    assert "good for one cap" in run_json(*more, code=4)["message"]
    assert run_json(*cap, "--officer-signature", signed["signature"])["epsilon_cap"] == 9.0
    run_json(*cap[:4], "1", *cap[5:])
    assert "good for one cap" in run_json(*cap, "--officer-signature", signed["signature"], code=4)["message"]
    assert run("sign-cap", site.key, "--key", site.folder / "o.key", code=2)
