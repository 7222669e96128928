"""The dealer's file: who deals for whom, and what. Checked once, before anything is made.

operator = "Trust Office Graz"       the legal entity that runs the dealer
relay_operator = "Hub Vienna"        the one that runs the relay; left out where the parties have direct lines
key = "dealer.key"                   made by `synthema dealer new-key`; files are looked for beside this one
plans = ["plan.json"]                what to make: `forecast(...).plan()`; several add up

[[party]]                            in the order of the parties' numbers
operator = "AKH Wien"
key = "6f1c..."                      public key of `synthema material new-key`, 64 hexadecimal digits
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from smpc.dealing import DealtBatch, check_separate, deal
from smpc.plans import added, read_plan
from smpc.transport import Identity
from synthema.errors import StudyError

_Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\w")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Party(_Section):
    operator: _Name
    key: str = Field(pattern=r"^[0-9a-f]{64}$")


class DealerConfig(_Section):
    """What the file says."""

    operator: _Name
    relay_operator: _Name | None = None
    key: str
    plans: list[str] = []
    party: list[_Party] = Field(min_length=2, max_length=5)

    @classmethod
    def load(cls, path: Path) -> DealerConfig:
        """Read the file.

        Raises
        ------
        StudyError
            If an entry is missing, unknown, or wrong.
        DealerNotSeparate
            If the dealer's operator also runs the relay or a party.
        """
        try:
            config = cls(**tomllib.loads(path.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise StudyError(f"{path.name} is no TOML file: {error}") from None
        except ValidationError as error:
            problems = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise StudyError(f"{path.name}: {'; '.join(problems)}") from None
        check_separate(config.operator, relay=config.relay_operator, parties=[party.operator for party in config.party])
        return config


def deal_from_files(config: Path, plans: Sequence[Path], out: Path) -> DealtBatch:
    """Make the batch that a dealer's file and plans ask for, in a folder.

    Parameters
    ----------
    config
        The dealer's file.
    plans
        More plans, beside those that the file names.
    out
        The folder; made if it does not exist.

    Raises
    ------
    StudyError, PackageRefused, DealerNotSeparate
        If the files do not fit together.
    MaterialUnavailable
        If the disk fails.
    """
    setup = DealerConfig.load(config)
    files = [*(config.parent / name for name in setup.plans), *plans]
    if not files:
        raise StudyError("no plan says what to make: give --plan, or plans in the dealer's file")
    wanted = []
    for file in files:
        amounts, n_parties = read_plan(file.read_bytes())
        if n_parties != len(setup.party):
            raise StudyError(f"{file.name} is for {n_parties} parties, {config.name} lists {len(setup.party)}")
        wanted.append(amounts)
    identity = Identity.load(0, config.parent / setup.key)
    out.mkdir(parents=True, exist_ok=True)
    recipients = [bytes.fromhex(party.key) for party in setup.party]
    return deal(added(*wanted), len(setup.party), out, recipients=recipients, identity=identity)
