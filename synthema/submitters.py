"""Who hands in studies: a simulation in this process, or a researcher over any driver of the network protocol.

`synthema.researcher.ResearchDesk` is a third: a researcher's line to a hub; `synthema.flower.submitting.FlowerDesk` a
fourth: a network that runs Flower.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smpc.transport.roster import Identity
from synthema.networks.base import run_job
from synthema.researcher import read_result
from synthema.signing import Signer
from synthema.submission import Submission

if TYPE_CHECKING:
    import pandas as pd
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from synthema.networks.base import Network
    from synthema.pipeline import Progress
    from synthema.study import Study


class SimulatedNetwork:
    """Every site in this process, by `synthema.simulate`: for trying a study out, and for tests.

    Parameters
    ----------
    frames
        Each site's rows.
    out
        Folder for the sites' ledgers, so that one budget holds for all studies; a new one for each study if None.
    """

    def __init__(
        self, frames: Mapping[str, pd.DataFrame], *, out: str | Path | None = None, progress: Progress | None = None
    ) -> None:
        self._frames, self._out, self._progress = dict(frames), out, progress

    def __repr__(self) -> str:
        return f"SimulatedNetwork({sorted(self._frames)})"

    def submit(self, study: Study, /) -> Mapping[str, Any]:
        """Run the study; see `synthema.simulate` for what it raises."""
        from synthema.pipeline import simulate

        outcome = simulate(study, self._frames, out=self._out, progress=self._progress)
        return {
            "report": outcome.report,
            "costs": outcome.costs,
            "released": outcome.released.to_dict(),
            "synthetic": None if outcome.table is None else outcome.table.to_csv(index=False),
            "anonymised": None if outcome.anonymised is None else outcome.anonymised.to_csv(index=False),
        }


class NetworkResearcher:
    """A researcher over a driver of the network protocol (`synthema.networks.base.Network`).

    Parameters
    ----------
    identity
        Signs studies.
    box
        Opens results.
    sites
        Each site's Ed25519 public key, as its operator gave it.
    """

    def __init__(
        self,
        network: Network,
        *,
        identity: Identity,
        box: X25519PrivateKey,
        sites: Mapping[str, bytes],
        offer_within: float = 60.0,
        within: float = 600.0,
    ) -> None:
        self._network, self._identity, self._box, self._sites = network, identity, box, dict(sites)
        self._offer_within, self._within = offer_within, within

    def __repr__(self) -> str:
        return f"NetworkResearcher(sites={sorted(self._sites)})"

    def submit(self, study: Study, /) -> Mapping[str, Any]:
        """Offer the study, run it if every site accepts, and read the sealed result; raises as `run_job`."""
        document = study.signed(Signer(self._identity))
        submission = Submission.new(document, self._box.public_key().public_bytes_raw(), self._identity)
        sealed = run_job(self._network, submission, offer_within=self._offer_within, within=self._within)
        lead = self._sites[study.compute_parties[0]]
        return read_result(sealed, self._box, lead, job_id=submission.job_id)
