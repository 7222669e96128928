"""Options that name privacy models, shared by the commands that take them; `model_grammar` reads their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_PANEL = "Privacy models"

K = Annotated[int | None, typer.Option("--k", help="Least size of a crowd (k-anonymity).", rich_help_panel=_PANEL)]
KMap = Annotated[
    str | None,
    typer.Option("--k-map", metavar="K[:SIZE[:ESTIMATOR]]", help="Crowd in the population.", rich_help_panel=_PANEL),
]
L = Annotated[
    list[str] | None,
    typer.Option(
        "--l",
        metavar="L:COLUMN[:KIND]",
        help="Diversity: distinct, entropy or recursive,C. COLUMN+COLUMN are taken together.",
        rich_help_panel=_PANEL,
    ),
]
T = Annotated[
    list[str] | None,
    typer.Option(
        "--t",
        metavar="T:COLUMN[:DISTANCE]",
        help="Closeness: equal, ordered or hierarchical.",
        rich_help_panel=_PANEL,
    ),
]
Beta = Annotated[
    list[str] | None,
    typer.Option("--beta", metavar="BETA:COLUMN[:KIND]", help="Likeness: basic or enhanced.", rich_help_panel=_PANEL),
]
DeltaDisclosure = Annotated[
    list[str] | None,
    typer.Option("--delta-disclosure", metavar="BITS:COLUMN", help="Delta-disclosure.", rich_help_panel=_PANEL),
]
Alpha = Annotated[
    list[str] | None,
    typer.Option(
        "--alpha", metavar="SHARE:COLUMN", help="With --k: no value fills more of a crowd.", rich_help_panel=_PANEL
    ),
]
Presence = Annotated[
    str | None,
    typer.Option(
        "--presence", metavar="LOW:HIGH", help="Chance of being in the table (delta-presence).", rich_help_panel=_PANEL
    ),
]
AverageRisk = Annotated[
    float | None, typer.Option("--average-risk", help="Largest average risk.", rich_help_panel=_PANEL)
]
SampleUniqueness = Annotated[
    float | None, typer.Option("--sample-uniqueness", help="Largest share alone.", rich_help_panel=_PANEL)
]
PopulationUniqueness = Annotated[
    str | None,
    typer.Option(
        "--population-uniqueness",
        metavar="SHARE:SIZE[:ESTIMATOR]",
        help="The same in the population.",
        rich_help_panel=_PANEL,
    ),
]
Population = Annotated[
    Path | None,
    typer.Option("--population", metavar="POP.csv", help="Everybody the patients come from.", rich_help_panel=_PANEL),
]
