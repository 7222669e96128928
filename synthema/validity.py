"""Whether a site's shared vector can be the marginals of a table of patients: checked on shares, before anything opens.

x_i   vector of site i: counts of the cells of all cliques of a public layout, one clique after the other
cap   most patients that the site declared to have, public;  least  fewest

Three rules, in the order in which a broken one is named:

margins   all marginals have one total, and agree on every margin that they share: linear in x
total     the total lies in least..cap
cells     every count lies in 0..cap                                          (level "full" only)

Margins. Let S be the cliques and everything below them (their subsets, without the empty one). Each r in S has one
table of reference: the site's own marginal if r is a clique, else the margin of the reference of the first set above
it. The differences tested are, for each s in S and each r that lacks one column of s, the margin of the reference of s
less the reference of r; and for single columns, totals against the first total. If all are zero, any two marginals
agree on any margin r that they share, because each is led down to the reference of r step by step.

Every word of the site is taken as it comes. Differences are elements of Z_2^64: they are tested by 64 random subset
sums with coins that the parties agree on after the shares are with them, so that a vector which breaks the rule passes
with probability at most 2^-64, for a difference of 2^63 as for one of 1 (proof: `smpc.batch_checks`, (1)). Ranges are
comparisons of whole words, exact for any word, followed by the same test of their bits. A margin is a sum modulo 2^64;
where a marginal has c cells in 0..cap and c cap < 2^63, no sum of them wraps, so that on level "full" the agreement is
one of integers. A lie about any rule is found with probability at least 1 - 3 2^-64 (and the
distinguishing advantage of the stream that coins come from).

What is opened is one bit for each site and rule, after all of them: ones for honest sites, whatever their data. The
sums and the comparisons stay shared. For a site that fails, the bits of its rules are known and nothing else.

What is not found: patients that a site invents, consistently, up to its cap; patients that it leaves out; and on level
"totals" counts beyond the range in marginals that agree, negative ones for example, by which a site can shift the
joint result where it wants. Parties follow the protocol (semi-honest): one that deviates, or that takes a site's
package after the coins are known, can clear or accuse a site. A study with a site it must not trust has other parties.

Cost, for s sites of c cells each (asserted in tests/synthema/test_validity.py; bytes: docs/federation/validity.md):

    openings   64 s for margins, s for totals and, on level "full", s c for cells, of 64 bits each; all but the first
               compared with two thresholds
    rounds     2 for coins and shapes, 6, and 1; on level "full" three more for each further 2^19 cells
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, Protocol

import numpy as np

from privacy._checks import check_count
from smpc import RING64, ProtocolAbort, Session, SharePackage
from smpc.batch_checks import each_within, each_zero, joined
from smpc.prg import SEED_BYTES
from smpc.ring import Words
from synthema.errors import InputRule, SiteInputInvalid, StudyError

Level = Literal["full", "totals"]
Clique = tuple[str, ...]

# Cells of all sites together up to which every count is compared, if no level is stated.
MOST_CELLS_COMPARED = 1 << 20

_OPENED: tuple[InputRule, ...] = ("margins", "total", "cells")


class Layout(Protocol):
    """What a site's vector holds: the counts of one clique after the other, axes in the order of its columns."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Number of codes of each column, from the public schema."""
        ...

    @property
    def cliques(self) -> Sequence[Clique]:
        """Cliques, each once."""
        ...


def n_cells(layout: Layout) -> int:
    """Return the length of a site's vector."""
    return sum(_cells(layout))


def level_of(layout: Layout, n_sites: int) -> Level:
    """Return the level of a check where none is stated: "full" up to 2^20 cells of all sites together."""
    return "full" if n_cells(layout) * n_sites <= MOST_CELLS_COMPARED else "totals"


async def check_contributions(
    session: Session,
    layout: Layout,
    packages: Sequence[SharePackage],
    *,
    sites: Sequence[str],
    cap: int | Mapping[str, int],
    least: int = 0,
    level: Level | None = None,
) -> None:
    """Return if every site's vector keeps the rules; raise at every party, naming the first site that does not.

    Parameters
    ----------
    layout
        Public: cliques, and sizes of columns.
    packages
        This party's package of each site.
    sites
        Their names, in the order of the packages.
    cap
        Most patients of a site, for all or by name; its product with the cells of any marginal stays below 2^63.
    least
        Fewest patients of a site: a study's minimum cohort, say.
    level
        "full" or "totals"; by default `level_of`.

    Raises
    ------
    SiteInputInvalid
        The same at all parties. Nothing of the site was opened but which rules it breaks.
    StudyError
        If the layout, the caps or the sites are none; nothing was sent.
    ProtocolAbort
        If a party's word about the packages it got is malformed.
    """
    caps = _checked(layout, packages, sites, cap, least)
    chosen = level_of(layout, len(sites)) if level is None else level
    if chosen not in {"full", "totals"}:
        raise StudyError(f"level must be 'full' or 'totals', got {level!r}")
    length = n_cells(layout)
    misfits = bytes(package.domain is not RING64 or package.shape != (length,) for package in packages)
    # Every party holds its packages by now: coins that are agreed on from here are independent of them.
    told, seed = await session.together(session.exchange(misfits), session.coin(SEED_BYTES))
    for party, flags in enumerate(told):
        if len(flags) != len(sites) or max(flags, default=0) > 1:
            raise ProtocolAbort(f"party {party} did not say which packages fit", party=party)
    for i, site in enumerate(sites):
        if any(flags[i] for flags in told):
            raise SiteInputInvalid(site=site, rule="shape")

    x = np.stack([package.expand() for package in packages])
    differences, totals = _differences(x, layout)
    checks = [
        each_zero(session, session.shared(differences), seed),
        each_within(session, session.shared(totals), least, caps, seed),
    ]
    if chosen == "full":
        checks.append(each_within(session, session.shared(x), 0, caps, seed))
    kept = await session.open(joined(*await session.together(*checks)))
    for i, site in enumerate(sites):
        for rule, ok in zip(_OPENED, kept[:, i], strict=False):
            if not ok:
                raise SiteInputInvalid(site=site, rule=rule)


def _checked(
    layout: Layout, packages: Sequence[SharePackage], sites: Sequence[str], cap: int | Mapping[str, int], least: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the sites' caps. Raises StudyError."""
    if not sites or len(set(sites)) < len(sites) or len(packages) != len(sites):
        raise StudyError("a check needs one package of each site, and each site once")
    if not layout.cliques or len({frozenset(clique) for clique in layout.cliques}) < len(layout.cliques):
        raise StudyError("a layout needs at least one clique, and each of them once")
    if isinstance(cap, Mapping) and set(cap) != set(sites):
        raise StudyError("cap must name the sites that contribute, and no others")
    caps = [cap[site] if isinstance(cap, Mapping) else cap for site in sites]
    check_count("least", least, least=0)
    # Sums of a marginal's counts must not wrap, and thresholds must stay below 2^62.
    largest = min(2**62, 2**63 // max(_cells(layout))) - 1
    for site, most in zip(sites, caps, strict=True):
        check_count(f"cap of {site}", most)
        if not least <= most <= largest:
            raise StudyError(f"the cap of {site} must lie in {least}..{largest}")
    return np.array(caps, dtype=np.int64)


def _differences(x: Words, layout: Layout) -> tuple[Words, Words]:
    """Return the differences that must be zero, shape (sites, d), and the totals, shape (sites, 1). Linear."""
    n_sites = len(x)
    places = {name: i for i, name in enumerate(layout.sizes)}
    tables: dict[Clique, Words] = {}
    start = 0
    for clique, size in zip(layout.cliques, _cells(layout), strict=True):
        table = x[:, start : start + size].reshape(n_sites, *(layout.sizes[name] for name in clique))
        ordered = tuple(sorted(clique, key=places.__getitem__))
        tables[ordered] = table.transpose(0, *(1 + clique.index(name) for name in ordered))
        start += size
    parts: list[Words] = []
    for above, axis, below in _steps(tables):
        margin = tables[above].sum(axis=1 + axis, dtype=np.uint64)
        if below in tables:
            parts.append((margin - tables[below]).reshape(n_sites, -1))
        else:
            tables[below] = margin
    return np.concatenate([x[:, :0], *parts], axis=1), tables[()].reshape(n_sites, 1)


def _cells(layout: Layout) -> list[int]:
    return [math.prod(layout.sizes[name] for name in clique) for clique in layout.cliques]


def _steps(cliques: Iterable[Clique]) -> Iterator[tuple[Clique, int, Clique]]:
    """Yield each set of columns, an axis of it, and the set without that column: larger sets first."""
    levels: dict[int, dict[Clique, None]] = {}
    for clique in cliques:
        levels.setdefault(len(clique), {})[clique] = None
    for size in range(max(levels), 0, -1):
        for above in list(levels.get(size, ())):
            for axis in range(size):
                below = (*above[:axis], *above[axis + 1 :])
                levels.setdefault(size - 1, {})[below] = None
                yield above, axis, below
