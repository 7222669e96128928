"""What may be opened, on plain numbers: written from the rules in words, to compare the protocol on shares with."""

from __future__ import annotations

MIN_CELL = 5
MIN_GROUP = 20


def small(value: int, least: int = MIN_CELL) -> bool:
    return 1 <= value < least


def too_few(excess: int, hidden: int) -> bool:
    return excess < MIN_CELL if hidden else small(excess)


def opened_in_plain(deaths, losses, *, cut=None, protected=True):
    """Return (may, events, at_risk, answers): what everybody learns of one group; `may`: the horizon may be known.

    `deaths`, `losses` are by counted part; the interval before part `cut` is counted in two, cut - 1 and cut.
    `protected=False` skips the rule on differences.
    """
    n_parts = len(deaths)
    official = [part - (cut is not None and part >= cut) for part in range(n_parts)]
    n_intervals = official[-1] + 1
    total = [sum(d for d, t in zip(deaths, official, strict=True) if t == interval) for interval in range(n_intervals)]
    hidden = [small(d) for d in total]

    def excess_of(start: int, end: int) -> tuple[int, int]:
        inside = [part for part in range(start, end) if hidden[official[part]]]
        n_hidden = len({official[part] for part in inside})
        return sum(losses[start:end]) + sum(deaths[part] for part in inside) - n_hidden, n_hidden

    size = sum(deaths) + sum(losses)
    segments = [(0, n_parts)] if cut is None else [(0, cut), (cut, n_parts)]
    groups = [sum(deaths[start:]) + sum(losses[start:]) for start, _ in segments]
    may = True
    if cut is not None:
        cells = [sum(losses[:cut]), total[cut - 1], *deaths[: cut + 1]]
        may = not (any(small(cell) for cell in cells) or any(small(group, MIN_GROUP) for group in groups))
        if not may and protected:
            return False, (), (), ()
    nothing = (-1,) * n_intervals, (-1,) * (n_intervals + 1)
    if protected and any(small(group, MIN_GROUP) for group in groups):
        return may, *nothing, ()
    if protected and any(too_few(*excess_of(*segment)) for segment in segments):
        return may, *nothing, tuple(hidden)
    events = tuple(-1 if h else d for d, h in zip(total, hidden, strict=True))
    at_risk, answers, last = [size, *[-1] * (n_intervals - 1), 0], list(hidden), 0
    for interval in range(1, n_intervals):
        start = official.index(interval)
        if cut is not None and last < cut <= start:
            last = cut
        following = cut if cut is not None and start < cut else n_parts
        remaining = sum(deaths[start:]) + sum(losses[start:])
        refuse = small(remaining)
        if protected:
            refuse = refuse or too_few(*excess_of(last, start)) or too_few(*excess_of(start, following))
        answers.append(refuse)
        if not refuse:
            at_risk[interval] = remaining
            last = start
    return may, events, tuple(at_risk), tuple(answers)


def split_in_plain(causes, events):
    """Return the deaths of each cause that everybody learns. `causes`: (K, T); `events`: of `opened_in_plain`."""
    out = []
    for t, opened in enumerate(events):
        cells = [row[t] for row in causes]
        out.append(tuple(cells) if opened >= 0 and not any(small(cell) for cell in cells) else (-1,) * len(cells))
    return [tuple(row) for row in zip(*out, strict=True)]
