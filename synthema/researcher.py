"""A researcher's side: hand in a signed study, follow it, and read the sealed result.

`researcher.toml` lies beside the researcher's keys; the section of each site is the card that the site's operator gave
(`synthema site card`), so that the hub can neither pose as a site nor exchange a result.
"""

from __future__ import annotations

import json
import queue
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, ValidationError

from privacy._toml import dump_toml
from smpc.sealed_files import load_sealing_key, new_sealing_key
from smpc.transport.roster import Identity
from synthema.agent.config import PartnerSection
from synthema.agent.setup import Card, append_section
from synthema.enrolling import enrol
from synthema.errors import CatalogueError, JobFailed, SiteFailed, SiteRefused, StudyError, SynthemaError
from synthema.member_config import HubSection, MemberKeys, Section
from synthema.messages import DECISION_LIST, AskCatalogue, AskJob, Catalogue, JobState, Message, Refused, Submit
from synthema.networks.line import Line, LineDown
from synthema.signing import Signer
from synthema.submission import Submission, open_result

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from synthema.catalogue import CatalogueEntry
    from synthema.study import Study

RESEARCHER_FILE = "researcher.toml"
_ASK_SECONDS = 0.25
Progress = Callable[[str], None]


class ResearcherConfig(Section):
    """Who the researcher is, where the hub is, and by what the sites are known."""

    version: int = Field(default=1, ge=1, le=1)
    name: str
    hub: HubSection
    keys: MemberKeys = MemberKeys()
    sealing_key: str = "keys/sealing.key"
    partners: dict[str, PartnerSection] = Field(default_factory=dict)
    folder: Path = Field(default=Path(), exclude=True)

    @classmethod
    def load(cls, path: str | Path) -> ResearcherConfig:
        """Read the file, or the one in a folder. Raises StudyError naming every entry that is wrong."""
        path = Path(path)
        path = path / RESEARCHER_FILE if path.is_dir() else path
        try:
            return cls(**tomllib.loads(path.read_text(encoding="utf-8")), folder=path.absolute().parent)
        except ValidationError as error:
            problems = (f"{'.'.join(map(str, item['loc'])) or path.name}: {item['msg']}" for item in error.errors())
            raise StudyError(f"{path.name}: {'; '.join(problems)}") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise StudyError(f"{path.name} cannot be read ({type(error).__name__})") from None

    def identity(self) -> Identity:
        """Return the key that signs studies."""
        return Identity.load(0, self.folder / self.keys.identity)


def join_as_researcher(folder: Path, token: str) -> ResearcherConfig:
    """Make a researcher's keys, have the hub certify them, and write researcher.toml.

    Raises
    ------
    StudyError
        If there is a researcher in the folder already.
    EnrolmentFailed
        If the hub refuses.
    """
    file = folder / RESEARCHER_FILE
    if file.exists():
        raise StudyError(f"{file} exists: choose another folder")
    found = enrol(token, None, folder / "keys")
    new_sealing_key(folder / "keys" / "sealing.key")
    address = f"{found.hub.host}:{found.hub.port}"
    hub = dump_toml({"hub": {"address": address, "fingerprint": found.hub.fingerprint.hex()}})
    head = "# Sites' cards follow: synthema researcher trust CARD.toml\n"
    file.write_text(f'{head}version = 1\nname = "{found.name}"\n\n{hub}', encoding="utf-8")
    return ResearcherConfig.load(file)


def trust(config: ResearcherConfig, cards: Sequence[Card]) -> None:
    """Add sites to researcher.toml. Raises StudyError if one is listed already."""
    known = sorted(card.name for card in cards if card.name in config.partners)
    if known:
        raise StudyError(f"{known[0]!r} is listed already: edit {RESEARCHER_FILE} if its keys have changed")
    text = "\n".join(card.text for card in cards)
    append_section(config.folder / RESEARCHER_FILE, text, ResearcherConfig.load)


def make_submission(config: ResearcherConfig, study: Study) -> Submission:
    """Return a study, signed by the researcher, with the key for its result."""
    identity = config.identity()
    document = study.signed(Signer(identity))
    return Submission.new(document, load_result_key(config).public_key().public_bytes_raw(), identity)


def load_result_key(config: ResearcherConfig) -> X25519PrivateKey:
    """Return the key for which the researcher's results are sealed."""
    return load_sealing_key(config.folder / config.sealing_key)


class ResearchDesk:
    """A researcher's line to the hub. A context manager."""

    def __init__(self, config: ResearcherConfig) -> None:
        self._config = config
        self._states: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._catalogues: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        # Attempts at a job that ended badly, and were reported: word of them may still be under way.
        self._over: dict[str, int] = {}
        files = config.keys.member_files(config.folder)
        self._line = Line(config.hub.hub_address(), files, on_message=self._on_message)

    def __repr__(self) -> str:
        return f"ResearchDesk({self._config.name!r})"

    def __enter__(self) -> Self:
        self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()

    def submission(self, study: Study) -> Submission:
        """Return the study, signed, with the key for its result."""
        return make_submission(self._config, study)

    def submit(
        self,
        study: Study,
        *,
        decide_seconds: float = 3600.0,
        run_seconds: float = 3600.0,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Hand in a study, wait for its end, and return what the lead put together (`read_bundle`).

        Parameters
        ----------
        decide_seconds
            Within which every site has to accept.
        run_seconds
            Within which the job has to end.

        Raises
        ------
        SiteRefused
            A site refused; nothing was charged.
        SiteFailed, JobFailed
            The job failed; steps that had started stay charged.
        LineDown
            The hub cannot be reached. The job may go on; `follow` finds it again.
        """
        submission = self.submission(study)
        self._line.wait_until_up(30.0)
        head = Submit(
            job=submission.job_id,
            public_key=submission.document.public_key,
            signature=submission.document.signature.hex(),
            sites=tuple(study.sites),
            parties=study.compute_parties,
            dealer=study.federation.dealer,
            decide_seconds=decide_seconds,
            run_seconds=run_seconds,
        )
        self._line.send(None, head, submission.encode())
        return self.follow(study, submission.job_id, progress=progress, within=decide_seconds + run_seconds)

    def follow(
        self, study: Study, job_id: str, *, progress: Progress | None = None, within: float = 7200.0
    ) -> dict[str, Any]:
        """Wait for the end of a job that was handed in; as `submit`."""
        say = progress or (lambda _line: None)
        said = ""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            state, payload = self._ask(job_id, with_result=True)
            if state.attempt <= self._over.get(job_id, 0):
                continue
            if state.state in ("refused", "failed", "cancelled"):
                self._over[job_id] = state.attempt
            line = _in_words(state, payload)
            if line != said:
                said = line
                say(line)
            # The hub also says by itself that a job is done; the result comes with the answer to a question.
            if state.state == "done" and state.content == "result":
                lead = self._known(study.compute_parties[0])
                return read_result(payload, load_result_key(self._config), lead, job_id=job_id)
            _raise_if_over(state, payload)
            time.sleep(_ASK_SECONDS)
        raise JobFailed("deadline", f"the job did not end within {within:g} s; it may still: follow it")

    def catalogue(self, *, within: float = 30.0) -> dict[str, CatalogueEntry | CatalogueError]:
        """Return what sites say of their data sets: entries signed by the keys that are pinned, or what is wrong.

        A site whose card this researcher does not have is left out: nobody can tell whether an entry is its own.
        """
        from synthema.catalogue import verify_entry

        self._line.wait_until_up(within)
        self._line.send(None, AskCatalogue())
        try:
            entries = json.loads(self._catalogues.get(timeout=within))
        except (queue.Empty, ValueError):
            raise LineDown("the hub sent no catalogue") from None
        found: dict[str, CatalogueEntry | CatalogueError] = {}
        for site, partner in self._config.partners.items():
            if isinstance(entries, dict) and isinstance(entries.get(site), str):
                try:
                    identity = bytes.fromhex(partner.identity)
                    found[site] = verify_entry(entries[site].encode(), identity=identity, site=site)
                except CatalogueError as error:
                    found[site] = error
        return found

    def _known(self, site: str) -> bytes:
        partner = self._config.partners.get(site)
        if partner is None:
            raise StudyError(f"researcher.toml has no card of {site!r}: its result cannot be checked")
        return bytes.fromhex(partner.identity)

    def _ask(self, job_id: str, *, with_result: bool) -> tuple[JobState, bytes]:
        patience = time.monotonic() + 60.0
        while time.monotonic() < patience:
            self._drop_what_is_old()
            try:
                self._line.send(None, AskJob(job=job_id, with_result=with_result))
                message = self._states.get(timeout=10.0)
            except (LineDown, queue.Empty):
                time.sleep(_ASK_SECONDS)
                continue
            match message.head:
                case JobState() as state if state.job == job_id:
                    return state, message.payload
                case Refused() as refused:
                    raise JobFailed(refused.reason, refused.explanation)
        raise LineDown("the hub does not answer")

    def _drop_what_is_old(self) -> None:
        """Forget states that came unasked: read one by one, they would always be some questions behind."""
        while True:
            try:
                message = self._states.get_nowait()
            except queue.Empty:
                return
            if isinstance(message.head, Refused):
                raise JobFailed(message.head.reason, message.head.explanation)

    def _on_message(self, message: Message) -> None:
        if isinstance(message.head, JobState | Refused):
            self._states.put(message)
        elif isinstance(message.head, Catalogue):
            self._catalogues.put(message.payload)


def read_result(sealed: bytes, key: X25519PrivateKey, lead: bytes, *, job_id: str) -> dict[str, Any]:
    """Return what the lead put together for a job (`read_bundle`).

    Parameters
    ----------
    lead
        Its Ed25519 public key.

    Raises
    ------
    SynthemaError
        If it was not sealed by the lead for this researcher, or is the result of another job: a hub has all of them.
    """
    from synthema.site_run import read_bundle

    bundle = read_bundle(open_result(sealed, key, lead))
    if bundle["released"]["job_id"] != job_id:
        raise SynthemaError("the hub sent the result of another job")
    return bundle


def _decisions(payload: bytes) -> Mapping[str, Any]:
    try:
        return {each.site: each for each in DECISION_LIST.validate_json(payload, strict=True)}
    except ValidationError:
        raise SynthemaError("what the hub says of the sites is not understood") from None


def _in_words(state: JobState, payload: bytes) -> str:
    if state.content == "result" or state.state != "offered":
        return state.state
    said = _decisions(payload)
    return "; ".join(f"{site}: {each.decision}" for site, each in sorted(said.items()))


def _raise_if_over(state: JobState, payload: bytes) -> None:
    match state.state:
        case "refused":
            for site, each in _decisions(payload).items():
                if each.decision == "refused":
                    raise SiteRefused(site=site, reason=each.reason, explanation=each.explanation)
            raise JobFailed("refused", state.explanation)
        case "failed" | "cancelled":
            if state.site:
                raise SiteFailed(site=state.site, step=state.step, error=state.explanation or state.error)
            raise JobFailed(state.error or state.state, state.explanation)
