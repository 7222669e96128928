"""A server that reads all it gets, or lies, with colluding sites: what it cannot learn, or make sites do.

View: the server keeps every message. Together with n - 2 sites it takes off the honest sites' vectors every mask it
knows; on SAMPLE_SIZE equal counters each position is one sample, and what is left must have the same law however the
sum splits between the two honest sites.
"""

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from scipy import stats
from secure_sum_driver import Network, complete_plan, new_sites, say, sparse_plan

from smpc import FrameRejected, ProtocolAbort, RecoveryFailed, StepRefused, TooFewContributors
from smpc.secure_sum import client, masks, messages, shamir
from smpc.secure_sum.messages import Kind, Secret

SAMPLE_SIZE = 4096
# Divided by the number of comparisons.
ALPHA = 1e-3

HONEST = (0, 1)
SPLITS = ((5, 9), (9, 5), (-1000, 1014))


# What a coalition sees.


def homogeneity_pvalue(a, b):
    first, second = (np.bincount(sample, minlength=16) for sample in (a, b))
    both = first + second
    statistic = ((first - second) ** 2 / np.maximum(both, 1)).sum()
    return stats.chi2.sf(statistic, max(np.count_nonzero(both) - 1, 1))


def least_pvalue(views):
    """Smallest corrected p-value that the arrays of two views have one law, on three groups of four bits."""
    pvalues = []
    for a, b in zip(*views, strict=True):
        for shift in (0, 4, 8 * a.itemsize - 4):
            nibbles = [((words >> words.dtype.type(shift)) & words.dtype.type(15)).astype(int) for words in (a, b)]
            pvalues.append(homogeneity_pvalue(*nibbles))
    return min(pvalues) * len(pvalues)


def body(message):
    return message[messages._HEADER.size : -messages._SIGNATURE_BYTES]


def vector_of(network, site):
    return body(network.sent["mask", site])[messages.sites_bytes(network.plan) :]


def stripped(network, site, corrupt, *, self_mask):
    """A site's vector without the masks that the server and the corrupt sites know."""
    plan, total = network.plan, np.frombuffer(vector_of(network, site), dtype=network.plan.word).copy()
    streams = []
    for peer in plan.peers[site]:
        if peer in corrupt:
            key = masks.KeyPair(network.mask_keys[peer])
            secret = key.agree(network.server._keys[site].mask_key, plan.tag, peer=site)
            streams.append((masks.pair_stream(secret, site, peer), -masks.pair_sign(site, peer)))
    if self_mask:
        streams.append((masks.self_stream(opened(network, site, Secret.SELF_MASK)), -1))
    masks.add_streams(total, streams)
    return total


def opened(network, site, secret):
    shares = network.server._opened[site, secret]
    return shamir.combine({x: shares[x] for x in sorted(shares)[: network.plan.threshold]})


def played(split, seed, *, max_abs, n_sites=4, degree=None, **options):
    sites = new_sites(n_sites, seed)
    if degree is None:
        plan = complete_plan(sites, n_counters=SAMPLE_SIZE, max_abs=max_abs, threshold=n_sites - 1)
    else:
        plan = sparse_plan(sites, degree, 2, n_counters=SAMPLE_SIZE, max_abs=max_abs)
    values = [*split, *range(n_sites - 2)]
    network = Network(plan, sites, [np.full(SAMPLE_SIZE, value) for value in values], **options)
    network.mask_keys = {site: run._mask_key.private_bytes for site, run in enumerate(network.runs)}
    return network


def finished(split, seed, **options):
    network = played(split, seed, **options)
    result = network.run()
    assert (result.total == sum(vector[0] for vector in network.vectors)).all()
    return network


def views_of_a_full_run(seeds=(0, 1, 2), **options):
    corrupt = range(2, options.get("n_sites", 4))
    views = []
    for seed, split in zip(seeds, SPLITS, strict=True):
        network = finished(split, seed, **options)
        left = [stripped(network, site, corrupt, self_mask=True) for site in HONEST]
        views.append(left)
    # What the protocol gives away, and all it gives away.
    assert all((left[0] + left[1] == sum(SPLITS[0])).all() for left in views)
    return views


def seeds_that_make_the_two_peers(n_sites, degree, max_abs):
    found = []
    for seed in range(100):
        plan = sparse_plan(new_sites(n_sites, seed), degree, 2, n_counters=SAMPLE_SIZE, max_abs=max_abs)
        if 1 in plan.peers[0]:
            found.append(seed)
    return found[: len(SPLITS)]


@pytest.mark.parametrize("max_abs", [10**4, 10**12])
def test_the_server_and_all_but_two_sites_learn_the_sum_of_the_two_and_nothing_else(max_abs):
    views = views_of_a_full_run(max_abs=max_abs)
    assert least_pvalue(views[:2]) > ALPHA
    assert least_pvalue(views[1:]) > ALPHA


def test_so_it_is_in_a_sparse_graph_where_the_two_are_peers():
    options = {"n_sites": 7, "degree": 4, "max_abs": 10**12}
    views = views_of_a_full_run(seeds_that_make_the_two_peers(**options), **options)
    assert least_pvalue(views[:2]) > ALPHA


def test_masks_that_the_coalition_knows_are_caught_by_the_same_test(monkeypatch):
    # The pair's secret without the private keys: sums stay right, everybody can make the masks.
    def from_public_things(_self, _public, tag, *, peer):
        del peer
        return tag

    monkeypatch.setattr(masks.KeyPair, "agree", from_public_things)
    views = []
    for seed, split in enumerate(SPLITS):
        network = finished(split, seed, max_abs=10**12)
        left = [stripped(network, site, (2, 3), self_mask=True) for site in HONEST]
        known = masks.pair_stream(network.plan.tag, 0, 1).uint64(SAMPLE_SIZE)
        views.append([left[0] - known, left[1] + known])
    assert least_pvalue(views[:2]) < ALPHA / 1000


def test_a_run_without_pair_masks_is_caught_by_the_same_test(monkeypatch):
    original = masks.add_streams

    def only_the_first(total, streams):
        # At a site the first stream is its own; at the server there are no others.
        own = streams[:1] if len({sign for _, sign in streams}) > 1 or streams[0][1] > 0 else streams
        original(total, own)

    monkeypatch.setattr(masks, "add_streams", only_the_first)
    networks = [finished(split, seed, max_abs=10**12) for seed, split in enumerate(SPLITS[:2])]
    monkeypatch.setattr(masks, "add_streams", original)
    views = [[stripped(network, site, (), self_mask=False) for site in HONEST] for network in networks]
    for network, view in zip(networks, views, strict=True):
        for site in HONEST:
            original(view[site], [(masks.self_stream(opened(network, site, Secret.SELF_MASK)), -1)])
    assert least_pvalue(views) < ALPHA / 1000


def late_views(*, both_secrets):
    """Site 0's vector arrives after the server has said that site 0 dropped out, and has been given its mask key."""

    def all_but_the_vector_of_0(step, site, message):
        return None if (step, site) == ("mask", 0) else message

    views = []
    for seed, split in enumerate(SPLITS):
        network = played(split, seed, max_abs=10**12, to_server=all_but_the_vector_of_0)
        seed_of_0 = network.runs[0]._self_seed
        network.run()
        late = stripped(network, 0, (1, 2, 3), self_mask=False)
        assert opened(network, 0, Secret.MASK_KEY) == network.mask_keys[0]
        if both_secrets:
            masks.add_streams(late, [(masks.self_stream(seed_of_0), -1)])
        views.append([late])
    return views


def test_a_late_vector_of_a_site_whose_key_was_recovered_stays_masked():
    # All others collude here: the self-mask alone protects it.
    views = late_views(both_secrets=False)
    assert least_pvalue(views[:2]) > ALPHA


def test_with_both_secrets_of_a_site_its_vector_is_bare_and_the_same_test_says_so():
    views = late_views(both_secrets=True)
    assert least_pvalue(views[:2]) < ALPHA / 1000
    assert all((view[0].view(np.int64) == split[0]).all() for view, split in zip(views, SPLITS, strict=True))


def test_no_other_message_depends_on_the_vectors():
    first, second = (finished(split, 7, max_abs=10**12) for split in SPLITS[:2])
    assert first.sent.keys() == second.sent.keys()
    differing = {key for key in first.sent if first.sent[key] != second.sent[key]}
    assert differing == {("mask", 0), ("mask", 1)}
    assert first.answered == second.answered


# What a server cannot make sites do.


def at(step, n_sites=4, **options):
    """A run up to a step, and its network."""
    sites = new_sites(n_sites)
    network = Network(complete_plan(sites, **options), sites, np.ones((n_sites, 3), int))
    network.run(until=step)
    return network


def answer(network, site, step):
    return say(network.runs[site], step, network.answers[site], network.vectors[site])


def survivors_message(network, site, survivors):
    body = messages.encode_sites(network.plan, survivors)
    return messages.from_server(network.plan, Kind.SURVIVORS, site, body)


def test_both_secrets_of_one_site_are_not_revealed():
    network = at("confirm", threshold=3)
    run = network.runs[0]
    run.confirm(survivors_message(network, 0, [0, 1, 2]))
    # The list is fixed: another one, on which site 3 survived, is not looked at.
    with pytest.raises(StepRefused, match="'confirm' is refused"):
        run.confirm(survivors_message(network, 0, [0, 1, 2, 3]))
    tags = {}
    for peer in (1, 2):
        message = network.runs[peer].confirm(survivors_message(network, peer, [0, 1, 2]))
        tags[peer] = messages.decode_confirmations(memoryview(body(message))[32:], [0, 1, 2, 3], line=peer)[0]
    request = messages.from_server(network.plan, Kind.CONFIRMATIONS, 0, messages.encode_confirmations(tags))
    revealed = messages.decode_opened(
        memoryview(body(run.unmask(request))),
        [(0, Secret.SELF_MASK), (1, Secret.SELF_MASK), (2, Secret.SELF_MASK), (3, Secret.MASK_KEY)],
        line=0,
    )
    assert len(revealed) == 4
    with pytest.raises(StepRefused, match="'unmask' is refused"):
        run.unmask(request)
    assert not run._held


def test_sites_that_were_told_of_different_survivors_reveal_nothing():
    network = at("confirm", n_sites=5, threshold=3)
    # Sites 0 and 1 are to reveal the self-mask of site 4, sites 2 and 3 its key.
    told = {0: range(5), 1: range(5), 2: range(4), 3: range(4)}
    digests = {site: network.runs[site].confirm(survivors_message(network, site, told[site])) for site in told}
    for site in told:
        tags = {
            peer: messages.decode_confirmations(memoryview(body(digests[peer]))[32:], list(range(5)), line=peer)[site]
            for peer in told
            if peer != site
        }
        request = messages.from_server(network.plan, Kind.CONFIRMATIONS, site, messages.encode_confirmations(tags))
        with pytest.raises(ProtocolAbort, match="does not confirm the survivors"):
            network.runs[site].unmask(request)
    # Nor does half of the sites suffice.
    network = at("confirm", n_sites=5, threshold=3)
    digests = {site: network.runs[site].confirm(survivors_message(network, site, told[site])) for site in told}
    tags = {1: messages.decode_confirmations(memoryview(body(digests[1]))[32:], list(range(5)), line=1)[0]}
    request = messages.from_server(network.plan, Kind.CONFIRMATIONS, 0, messages.encode_confirmations(tags))
    with pytest.raises(TooFewContributors):
        network.runs[0].unmask(request)


def test_a_site_that_sent_its_vector_does_not_accept_to_be_counted_out():
    network = at("confirm", threshold=3)
    with pytest.raises(ProtocolAbort, match="does not count it"):
        network.runs[0].confirm(survivors_message(network, 0, [1, 2, 3]))


def test_a_survivor_that_never_shared_its_secrets_is_refused():
    sites = new_sites(4)
    network = Network(complete_plan(sites, threshold=3), sites, np.ones((4, 3), int), missing={"share": [3]})
    network.run(until="confirm")
    with pytest.raises(ProtocolAbort, match="never shared"):
        network.runs[0].confirm(survivors_message(network, 0, [0, 1, 2, 3]))


# Keys.


def peers_message(network, site, advertisements):
    return messages.from_server(network.plan, Kind.PEERS, site, b"".join(advertisements))


def forged_advertisement(plan, site, signing_key, keys=None):
    keys = keys or [masks.KeyPair(bytes([i]) * 32).public_bytes for i in (1, 2)]
    return messages.from_site(plan, Kind.ADVERTISEMENT, site, b"".join(keys) + bytes(32), signing_key)


def test_keys_that_the_peer_did_not_sign_are_refused():
    network = at("share")
    genuine = [network.sent["advertise", peer] for peer in (1, 2, 3)]
    server_key = Ed25519PrivateKey.generate()
    forged = forged_advertisement(network.plan, 1, server_key)
    unsigned = forged[:-64] + bytes(64)
    # The genuine signature under exchanged keys.
    start = messages._HEADER.size
    swapped = (
        genuine[0][:start]
        + genuine[0][start + 32 : start + 64]
        + genuine[0][start : start + 32]
        + genuine[0][start + 64 :]
    )
    for wrong in (forged, unsigned, swapped):
        network = at("share")
        with pytest.raises(FrameRejected, match="not signed with the key that the roster names") as raised:
            network.runs[0].share(peers_message(network, 0, [wrong, *genuine[1:]]))
        assert raised.value.sender == 1
        with pytest.raises(FrameRejected, match="not signed") as raised:
            at("advertise").server.receive(1, wrong)
        assert raised.value.sender == 1


def test_keys_in_another_peers_place_are_refused():
    for order in ((2, 1, 3), (1, 1, 3), (1, 2, 3, 3)):
        network = at("share")
        with pytest.raises(FrameRejected):
            network.runs[0].share(peers_message(network, 0, [network.sent["advertise", peer] for peer in order]))
    network = at("share")
    renamed = bytearray(network.sent["advertise", 2])
    messages._HEADER.pack_into(renamed, 0, b"SSUM", 1, Kind.ADVERTISEMENT, network.plan.tag, 1, messages.SERVER)
    with pytest.raises(FrameRejected, match="not signed"):
        network.runs[0].share(peers_message(network, 0, [bytes(renamed), network.sent["advertise", 3]]))
    network = at("share")
    with pytest.raises(FrameRejected, match="no part in it"):
        network.runs[0].share(peers_message(network, 0, [network.sent["advertise", 0]]))


def test_too_few_keys_are_refused_by_the_site():
    network = at("share", threshold=3)
    with pytest.raises(TooFewContributors):
        network.runs[0].share(peers_message(network, 0, [network.sent["advertise", 1]]))


# The points of order 1, 2 and 8 on Curve25519, and one above the field's prime (RFC 7748, section 6.1).
SMALL_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_keys_of_small_order_are_refused_with_the_sites_name(point):
    network = at("share")
    wrong = forged_advertisement(network.plan, 1, network.runs[1]._signing_key, [bytes([9]) * 32, point])
    with pytest.raises(FrameRejected, match="small order") as raised:
        network.runs[0].share(peers_message(network, 0, [wrong, *(network.sent["advertise", p] for p in (2, 3))]))
    assert raised.value.sender == 1


# Sealed shares.


def delivery(network, site, sealed):
    return messages.from_server(network.plan, Kind.DELIVERY, site, messages.encode_sealed(sealed))


def sealed_for(network, site):
    n_bytes = messages._HEADER.size
    return messages.decode_sealed(network.answers[site][n_bytes:], list(range(4)), line=None)


def test_sealed_shares_that_were_tampered_with_or_meant_for_another_site_are_refused():
    for change in (
        lambda mine, _: {**mine, 2: mine[2][:-1] + bytes([mine[2][-1] ^ 1])},
        lambda mine, _: {**mine, 1: mine[2]},
        lambda mine, other: {**mine, 2: other[2]},
    ):
        network = at("mask")
        sealed = change(sealed_for(network, 0), sealed_for(network, 1))
        with pytest.raises(FrameRejected, match="fail their authentication") as raised:
            network.runs[0].mask(delivery(network, 0, sealed), [1, 1, 1])
        assert raised.value.sender in (1, 2)
        # The run is over for this site, and its secrets are gone.
        assert network.runs[0]._self_seed == b""
        with pytest.raises(StepRefused):
            network.runs[0].mask(network.answers[0], [1, 1, 1])


def test_sealed_shares_of_another_session_are_refused_though_all_keys_are_the_same():
    networks = []
    for seed in (0, 1):
        sites = new_sites(4)
        network = Network(complete_plan(sites, seed=seed), sites, np.ones((4, 3), int))
        network.run(until="mask")
        networks.append(network)
    one, other = networks
    assert one.runs[0]._mask_key.public_bytes == other.runs[0]._mask_key.public_bytes
    with pytest.raises(FrameRejected, match="fail their authentication"):
        one.runs[0].mask(delivery(one, 0, sealed_for(other, 0)), [1, 1, 1])


def test_messages_of_another_session_are_refused_by_the_server_and_by_sites():
    sites = new_sites(4)
    old = Network(complete_plan(sites, seed=1), sites, np.ones((4, 3), int))
    old.run()
    for step in ("advertise", "share", "mask", "confirm", "unmask"):
        network = at(step)
        with pytest.raises(FrameRejected, match="another session"):
            network.server.receive(0, old.sent[step, 0])
        if step != "advertise":
            with pytest.raises(FrameRejected, match="another session"):
                say(network.runs[0], step, old.answered[step, 0], [1, 1, 1])


def test_a_message_is_taken_once_from_the_line_of_its_sender_and_in_its_step():
    network = at("share")
    message = answer(network, 0, "share")
    with pytest.raises(FrameRejected, match=r"this length|another sender"):
        network.server.receive(1, message)
    network.server.receive(0, message)
    with pytest.raises(FrameRejected, match="already sent"):
        network.server.receive(0, message)
    with pytest.raises(FrameRejected, match="no part in this step"):
        network.server.receive(4, message)
    network = at("mask")
    with pytest.raises(FrameRejected, match=r"this length|not of kind"):
        network.server.receive(0, message)


def test_a_message_that_was_refused_can_be_sent_again():
    network = at("share")
    message = answer(network, 0, "share")
    with pytest.raises(FrameRejected):
        network.server.receive(0, message[:-1] + bytes([message[-1] ^ 1]))
    network.server.receive(0, message)
    assert network.server.waiting_for == (1, 2, 3)


def test_a_vector_that_lacks_the_mask_of_a_peer_is_refused_before_it_is_added():
    # The list of peers was cut on its way to site 0; what it sends would spoil the sum, and nobody could tell.
    network = at("mask", threshold=3)
    cut = sealed_for(network, 0)
    del cut[1]
    message = network.runs[0].mask(delivery(network, 0, cut), [1, 1, 1])
    with pytest.raises(FrameRejected, match="not masked with the peers that the server named") as raised:
        network.server.receive(0, message)
    assert raised.value.sender == 0


# Sites that lie.


@pytest.mark.parametrize("dropped", [False, True])
def test_shares_of_something_else_than_was_advertised_are_noticed(dropped):
    sites = new_sites(4)
    missing = {"mask": [2]} if dropped else {}
    network = Network(complete_plan(sites, threshold=3), sites, np.ones((4, 3), int), missing=missing)
    network.run(until="share")
    if dropped:
        network.runs[2]._mask_key.private_bytes = bytes([5]) * 32
    else:
        network.runs[2]._self_seed = bytes([5]) * 32
    for step in ("share", "mask", "confirm"):
        network.step(step)
    with pytest.raises(RecoveryFailed, match="do not give what it advertised") as raised:
        network.step("unmask")
    assert raised.value.site == 2


def test_a_false_share_of_a_holder_opens_nothing():
    def falsify(step, site, message):
        if (step, site) != ("unmask", 0):
            return message
        inner = bytearray(body(message))
        inner[5] ^= 1
        return messages.from_site(network.plan, Kind.UNMASKING, 0, bytes(inner), network.runs[0]._signing_key)

    sites = new_sites(4)
    network = Network(complete_plan(sites), sites, np.ones((4, 3), int), to_server=falsify)
    with pytest.raises(RecoveryFailed):
        network.run()


def test_what_a_lying_site_can_do_is_falsify_the_sum_by_its_own_vector():
    # Stated in the documentation: it masks what it likes, also beyond the declared bound.
    sites = new_sites(4)
    network = Network(complete_plan(sites, max_abs=10), sites, [[1, 1, 1]] * 4)
    network.runs[3]._checked = lambda _values: np.array([10**6, 0, 0], dtype=network.plan.word)
    assert network.run().total.tolist() == [10**6 + 3, 3, 3]


def test_a_client_reveals_for_each_site_exactly_one_share(monkeypatch):
    # The one door by which shares leave, watched over whole runs with a dropout in each step.
    seen = []
    original = messages.encode_opened
    monkeypatch.setattr(client.messages, "encode_opened", lambda items: seen.append(list(items)) or original(seen[-1]))
    sites = new_sites(6)
    missing = {"share": [5], "mask": [4]}
    Network(complete_plan(sites, threshold=4), sites, np.ones((6, 3), int), missing=missing).run()
    assert len(seen) == 4
    for revealed in seen:
        assert [item.subject for item in sorted(revealed)] == [0, 1, 2, 3, 4]
        assert {item.subject: item.secret for item in revealed}[4] is Secret.MASK_KEY
