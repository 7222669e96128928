"""`synthema example`: a folder of files to try things on, with simulated patients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthema.cli.errors import errors, show
from synthema.cli.example_federation import federation, start

if TYPE_CHECKING:
    from collections.abc import Sequence

example_app = typer.Typer(name="example", help="Write example files. Patients are simulated.", no_args_is_help=True)
example_app.command()(federation)
example_app.command()(start)

_STUDY = """\
# Who is who in the genetics of acute myeloid leukaemia: an example. Patients are SIMULATED.
# Run it with: synthema simulate study.toml

[study]
name = "aml-example"
purpose = "Genetic risk, age and survival in acute myeloid leukaemia"
schema = "schema.toml"
neighbours = "add_remove_one"
max_sites_per_patient = 1

[budget]
epsilon = 3.0
delta = 1e-6

[federation]
compute_parties = [{parties}]
collusion_threshold = 1

# The noise of a marginal grows with the number of columns: a few hundred patients bear a dozen, not 144.
[synthesis]
rows = 1000
columns = [
  "ELN 2022", "AGE", "SEX", "Intensive chemotherapy induction", "Allogeneic HSCT", "Overall survival", "STATUS_OS",
  "complex", "NPM1", "FLT3_ITD", "DNMT3A", "TP53",
]

# Each hospital's file and rules. In a deployment they live at the hospital, not in the study.
{sites}"""

_SITE = """\
[sites.{name}]
file = "{name}.csv"
policy = {{ epsilon_cap = 6.0, delta_cap = 1e-5, min_patients = 10 }}
"""

_NOTICE = """\
These patients are SIMULATED: drawn from laws in the source of `synthema.aml`, with nobody behind them. They are neither
anonymised nor private, and they say nothing about leukaemia.

schema.toml   public description of the 144 columns
study.toml    a study over all sites; run it in one process with `synthema simulate study.toml`
*.csv         one table for each site
"""


@example_app.command()
def aml(
    out: Annotated[Path, typer.Option("--out", help="Folder to write to; made if it does not exist.")],
    sites: Annotated[int, typer.Option(min=2, max=100, help="Number of simulated hospitals.")] = 3,
    patients: Annotated[int, typer.Option(min=10, max=1_000_000, help="Simulated patients at each.")] = 200,
    seed: Annotated[int | None, typer.Option(min=0, help="The same number gives the same patients again.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document for a script.")] = False,
) -> None:
    """Acute myeloid leukaemia: schema of 144 columns, study, and a CSV of SIMULATED patients for each site."""
    with errors(as_json=as_json):
        import numpy as np

        from synthema.aml import aml_schema_file, simulated_aml_patients, simulated_aml_sites

        rng = np.random.default_rng(seed)
        hospitals = simulated_aml_sites(sites, rng=rng)
        names = [site.name for site in hospitals]
        out.mkdir(parents=True, exist_ok=True)
        texts = {
            "README.txt": _NOTICE,
            "schema.toml": aml_schema_file().read_text(encoding="utf-8"),
            "study.toml": study_text(names),
        }
        for name, text in texts.items():
            (out / name).write_text(text, encoding="utf-8")
        for site in hospitals:
            frame = simulated_aml_patients(patients, site=site, rng=rng)
            frame.to_csv(out / f"{site.name}.csv", index=False)
        files = [str(out / name) for name in (*texts, *(f"{name}.csv" for name in names))]
        told = f"{out}: schema, study and {sites} tables of {patients} simulated patients"
        told += f"\nTry: synthema simulate {out / 'study.toml'}"
        show({"out": str(out), "files": files, "simulated": True}, told, as_json=as_json)


def study_text(sites: Sequence[str]) -> str:
    """Return the example's study as TOML."""
    parties = ", ".join(f'"{name}"' for name in sites[:3])
    return _STUDY.format(parties=parties, sites="\n".join(_SITE.format(name=name) for name in sites))
