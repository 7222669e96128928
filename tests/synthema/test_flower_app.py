"""What goes through Flower without Flower: the app without code, the way back through a log, the client's one call."""

from __future__ import annotations

import base64
import importlib.util
import itertools
import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from synthema.cli.app import app
from synthema.errors import JobFailed, ModelFailed, SiteFailed, SiteRefused, StudyError
from synthema.flower import bundle, client, server
from synthema.flower.needed import flower
from synthema.flower.outcome import LABEL, Outcome, OutcomeReader, lines_of
from synthema.flower.server import run_one
from synthema.flower.submitting import hand_in
from synthema.networks.orders import Answer


def read(lines: list[str]) -> tuple[Outcome, bytes]:
    reader = OutcomeReader()
    for line in lines:
        reader.take(line)
    return reader.outcome()


@given(st.binary(max_size=60_000), st.lists(st.text(), max_size=5))
def test_a_result_comes_through_a_log_whatever_else_is_written_between(result: bytes, others: list[str]) -> None:
    lines = list(lines_of(Outcome(state="done"), result))
    between = [line for piece in itertools.zip_longest(lines, others, fillvalue="") for line in piece]
    assert read(between) == (Outcome(state="done"), result)
    # Nobody may write a second piece in the place of the first.
    forged = [f"{LABEL} 1/{len(lines)} {base64.b64encode(b'x').decode()}"]
    assert read(lines + forged) == (Outcome(state="done"), result)


def test_a_log_that_is_cut_is_no_outcome() -> None:
    lines = list(lines_of(Outcome(state="done"), bytes(50_000)))
    assert len(lines) == 5
    for missing in range(len(lines)):
        with pytest.raises(JobFailed, match="without saying"):
            read(lines[:missing] + lines[missing + 1 :])
    for line in (
        "",
        LABEL,
        f"{LABEL} 1/1",
        f"{LABEL} 0/1 eA==",
        f"{LABEL} 1/0 eA==",
        f"{LABEL} 1/1 %%",
        f"{LABEL} a/b c",
    ):
        with pytest.raises(JobFailed):
            read([line])
    with pytest.raises(JobFailed, match="not understood"):
        read([f"{LABEL} 1/1 {base64.b64encode(b'nonsense').decode()}"])


@pytest.mark.parametrize(
    "error",
    [
        SiteRefused(site="milan", reason="cohort", explanation="too few"),
        SiteFailed(site="milan", step="marginals", error="it left the hub"),
        JobFailed("relay", "it is full"),
    ],
)
def test_errors_keep_their_type_and_who_is_named(error: Exception) -> None:
    outcome, _ = read(list(lines_of(Outcome.of_error(error))))  # type: ignore[arg-type]
    with pytest.raises(type(error)) as raised:
        outcome.raise_error()
    for name in ("site", "reason", "step", "error", "explanation", "rule"):
        assert getattr(raised.value, name, None) == getattr(error, name, None)
    # One that is no site's fault is a job's failure, by its name.
    with pytest.raises(JobFailed, match="ModelFailed"):
        Outcome.of_error(ModelFailed("separated")).raise_error()


def test_the_app_holds_no_code_and_asks_for_no_installation(tmp_path: Path) -> None:
    file = bundle.write_bundle(tmp_path / "app")
    assert list(file.parent.rglob("*")) == [file]
    written = tomllib.loads(file.read_text(encoding="utf-8"))
    assert written["project"]["dependencies"] == []
    components = written["tool"]["flwr"]["app"]["components"]
    assert components == {"serverapp": "synthema.flower.server:app", "clientapp": "synthema.flower.client:app"}
    assert written["tool"]["flwr"]["app"]["config"].keys() == {"submission", "decide-seconds", "run-seconds"}
    with pytest.raises(StudyError, match="not empty"):
        bundle.write_bundle(file.parent)


def test_a_client_without_an_agent_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(client.SOCKET_VARIABLE, raising=False)
    answer, _ = Answer.decode(client.answer_to(b"an order"))
    assert (answer.state, "is not set" in answer.explanation) == ("down", True)
    monkeypatch.setenv(client.SOCKET_VARIABLE, str(tmp_path / "nothing"))
    answer, _ = Answer.decode(client.answer_to(b"an order"))
    assert answer.state == "down"
    assert str(tmp_path) not in answer.explanation
    assert answer.decision().state == "refused"
    assert answer.ending().state == "failed"


@pytest.mark.parametrize("text", ["", "%", base64.b64encode(b"nonsense").decode()])
def test_a_run_without_a_submission_asks_nobody(text: str) -> None:
    outcome, result = run_one(None, {"submission": text, "decide-seconds": 1.0, "run-seconds": 1.0})  # type: ignore[arg-type]
    assert (outcome.state, result) == ("failed", b"")
    assert "holds no submission" in outcome.explanation


@pytest.mark.skipif(importlib.util.find_spec("flwr") is not None, reason="Flower is installed here")
def test_without_flower_the_apps_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (client, server):
        with pytest.raises(ImportError, match=r"synthema\[flower\]"):
            _ = module.app
        with pytest.raises(AttributeError):
            _ = module.nothing
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(StudyError, match=r"synthema\[flower\]"):
        hand_in(None)  # type: ignore[arg-type]


def test_a_module_that_is_missing_inside_flower_is_not_called_flower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_nothing.py").write_text("import something_that_is_not_there\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_that"):
        flower("needs_nothing")


def test_the_command_writes_the_app_once(tmp_path: Path) -> None:
    runner = CliRunner()
    written = runner.invoke(app, ["flower", "app", str(tmp_path / "app"), "--json"])
    assert written.exit_code == 0
    assert (tmp_path / "app" / "pyproject.toml").read_text(encoding="utf-8") == bundle.APP
    again = runner.invoke(app, ["flower", "app", str(tmp_path / "app")])
    assert again.exit_code == 2
    missing = runner.invoke(app, ["flower", "submit", str(tmp_path / "no.toml"), "--as", str(tmp_path)])
    assert missing.exit_code == 2
