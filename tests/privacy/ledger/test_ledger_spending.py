"""What a spend costs, when it may happen, and what the same key gives later."""

from __future__ import annotations

import sqlite3
import stat

import numpy as np
import pytest

from privacy import (
    BudgetExceeded,
    Composed,
    DiscreteGaussian,
    Event,
    Gaussian,
    KeyReused,
    LedgerCorrupt,
    NonPrivate,
    PrivacyError,
    Repeated,
    SpentWithoutAnswer,
    UnknownAccount,
    UnsupportedEvent,
    ZcdpAccountant,
    ZeroConcentratedDP,
    epsilon_to_rho,
    rho_of,
)
from privacy.ledger import LedgerRefused, LedgerUnavailable, open_ledger, verify

EVENT = DiscreteGaussian(noise_multiplier=20.0)


def kinds(ledger):
    return [entry.kind for entry in ledger.entries()]


def spend(ledger, key="k", event=EVENT, account="aml", **more):
    return ledger.spend(account, event, key=key, purpose="a count", **more)


def test_entering_is_on_disk_before_the_block_runs(ledger, url):
    with spend(ledger), open_ledger(url) as other:
        assert kinds(other)[-2:] == ["reserve", "start"]
        assert other.events("aml") == (EVENT,)


def test_release_stores_posts_and_returns_the_answer(ledger, url):
    with spend(ledger) as block:
        assert block.stored is None
        answer = block.release(np.array([1, 2, 3]))
        assert block.answered
    np.testing.assert_array_equal(answer, [1, 2, 3])
    assert kinds(ledger)[-3:] == ["reserve", "start", "post"]
    assert verify(url).ok


def test_the_same_key_gives_the_stored_answer_charges_nothing_and_never_takes_a_new_one(ledger, url):
    with spend(ledger) as block:
        block.release([1, 2])
    entries, left = ledger.entries(), ledger.remaining("aml")
    with open_ledger(url) as other, spend(other) as block:
        assert block.answered
        assert block.stored == [1, 2]
        assert block.release("a second draw") == [1, 2]
    assert (ledger.entries(), ledger.remaining("aml")) == (entries, left)


def test_leaving_without_release_costs_the_same_and_the_key_is_spent(ledger):
    with spend(ledger, "normal"):
        pass
    with pytest.raises(ZeroDivisionError), spend(ledger, "by error"):
        _ = 1 / 0
    assert ledger.remaining("aml").rho_spent == pytest.approx(2 * rho_of(EVENT), rel=1e-15)
    for key in ("normal", "by error"):
        with pytest.raises(SpentWithoutAnswer, match=key), spend(ledger, key):
            pytest.fail("the block must not run")
    assert kinds(ledger)[-1] == "post"
    assert ledger.entries()[-1].body["answer"] is None


def test_a_key_that_is_running_elsewhere_is_not_given_out_again(ledger, url):
    with spend(ledger) as block:
        with open_ledger(url) as other, pytest.raises(SpentWithoutAnswer), spend(other):
            pytest.fail("the block must not run")
        block.release(1)


@pytest.mark.parametrize(
    "change",
    [
        {"event": DiscreteGaussian(noise_multiplier=40.0)},
        {"account": "other"},
        {"purpose": "another"},
        {"data_version": "v2"},
    ],
)
@pytest.mark.parametrize("state", ["answered", "posted", "started", "reserved", "void"])
def test_a_key_is_bound_to_what_it_was_first_used_for(ledger, change, state):
    ledger.open_account("other", epsilon=1.0, delta=1e-6, neighbours="add_remove_one")
    terms = {"account": "aml", "event": EVENT, "purpose": "p", "data_version": "v1"}
    reservation = ledger.reserve(**terms, key="k")
    if state in ("started", "answered", "posted"):
        reservation.start()
    {"answered": lambda: reservation.release(1), "posted": reservation.post, "void": reservation.void}.get(
        state, lambda: None
    )()
    before = ledger.entries()
    with pytest.raises(KeyReused):
        ledger.reserve(**(terms | change), key="k")
    assert ledger.entries() == before


def test_two_spellings_of_a_key_are_one_key(ledger):
    with spend(ledger, "Sa\u0308ule") as block:
        block.release(1)
    with spend(ledger, "S\u00e4ule") as block:
        assert block.stored == 1


def test_a_value_that_cannot_be_stored_may_be_released_in_another_form(ledger):
    with spend(ledger) as block:
        with pytest.raises(ValueError, match="astype"):
            block.release(np.array([1], dtype=np.int32))
        assert block.release(np.array([1])) == 1


def test_a_spend_that_was_not_entered_charges_and_tells_nothing(ledger):
    block = spend(ledger)
    for use in (lambda: block.release(1), lambda: block.stored, lambda: block.answered):
        with pytest.raises(LedgerRefused, match="with statement"):
            use()
    with block:
        pass
    with pytest.raises(LedgerRefused, match="entered once"), block:
        pass
    assert kinds(ledger).count("reserve") == 1


# The two-step door


def test_a_reservation_counts_against_the_cap_until_it_is_voided(ledger):
    half = ZeroConcentratedDP(ledger.remaining("aml").rho_left * 0.6)
    first = ledger.reserve("aml", half, key="1", purpose="p")
    assert ledger.remaining("aml").rho_spent == 0
    assert ledger.events("aml") == ()
    assert ledger.pending() == ("1",)
    with pytest.raises(BudgetExceeded):
        ledger.reserve("aml", half, key="2", purpose="p")
    first.void()
    assert ledger.pending() == ()
    ledger.reserve("aml", half, key="2", purpose="p").start()
    assert ledger.events("aml") == (half,)


def test_void_is_possible_before_start_only(ledger):
    reservation = ledger.reserve("aml", EVENT, key="k", purpose="p")
    reservation.start()
    with pytest.raises(LedgerRefused, match="started"):
        reservation.void()
    with pytest.raises(LedgerRefused, match="never started"):
        ledger.void("k")
    reservation.post()
    with pytest.raises(LedgerRefused):
        ledger.void("k")
    with pytest.raises(LedgerRefused):
        ledger.void("unheard of")


def test_release_and_post_need_a_start(ledger):
    reservation = ledger.reserve("aml", EVENT, key="k", purpose="p")
    for step in (lambda: reservation.release(1), reservation.post):
        with pytest.raises(LedgerRefused, match="reserved"):
            step()
    reservation.start()
    with pytest.raises(LedgerRefused, match="started"):
        reservation.start()


def test_a_voided_key_can_be_reserved_again_for_the_same_and_only_then_started(ledger):
    first = ledger.reserve("aml", EVENT, key="k", purpose="p")
    ledger.void("k")
    with pytest.raises(LedgerRefused, match="voided"):
        first.start()
    second = ledger.reserve("aml", EVENT, key="k", purpose="p")
    second.start()
    assert second.release(1) == 1
    assert kinds(ledger)[2:] == ["reserve", "void", "reserve", "start", "post"]


def test_a_reservation_left_by_a_crash_is_handed_out_again_and_one_holder_starts_it(ledger, url):
    first = ledger.reserve("aml", EVENT, key="k", purpose="p")
    with open_ledger(url) as other:
        second = other.reserve("aml", EVENT, key="k", purpose="p")
        assert kinds(ledger).count("reserve") == 1
        second.start()
        with pytest.raises(SpentWithoutAnswer):
            first.start()
        second.release(7)
    assert ledger.reserve("aml", EVENT, key="k", purpose="p").stored == 7


def test_abandon_does_what_the_status_asks_for(ledger):
    reserved, started, answered, posted, twice = (
        ledger.reserve("aml", EVENT, key=str(i), purpose="p") for i in range(5)
    )
    for reservation in (started, answered, posted):
        reservation.start()
    answered.release(1)
    posted.post()
    ledger.void("4")
    for reservation in (reserved, started, answered, posted, twice):
        reservation.abandon()
        reservation.abandon()
    ends = {entry.body["key"]: entry.kind for entry in ledger.entries() if entry.kind in ("post", "void")}
    assert ends == {"0": "void", "1": "post", "2": "post", "3": "post", "4": "void"}
    assert len(ledger.events("aml")) == 3


def test_a_stored_answer_cannot_be_started(ledger):
    with spend(ledger, "k") as block:
        block.release(1)
    reservation = ledger.reserve("aml", EVENT, key="k", purpose="a count")
    with pytest.raises(LedgerRefused, match="answered"):
        reservation.start()
    reservation.abandon()


# Caps


def test_the_cap_is_met_exactly_and_never_passed(ledger):
    part = ZeroConcentratedDP(epsilon_to_rho(3.0, 1e-6) / 7)
    granted = 0
    for i in range(9):
        try:
            with spend(ledger, str(i), part) as block:
                block.release(i)
            granted += 1
        except BudgetExceeded:
            pass
    assert granted == 6, "seven times the seventh part, each rounded up, is above the cap"
    # What is left passes when it is asked for; the second time, down to the last unit.
    for key in ("rest", "the rest of the rest"):
        with spend(ledger, key, ZeroConcentratedDP(ledger.remaining("aml").rho_left)):
            pass
    accountant = ZcdpAccountant(neighbours="add_remove_one")
    for event in ledger.events("aml"):
        accountant.compose(event)
    assert accountant.epsilon(delta=1e-6) <= 3.0
    assert ledger.remaining("aml").epsilon_spent <= 3.0
    assert ledger.remaining("aml").rho_left == 0.0
    with pytest.raises(BudgetExceeded), spend(ledger, "more", ZeroConcentratedDP(1e-300)):
        pass


def test_a_refusal_says_what_was_asked_what_is_left_and_what_would_fit(ledger):
    with spend(ledger, "1", ZeroConcentratedDP(0.1)):
        pass
    before = ledger.entries()
    with pytest.raises(BudgetExceeded) as caught, spend(ledger, "2", ZeroConcentratedDP(0.1)):
        pytest.fail("the block must not run")
    error = caught.value
    assert error.account == "aml"
    assert error.requested_rho == pytest.approx(0.1)
    assert error.rho_left == ledger.remaining("aml").rho_left
    assert 0 < error.epsilon_spent < error.epsilon_cap == 3.0
    for words in ("asked for rho = 0.1", "is left", error.would_fit):
        assert words in str(error)
    stated = float(error.would_fit.split("rho = ")[1].split(":")[0])
    assert stated <= error.rho_left
    factor = float(error.would_fit.split(": ")[1].split(" times")[0])
    assert ledger.entries() == before
    with spend(ledger, "3", ZeroConcentratedDP(0.1 / factor**2)):
        pass


def test_what_remaining_says_it_buys_does_fit(ledger):
    left = ledger.remaining("aml")
    stated = float(str(left).split("deviation ")[1].split(" or")[0])
    assert stated == pytest.approx(left.smallest_noise_multiplier, rel=0.01)
    with spend(ledger, "k", DiscreteGaussian(noise_multiplier=left.smallest_noise_multiplier)):
        pass
    assert "epsilon 3 of 3" in str(ledger.remaining("aml"))


def test_costs_in_the_journal_add_up_to_what_remaining_says(ledger):
    events = [EVENT, Gaussian(30.0), Repeated(EVENT, 3), Composed((EVENT, ZeroConcentratedDP(1e-300)))]
    for i, event in enumerate(events):
        reservation = ledger.reserve("aml", event, key=str(i), purpose="p")
        if i % 2:
            reservation.start()
    costs = {e.body["key"]: e.body["amounts"][0] for e in ledger.entries() if e.kind == "reserve"}
    total = sum(int(cost.replace(".", "")) for cost in costs.values())
    cap = int(next(e.body["caps"][0] for e in ledger.entries() if e.kind == "open_account").replace(".", ""))
    left = ledger.remaining("aml")
    assert left.rho_left == pytest.approx((cap - total) / 10**18, rel=1e-11)
    assert left.rho_spent + left.rho_reserved == pytest.approx(total / 10**18, rel=1e-15)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (ZeroConcentratedDP(1e308), BudgetExceeded),
        (Repeated(ZeroConcentratedDP(1e308), 10), BudgetExceeded),
        (Repeated(EVENT, 10**400), BudgetExceeded),
        (NonPrivate("a table"), UnsupportedEvent),
        (Composed((EVENT, NonPrivate("a table"))), UnsupportedEvent),
        (ZeroConcentratedDP(5e-324), UnsupportedEvent),
        (Repeated(ZeroConcentratedDP(2.2e-308), 10**300), UnsupportedEvent),
        (Event(), UnsupportedEvent),
        ("event", UnsupportedEvent),
        (None, UnsupportedEvent),
    ],
)
def test_what_has_no_finite_price_is_refused_and_charged_nothing(ledger, event, error):
    with pytest.raises(error), spend(ledger, event=event):
        pytest.fail("the block must not run")
    assert len(ledger.entries()) == 2


def test_an_event_that_pretends_to_be_cheaper_is_priced_as_it_is_written(ledger):
    class Sly(ZeroConcentratedDP):
        kind = "zero_concentrated_dp"

    sly = Sly(0.1)
    with spend(ledger, event=sly):
        pass
    assert type(ledger.events("aml")[0]) is ZeroConcentratedDP
    assert ledger.remaining("aml").rho_spent >= 0.1


def test_the_least_cost_is_a_unit(ledger):
    for i in range(3):
        with spend(ledger, str(i), ZeroConcentratedDP(1e-300)):
            pass
    assert ledger.remaining("aml").rho_spent == pytest.approx(3e-18)


# Accounts


def test_opening_again_with_the_same_terms_does_nothing_and_with_others_is_refused(ledger):
    terms = {"epsilon": 3, "delta": 1e-6, "neighbours": "add_remove_one"}
    before = ledger.entries()
    ledger.open_account("aml", **terms)
    for other in ({"epsilon": 3.1}, {"delta": 1e-7}, {"neighbours": "replace_one"}):
        with pytest.raises(LedgerRefused):
            ledger.open_account("aml", **(terms | other))
    with pytest.raises(LedgerRefused):
        ledger.open_exact_account("aml")
    with pytest.raises(LedgerRefused, match="two relations"):
        ledger.open_account("mds", **(terms | {"neighbours": "replace_one"}))
    assert ledger.entries() == before


@pytest.mark.parametrize(
    "terms",
    [
        {"epsilon": 0.0},
        {"epsilon": -1.0},
        {"epsilon": float("nan")},
        {"epsilon": float("inf")},
        {"epsilon": 1e-12, "delta": 1e-12},
        {"delta": 0.0},
        {"delta": 1.0},
        {"delta": float("nan")},
        {"neighbours": "rows"},
        {"unit": "row"},
        {"name": ""},
        {"name": " a"},
        {"name": "a\x1b[2J"},
        {"name": "a" * 256},
    ],
)
def test_impossible_terms_are_refused(ledger, terms):
    name = terms.get("name", "new")
    rest = {key: value for key, value in terms.items() if key != "name"}
    with pytest.raises(ValueError):
        ledger.open_account(name, **({"epsilon": 1.0, "delta": 1e-6, "neighbours": "add_remove_one"} | rest))
    assert len(ledger.entries()) == 2


def test_a_cap_can_be_lowered_and_never_raised(ledger, url):
    with spend(ledger, "1", ZeroConcentratedDP(0.1)):
        pass
    ledger.set_cap("aml", epsilon=1.0, delta=1e-6, reason="ethics board")
    ledger.set_cap("aml", epsilon=1.0, delta=1e-6, reason="again")
    left = ledger.remaining("aml")
    assert (left.epsilon_cap, left.rho_left) == (1.0, 0.0)
    assert left.epsilon_spent > 1.0
    assert "nothing more fits" in str(left)
    with pytest.raises(BudgetExceeded, match="nothing more fits"), spend(ledger, "2", ZeroConcentratedDP(1e-300)):
        pass
    for raised in ({"epsilon": 1.1, "delta": 1e-6}, {"epsilon": 0.5, "delta": 1e-5}, {"epsilon": 3.0, "delta": 1e-6}):
        with pytest.raises(LedgerRefused, match="only be lowered"):
            ledger.set_cap("aml", **raised, reason="we want more")
    # Opening with the terms of old does not bring the old cap back.
    ledger.open_account("aml", epsilon=3.0, delta=1e-6, neighbours="add_remove_one")
    ledger.open_account("aml", epsilon=1.0, delta=1e-6, neighbours="add_remove_one")
    assert ledger.remaining("aml") == left
    assert kinds(ledger).count("set_cap") == 1
    assert verify(url).ok


def test_exact_accounts_hold_exact_releases_and_nothing_else(ledger, url):
    ledger.open_exact_account("curves")
    ledger.open_exact_account("curves")
    event = NonPrivate("a Kaplan-Meier curve [sites: a, b, c]")
    with spend(ledger, "km", event, "curves") as block:
        block.release(1)
    with pytest.raises(UnsupportedEvent, match="exact releases only"), spend(ledger, "x", EVENT, "curves"):
        pass
    with pytest.raises(LedgerRefused, match="exact"):
        ledger.remaining("curves")
    with pytest.raises(LedgerRefused, match="exact"):
        ledger.set_cap("curves", epsilon=1.0, delta=1e-6, reason="r")
    assert ledger.events("curves") == (event,)
    assert [(account.name, account.filter) for account in ledger.accounts()] == [("aml", "zcdp"), ("curves", "exact")]
    assert ledger.remaining("aml").rho_spent == 0
    assert verify(url).ok


def test_an_unknown_account_is_an_error_everywhere(ledger):
    for use in (ledger.remaining, ledger.events, lambda name: ledger.reserve(name, EVENT, key="k", purpose="p")):
        with pytest.raises(UnknownAccount, match="mds"):
            use("mds")


@pytest.mark.parametrize("words", [{"key": ""}, {"key": "a\n"}, {"key": "a" * 256}, {"purpose": " "}, {"key": 7}])
def test_a_spend_needs_a_key_and_a_purpose(ledger, words):
    with pytest.raises(ValueError):
        ledger.reserve("aml", EVENT, **({"key": "k", "purpose": "p"} | words))


# Opening


def test_two_ledgers_on_one_file_see_each_other(ledger, url):
    with open_ledger(url) as other:
        for i in range(3):
            with spend(ledger, f"a{i}"):
                pass
            with spend(other, f"b{i}"):
                pass
        assert ledger.head == other.head
        assert ledger.remaining("aml") == other.remaining("aml")
        assert len(ledger.events("aml")) == 6
    assert verify(url, head=ledger.head[1]).ok


def test_a_new_file_is_for_its_owner_alone(ledger, tmp_path):
    with spend(ledger):
        pass
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    assert "site.db" in {path.name for path in tmp_path.iterdir()}
    assert not [path for path in tmp_path.iterdir() if "new" in path.name]


def test_identity_and_site_are_those_of_the_first_opening(ledger, url):
    with open_ledger(url) as other:
        assert (other.ledger_id, other.site) == (ledger.ledger_id, "vienna")
    with pytest.raises(LedgerRefused, match="vienna"):
        open_ledger(url, site="madrid")
    assert len(ledger.ledger_id) == 64
    assert "aml" not in repr(ledger)


def test_relative_urls_name_files_below_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_ledger("sqlite:///relative.db").close()
    assert (tmp_path / "relative.db").is_file()
    assert verify(f"sqlite:///{tmp_path}/relative.db").ok


@pytest.mark.parametrize("bad", ["site.db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://host/db"])
def test_other_urls_are_refused(bad):
    for use in (open_ledger, verify):
        with pytest.raises(ValueError, match="URL"):
            use(bad)


def test_odd_file_names_are_taken_literally(tmp_path):
    url = f"sqlite:///{tmp_path}/a?mode=ro#50%25 é.db"
    with open_ledger(url) as ledger:
        ledger.note("hello")
    assert verify(url).ok
    assert (tmp_path / "a?mode=ro#50%25 é.db").is_file()


@pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\x00" + bytes(100), bytes(5000)])
def test_a_file_that_is_no_ledger_is_refused_and_left_as_it_was(tmp_path, content):
    path = tmp_path / "x.db"
    path.write_bytes(content)
    with pytest.raises(LedgerCorrupt):
        open_ledger(f"sqlite:///{path}")
    assert path.read_bytes() == content
    assert not verify(f"sqlite:///{path}").ok


def test_another_database_or_format_version_is_refused(ledger, url, tmp_path):
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE patients (name TEXT)")
    connection.close()
    with pytest.raises(LedgerCorrupt, match="not a ledger"):
        open_ledger(f"sqlite:///{tmp_path}/other.db")
    ledger.close()
    with sqlite3.connect(tmp_path / "site.db") as connection:
        connection.execute("PRAGMA user_version = 3")
    connection.close()
    with pytest.raises(LedgerCorrupt, match="version 3"):
        open_ledger(url)
    assert any("version 3" in problem for problem in verify(url).problems)


def test_a_missing_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(LedgerUnavailable):
        open_ledger(f"sqlite:///{tmp_path}/nowhere/site.db")


def test_a_closed_ledger_says_so_and_closing_twice_is_fine(ledger):
    ledger.close()
    ledger.close()
    for use in (lambda: ledger.head, lambda: ledger.note("x"), lambda: ledger.remaining("aml")):
        with pytest.raises(LedgerRefused, match="closed"):
            use()


def test_a_forked_child_must_open_its_own(ledger, url):
    import subprocess
    import sys

    script = f"""
import os
from privacy.ledger import LedgerRefused, open_ledger
ledger = open_ledger({url!r})
child = os.fork()
if child == 0:
    code = 1
    try:
        ledger.head
    except LedgerRefused:
        ledger.close()
        with open_ledger({url!r}) as own:
            own.note("from the child")
        code = 0
    os._exit(code)
_, status = os.waitpid(child, 0)
ledger.note("from the parent")
print(os.waitstatus_to_exitcode(status))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
    assert [entry.body["text"] for entry in ledger.entries() if entry.kind == "note"][1:] == [
        "from the child",
        "from the parent",
    ]
    assert verify(url).ok


def test_every_error_has_one_root():
    for error in (LedgerRefused, LedgerUnavailable, BudgetExceeded, KeyReused, SpentWithoutAnswer, UnknownAccount):
        assert issubclass(error, PrivacyError)


def test_import_needs_no_table_library():
    import subprocess
    import sys

    code = "import sys, privacy.ledger; print(sorted({'pandas', 'scipy', 'psycopg'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
