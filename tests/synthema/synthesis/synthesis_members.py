"""A small study of three columns at three sites, and its synthesis at three compute parties in this process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from generators import encode
from privacy import Schema
from smpc import SharePackage, run_local, share
from smpc.local import LocalRun
from synthema.conducting import conduct, synthesis_vector
from synthema.study import Study

SCHEMA = Schema.from_dict(
    {
        "columns": {
            "a": {"categories": ["0", "1"]},
            "b": {"categories": ["0", "1", "2"]},
            "c": {"categories": ["0", "1"]},
            "d": {"kind": "integer", "bounds": [0, 40], "edges": [10, 20, 30]},
        }
    }
)
SIZES = {"vienna": 400, "madrid": 300, "milan": 100}


def small_study(mechanism: str = "mst", *, epsilon: float = 100.0, **sections: Any) -> Study:
    wanted = {"rows": 60, "mechanism": mechanism} | sections.pop("synthesis", {})
    return Study.from_dict(
        {
            "study": {"name": "pilot", "purpose": "a test of syntheses", "schema": SCHEMA} | sections.pop("study", {}),
            "budget": {"epsilon": epsilon, "delta": 1e-6},
            "sites": {site: {} for site in SIZES},
            "synthesis": wanted,
            **sections,
        }
    )


def small_frames() -> dict[str, pd.DataFrame]:
    """Sites of different sizes: b follows a, d follows b, c follows d."""
    rng = np.random.default_rng(1)
    out = {}
    for site, n in SIZES.items():
        a = rng.integers(0, 2, n)
        b = np.where(rng.random(n) < 0.9, a, 2)
        d = np.clip(10 * b + rng.integers(0, 20, n), 0, 40)
        c = (d >= 20) ^ (rng.random(n) < 0.15)
        out[site] = pd.DataFrame({"a": a, "b": b, "c": c.astype(int)}).astype(str).assign(d=d)
    return out


def pooled_frame() -> pd.DataFrame:
    return pd.concat(small_frames().values(), ignore_index=True)


def shared_out(study: Study, frames: dict[str, pd.DataFrame]) -> list[list[SharePackage]]:
    """What each compute party is sent: one package of every site."""
    schema, n = study.data_schema.subset(study.synthesis_columns), len(study.compute_parties)
    by_site = [share(synthesis_vector(study, encode(frame, schema)), n) for frame in frames.values()]
    return [[packages[party] for packages in by_site] for party in range(n)]


def run(study: Study) -> LocalRun[dict[str, Any]]:
    """Run the study's synthesis at its compute parties."""

    async def protocol(session: Any, packages: Any) -> dict[str, Any]:
        return await conduct(session, packages, study)

    return run_local(protocol, shared_out(study, small_frames()))
