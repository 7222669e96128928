"""`synthema example federation|start`: a federation on one machine, with real patients of five made-up hospitals."""

from __future__ import annotations

import json
import signal
import time
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from synthema.cli.errors import errors, input_errors, show

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for a script instead of text.")]

_FILE = "federation.json"
_JOB = """\
# A study of five hospitals, to be handed in with: synthema submit {folder}/job.toml --as {folder}/researcher

[study]
name = "first-study"
purpose = "Survival after diagnosis of acute myeloid leukaemia, by age, sex, white cell count and deprivation"
schema = "schema.toml"
neighbours = "add_remove_one"

[budget]
epsilon = 1.0
delta = 1e-6

[federation]
compute_parties = ["alder", "birch", "cedar"]
collusion_threshold = 1
dealer = "dealer"

[synthesis]
rows = 1000
mechanism = "{mechanism}"

{sites}"""


def federation(
    out: Annotated[Path, typer.Option("--out", help="New folder for hub, sites, dealer and researcher.")],
    mechanism: Annotated[str, typer.Option(help="mst, aim, privbayes, adaptive, chow-liu or independent.")] = "mst",
    studies: Annotated[int, typer.Option(min=1, help="How many such studies each site's budget allows.")] = 3,
    as_json: Json = False,
) -> None:
    """Make a federation of five made-up hospitals in one folder: each member with its own keys, ledger and file."""
    with errors(as_json=as_json), input_errors(as_json=as_json):
        from synthema.demo import demo_frames, demo_study
        from synthema.errors import SynthemaError
        from synthema.local_federation import make_federation
        from synthema.study import Study

        schema = demo_study().data_schema
        sites = "\n".join(f"[sites.{site}]" for site in demo_study().sites)
        text = _JOB.format(folder=out, mechanism=mechanism, sites=sites)
        data = tomllib.loads(text)
        study = Study.from_dict({**data, "study": {**data["study"], "schema": schema}})
        if out.exists() and any(out.iterdir()):
            raise SynthemaError(f"{out.name} is not empty: choose a new folder")
        made = make_federation(out, study, demo_frames(), studies=studies)
        (out / "job.toml").write_text(text, encoding="utf-8")
        body = {"sites": list(made.sites), "port": made.port, "has_dealer": made.has_dealer}
        (out / _FILE).write_text(json.dumps(body), encoding="utf-8")
        commands = {member: " ".join(["synthema", *command]) for member, command in made.commands.items()}
        lines = [f"{out} holds a hub, five hospitals, a dealer and a researcher. Start all of them:"]
        lines += [f"  synthema example start {out}", "or each in a terminal of its own:"]
        lines += [f"  {command}" for command in commands.values()]
        lines += ["then hand a study in:", f"  synthema submit {out}/job.toml --as {out}/researcher --out {out}/result"]
        show({"folder": str(out), "commands": commands}, "\n".join(lines), as_json=as_json)


def start(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `synthema example federation` made.")],
) -> None:
    """Run hub, sites and dealer, each in a process of its own, until interrupted. Logs go to the folder."""
    with errors(as_json=False), input_errors(as_json=False):
        from synthema.errors import SynthemaError
        from synthema.local_federation import LocalFederation, running

        try:
            body = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            made = LocalFederation(folder, tuple(body["sites"]), int(body["port"]), bool(body["has_dealer"]))
        except (OSError, ValueError, KeyError, TypeError):
            raise SynthemaError(f"{folder} holds no federation: make one with `synthema example federation`") from None

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        # Also where the shell has told its children to ignore Ctrl-C.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        print(f"starting {', '.join(made.commands)} ...", flush=True)
        with running(made):
            print("all are connected to the hub; Ctrl-C stops them", flush=True)
            try:
                while True:
                    time.sleep(3600)
            except KeyboardInterrupt:
                print("stopping", flush=True)
