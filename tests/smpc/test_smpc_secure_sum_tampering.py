"""Messages that were changed on the way end in a typed error or change nothing; never in a wrong sum."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from secure_sum_driver import STEPS, Network, complete_plan, new_sites

from smpc import SmpcError

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "secure_sum.json").read_text(encoding="utf-8"))


def tampered(message, others, draw):
    """A bit, a byte or the length changed, two parts exchanged, or an earlier message of any run in its place."""
    kind = draw.randrange(6)
    changed = bytearray(message)
    place = draw.randrange(len(message))
    if kind == 0:
        changed[place] ^= 1 << draw.randrange(8)
    elif kind == 1:
        changed[place] = draw.randrange(256)
    elif kind == 2:
        del changed[place:]
    elif kind == 3:
        changed += draw.randbytes(draw.randrange(1, 300))
    elif kind == 4:
        cut = draw.randrange(len(message))
        changed = changed[cut:] + changed[:cut]
    else:
        changed = bytearray(draw.choice(others))
    return bytes(changed)


def outcome_of_one_tampering(seed, recorded):
    """Play a run in which one message is changed. Returns how it ended; fails on any other error, or a wrong sum."""
    draw = random.Random(seed)
    sites = new_sites(4)
    vectors = np.random.default_rng(seed).integers(-(10**12), 10**12, (4, 3))
    direction = draw.choice(["to_server", "to_site"])
    target = (draw.choice(STEPS if direction == "to_server" else STEPS[1:]), draw.randrange(4))
    changes = []

    def change(step, site, message):
        if (step, site) != target:
            return message
        earlier = [*network.sent.values(), *filter(None, network.answered.values())]
        changed = tampered(message, [*recorded, *earlier], draw)
        changes.append((message, changed))
        return changed

    network = Network(complete_plan(sites, threshold=3), sites, vectors, **{direction: change})
    try:
        result = network.run()
    except SmpcError as error:
        ended = type(error).__name__
    else:
        assert result.total.tolist() == vectors[list(result.contributors)].sum(axis=0).tolist()
        ended = "sum"
    ((message, changed),) = changes
    if changed == message:
        assert ended == "sum"
    elif direction == "to_server":
        step, site, error = network.rejections[0]
        assert (step, site) == target
        assert getattr(error, "sender", site) == site
    elif not (target[0] == "unmask" and message.startswith(changed)):
        # The site refuses it, or signs what it believes, and the server sees that. Only a confirmation more or less,
        # above the threshold, makes no difference.
        assert network.refusals or network.rejections
    return ended


@pytest.fixture(scope="module")
def recorded():
    """Messages of another session of the same sites."""
    sites = new_sites(4)
    network = Network(complete_plan(sites, threshold=3, seed=1), sites, np.ones((4, 3), int))
    network.run()
    return [*network.sent.values(), *filter(None, network.answered.values())]


@pytest.mark.slow
def test_a_hundred_tamperings_end_in_typed_errors_or_the_right_sum(recorded):
    ended = [outcome_of_one_tampering(seed, recorded) for seed in range(100)]
    # A run survives the loss of one site.
    assert "sum" in ended


@pytest.mark.slow
def test_ten_thousand_tamperings_end_in_typed_errors_or_the_right_sum(recorded):
    ended = [outcome_of_one_tampering(seed, recorded) for seed in range(100, 10_100)]
    assert "sum" in ended


def vector_network(case):
    sites = new_sites(4)
    plan = complete_plan(sites, threshold=3)
    network = Network(plan, sites, [[1, 2, 3]] * 4)
    network.run(until=case["step"])
    return network


@pytest.mark.parametrize("case", VECTORS["tests"], ids=lambda case: case["comment"].replace(" ", "_"))
def test_a_recorded_message_is_taken_or_refused_as_the_vectors_say(case):
    from secure_sum_driver import say

    network = vector_network(case)
    message = bytes.fromhex(case["message"])

    def deliver():
        if case["receiver"] == "server":
            network.server.receive(case["site"], message)
        else:
            say(network.runs[case["site"]], case["step"], message, [1, 2, 3])

    if case["result"] == "valid":
        deliver()
    else:
        with pytest.raises(SmpcError, match=case["rule"]) as raised:
            deliver()
        assert type(raised.value).__name__ == case["error"]


def test_the_vectors_hold_both_kinds_for_every_message():
    for receiver, steps in (("server", STEPS), ("site", STEPS[1:])):
        for step in steps:
            results = {c["result"] for c in VECTORS["tests"] if (c["receiver"], c["step"]) == (receiver, step)}
            assert results == {"valid", "invalid"}
