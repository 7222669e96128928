"""A site whose table stays in its database takes part to the end."""

from __future__ import annotations

from pathlib import Path

from network_members import LocalFederation, small_study

from generators.tuples import encode_tuples
from privacy.ledger import open_ledger
from synthema.intake.data import CountedData
from synthema.site import Site, SitePolicy


class Counted(LocalFederation):
    """Milan's table is counted where it is."""

    def open_site(self, site: str) -> Site:
        if site != "milan":
            return super().open_site(site)
        schema = small_study().data_schema
        return Site(
            site,
            CountedData(encode_tuples(self.frames[site], schema)),
            schema,
            ledger=open_ledger(f"sqlite:///{self.folder / site}.db", site=site),
            policy=SitePolicy(20.0, 1e-5, partners=frozenset(self.frames)),
            secret=b"s" * 32,
        )


def test_a_site_that_only_counts_its_table_ends_a_job_well(tmp_path: Path) -> None:
    federation = Counted(tmp_path)
    federation.begin()
    try:
        result = federation.run(small_study())
        assert len(result["synthetic"].splitlines()) == 51
        assert federation.agents["milan"].wait_until_idle(within=10.0)
        assert (
            federation.network._endings[federation.researcher.submission(small_study()).job_id]["milan"].state == "done"
        )
    finally:
        federation.close()
