"""Documents and messages of other members are parsed or refused: no crash, no memory for a promise."""

import random
import struct

import numpy as np
import pytest
from mutations import RUNS, fuzz, mutated, mutated_json

from privacy.randomness import SecureRng
from smpc import FIELD61, RING64, FrameRejected, share
from smpc.secure_sum.messages import decode_confirmations, decode_sealed, encode_confirmations
from smpc.transport import Identity, new_identity_file
from synthema.demo import demo_study
from synthema.errors import MailRejected, SignatureInvalid, StudyError
from synthema.messages import AskJob, Assembler, Mail, MessageLimits, MessageRejected, encode
from synthema.networks.mail import Mailroom
from synthema.networks.packages import decode_package, encode_package
from synthema.signing import SignedDocument, Signer
from synthema.study import Study
from synthema.submission import Submission

JOB = "ab" * 32


@pytest.fixture(scope="module")
def identities(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    for name in ("anna", "bert"):
        new_identity_file(folder / name)
    return [Identity.load(0, folder / name) for name in ("anna", "bert")]


def test_studies():
    # A schema may have as many columns and categories as its text names, each an object of its own.
    fuzz("studies", Study.from_document, StudyError, [demo_study().document()], mutate=mutated_json, fixed=16 << 20)


def test_submissions(identities):
    document = SignedDocument(b"{}", identities[0].public.hex(), identities[0].sign(b"synthema/study/v1\n{}"))
    seed = Submission.new(document, b"k" * 32, identities[0]).encode()

    def parse(data):
        Submission.decode(data).verify()

    fuzz("submissions", parse, (StudyError, SignatureInvalid), [seed], mutate=mutated_json)


def test_signed_documents():
    signed = Signer().sign(demo_study().document())

    def parse(data):
        SignedDocument(data, signed.public_key, signed.signature).verify()

    assert fuzz("signed documents", parse, SignatureInvalid, [signed.body])["parsed"] <= RUNS / 10


def test_packages_of_shares():
    packages = [
        share(np.arange(12).reshape(3, 4), 2, domain=domain, rng=SecureRng())[i]
        for domain in (RING64, FIELD61)
        for i in (0, 1)
    ]
    for i, package in enumerate(packages):

        def parse(data, package=package):
            decode_package(data, like=package).expand()

        fuzz(f"packages of shares {i}", parse, ValueError, [encode_package(package)], times=3)


def test_letters(identities):
    names = ("anna", "bert")
    keys = {name: identity.public for name, identity in zip(names, identities, strict=True)}

    def rooms():
        made = []
        for name, identity in zip(names, identities, strict=True):
            partners = {other: keys[other] for other in names if other != name}
            made.append(Mailroom(name, identity, partners, job_id=JOB, attempt=1))
        return made

    anna, bert = rooms()
    fuzz("hellos", lambda data: rooms()[0].greet("bert", data), MailRejected, [bert.hello], times=3)
    anna.greet("bert", bert.hello)
    bert.greet("anna", anna.hello)
    number, letter = bert.seal("anna", "counts", b"x" * 100)
    # What is right would be opened once only: the seed is not tried first.
    refused = 0
    for data in mutated_letters(letter):
        with pytest.raises(MailRejected):
            anna.open("bert", "counts", number, data)
        refused += 1
    assert refused
    assert anna.open("bert", "counts", number, letter) == b"x" * 100


def mutated_letters(letter):
    for i in range(RUNS):
        data = mutated(random.Random(f"letters {i}"), letter)
        if data != letter:
            yield data


LIMITS = MessageLimits(message_bytes=1 << 20, open_messages=3, sender_bytes=1 << 21, total_bytes=1 << 21)


def test_messages():
    heads = [Mail(job=JOB, attempt=1, what="counts", number=0), AskJob(job=JOB)]
    seeds = [
        _joined(encode(i, head, payload))
        for i, head in enumerate(heads)
        for payload in (b"", b"x" * 200, bytes(150_000))
    ]

    def parse(data):
        assembler, start = Assembler(LIMITS), 0
        while start + 4 <= len(data):
            (length,) = struct.unpack_from("<I", data, start)
            piece = data[start + 4 : start + 4 + min(length, 1 << 17)]
            assembler.add("anna", piece)
            start += 4 + len(piece)
        assert assembler.bytes_kept <= LIMITS.total_bytes

    fuzz("messages", parse, MessageRejected, seeds)


def _joined(pieces):
    """Pieces one after the other, each behind its length, as a line cuts them."""
    return b"".join(struct.pack("<I", len(piece)) + piece for piece in pieces)


def test_bodies_of_a_secure_sum():
    sites = (0, 2, 5)
    tags = encode_confirmations({site: bytes(32) for site in sites})
    fuzz("confirmations", lambda data: decode_confirmations(data, sites, line=1), FrameRejected, [tags], times=2)
    with pytest.raises(FrameRejected):
        decode_sealed(b"x" * 7, sites, line=1)
