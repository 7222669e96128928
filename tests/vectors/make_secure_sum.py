"""Write secure_sum.json: messages of one run of four sites, each also with one rule broken.

All keys follow from the numbers of the sites (tests/smpc/secure_sum_driver.py), so that a message made here is the one
that a run makes there. Run: python tests/vectors/make_secure_sum.py
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "smpc"))

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from secure_sum_driver import STEPS, Network, complete_plan, new_sites

from smpc.secure_sum import messages, shamir
from smpc.secure_sum.messages import Kind

HEADER, SIGNATURE = messages._HEADER.size, messages._SIGNATURE_BYTES
KINDS = dict(zip(STEPS, (Kind.ADVERTISEMENT, Kind.SHARES, Kind.MASKED, Kind.CONFIRMATION, Kind.UNMASKING), strict=True))
SIGNED = "not signed with the key"
LENGTH = "does not have this length"


def flipped(message, place):
    changed = bytearray(message)
    changed[place] ^= 1
    return bytes(changed)


def main():
    sites = new_sites(4)
    plan = complete_plan(sites, threshold=3)
    run = Network(plan, sites, [[1, 2, 3]] * 4)
    run.run()
    old_sites = new_sites(4)
    old = Network(complete_plan(old_sites, threshold=3, seed=1), old_sites, [[1, 2, 3]] * 4)
    old.run()
    keys = [site._signing_key for site in sites]
    tests = []

    def add(receiver, step, site, comment, message, rule="", error="FrameRejected", flags=()):
        result = "invalid" if rule else "valid"
        entry = {"comment": f"{receiver} {step} {comment}", "receiver": receiver, "step": step, "site": site}
        entry |= {"message": message.hex(), "flags": list(flags), "result": result}
        tests.append(entry | ({"rule": rule, "error": error} if rule else {}))

    def signed(step, body, key=keys[0], site=0):
        return messages.from_site(plan, KINDS[step], site, body, key)

    for step in STEPS:
        good = run.sent[step, 0]
        inner = good[HEADER:-SIGNATURE]
        add("server", step, 0, "as it is sent", good)
        add("server", step, 0, "one byte short", good[:-1], LENGTH, flags=["length"])
        add("server", step, 0, "one byte long", good + b"\0", LENGTH, flags=["length"])
        add("server", step, 0, "empty", b"", LENGTH, flags=["length"])
        add("server", step, 0, "other magic", flipped(good, 0), "not a message of secure_sum", flags=["header"])
        add("server", step, 0, "other version", flipped(good, 4), "not a message of secure_sum", flags=["header"])
        add("server", step, 0, "other kind", flipped(good, 5), "not of kind", flags=["header"])
        add("server", step, 0, "other session", old.sent[step, 0], "another session", flags=["replay"])
        add("server", step, 0, "other sender", run.sent[step, 1], "another sender", flags=["transplant"])
        add("server", step, 0, "for a site", flipped(good, 40), "another recipient", flags=["header"])
        add("server", step, 0, "body changed", flipped(good, HEADER), SIGNED, flags=["signature"])
        add("server", step, 0, "signature changed", flipped(good, -SIGNATURE), SIGNED, flags=["signature"])
        add("server", step, 0, "no signature", good[:-SIGNATURE] + bytes(SIGNATURE), SIGNED, flags=["signature"])
        stranger = Ed25519PrivateKey.from_private_bytes(bytes(32))
        add("server", step, 0, "signed by a stranger", signed(step, inner, stranger), SIGNED, flags=["signature"])
        add("server", step, 0, "signed by another site", signed(step, inner, keys[1]), SIGNED, flags=["signature"])
    # Well signed, malformed inside.
    shares = run.sent["share", 0][HEADER:-SIGNATURE]
    item = 2 + messages.SEALED_BYTES
    exchanged = shares[item : 2 * item] + shares[:item] + shares[2 * item :]
    add("server", "share", 0, "out of order", signed("share", exchanged), "ascending", flags=["canonical"])
    twice = shares[:item] + shares[:item] + shares[2 * item :]
    add("server", "share", 0, "one peer twice", signed("share", twice), "ascending", flags=["canonical"])
    own = b"\0\0" + shares[2:]
    add("server", "share", 0, "for the site itself", signed("share", own), "no part in it", flags=["canonical"])
    masked = run.sent["mask", 0][HEADER:-SIGNATURE]
    add("server", "mask", 0, "without a peers mask", signed("mask", b"\x0c" + masked[1:]), "not masked with the peers")
    confirmed = run.sent["confirm", 0][HEADER:-SIGNATURE]
    add("server", "confirm", 0, "other survivors", signed("confirm", flipped(confirmed, 0)), "other survivors")
    opened = run.sent["unmask", 0][HEADER:-SIGNATURE]
    add("server", "unmask", 0, "the other secret", signed("unmask", opened[:2] + b"\2" + opened[3:]), "one secret")
    add("server", "unmask", 0, "no secret's number", signed("unmask", opened[:2] + b"\3" + opened[3:]), "one secret")
    large = opened[:3] + shamir.P.to_bytes(33, "little") + opened[36:]
    add("server", "unmask", 0, "share equal to the modulus", signed("unmask", large), "no field element")

    for step in STEPS[1:]:
        good = run.answered[step, 0]
        add("site", step, 0, "as it is sent", good)
        long = good + bytes(300)
        add("site", step, 0, "300 bytes long", long, LENGTH, flags=["length"])
        add("site", step, 0, "only half a header", good[:20], LENGTH, flags=["length"])
        short = "one bit for each site" if step == "confirm" else "cut short"
        add("site", step, 0, "one byte short", good[:-1], short, flags=["length"])
        add("site", step, 0, "other session", old.answered[step, 0], "another session", flags=["replay"])
        add("site", step, 0, "for another site", run.answered[step, 1], "another recipient", flags=["transplant"])
        add("site", step, 0, "other kind", flipped(good, 5), "not of kind", flags=["header"])
    advert = messages.SIGNED_ADVERTISEMENT_BYTES
    peers = run.answered["share", 0]
    add("site", "share", 0, "a key changed", flipped(peers, HEADER + HEADER), SIGNED, flags=["signature"])
    mirrored = peers[:HEADER] + run.sent["advertise", 0] + peers[HEADER + advert :]
    add("site", "share", 0, "its own keys", mirrored, "no part in it", flags=["canonical"])
    few, error = peers[: HEADER + advert], "TooFewContributors"
    add("site", "share", 0, "one peer only", few, "2 sites are left and 3 are required", error)
    delivery = run.answered["mask", 0]
    add("site", "mask", 0, "a sealed share changed", flipped(delivery, HEADER + 2), "authentication", flags=["aead"])
    swapped = delivery[: HEADER + 2] + delivery[HEADER + item + 2 : HEADER + 2 * item] + delivery[HEADER + item :]
    add("site", "mask", 0, "another peers sealed share", swapped, "authentication", flags=["aead"])
    survivors = run.answered["confirm", 0][:HEADER]
    add("site", "confirm", 0, "a fifth site", survivors + b"\x1f", "one bit for each site", flags=["canonical"])
    abort = "ProtocolAbort"
    add("site", "confirm", 0, "without this site", survivors + b"\x0e", "does not count it", abort)
    add("site", "confirm", 0, "too few", survivors + b"\x03", "2 sites are left and 3 are required", error)
    tags = run.answered["unmask", 0]
    add(
        "site",
        "unmask",
        0,
        "a tag changed",
        flipped(tags, HEADER + 2),
        "does not confirm",
        abort,
        flags=["consistency"],
    )
    add("site", "unmask", 0, "no tags", tags[:HEADER], "1 sites are left and 3 are required", error)

    document = {
        "source": "tests/vectors/make_secure_sum.py",
        "comment": "Messages of smpc.secure_sum, version 1: four sites, three counters, threshold 3, plan and keys of "
        "tests/smpc/secure_sum_driver.py. Each is given to `receiver` (the server, or site `site`) when `step` is due. "
        "An invalid one must be refused with the error `error`, whose text matches `rule`.",
        "tag": plan.tag.hex(),
        "tests": tests,
    }
    Path(__file__).with_name("secure_sum.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
