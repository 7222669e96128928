"""A network for sums in which a test can read, change, hold back or repeat every message."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from smpc import SecureSumClient, SecureSumServer, SmpcError, plan_sum
from smpc.prg import Prg
from smpc.secure_sum.messages import Step
from smpc.secure_sum.plan import SESSION_BYTES, SumPlan

STEPS = ("advertise", "share", "mask", "confirm", "unmask")


def new_sites(n_sites, seed=0):
    """Sites whose keys, seeds and polynomials follow from a number."""
    sites = []
    for site in range(n_sites):
        source = Prg(hashlib.sha256(f"{seed} {site}".encode()).digest(), b"tests")
        sites.append(SecureSumClient(Ed25519PrivateKey.from_private_bytes(source.bytes(32)), rng=source))
    return sites


def roster(sites):
    return tuple(site.public_key for site in sites)


def complete_plan(sites, n_counters=3, max_abs=10**12, seed=0, **options):
    return plan_sum(roster(sites), n_counters, max_abs=max_abs, rng=Prg(bytes(32), b"plan%d" % seed), **options)


def sparse_plan(sites, degree, threshold, n_counters=3, max_abs=10**12, min_contributors=2):
    """A graph with so few peers is not safe; its sums are right all the same."""
    return SumPlan(roster(sites), n_counters, max_abs, degree, threshold, min_contributors, bytes(SESSION_BYTES))


class Network:
    """One run.

    missing      step -> sites that fall silent from there on
    to_server    (step, site, message) -> message that the server gets, or None
    to_site      (step, site, answer) -> answer that the site gets for this step, or None
    refusals     (step, site, error) of sites that refused an answer
    rejections   (step, site, error) of messages that the server refused
    sent         (step, site) -> message of a site;  answered  (step, site) -> answer that a site took in this step
    """

    def __init__(self, plan, sites, vectors, *, missing=None, to_server=None, to_site=None):
        self.plan, self.vectors = plan, vectors
        self.server = SecureSumServer(plan)
        self.runs = [site.start(plan) for site in sites]
        self.missing = missing or {}
        self.to_server = to_server or (lambda _step, _site, message: message)
        self.to_site = to_site or (lambda _step, _site, answer: answer)
        self.refusals, self.rejections = [], []
        self.sent, self.answered = {}, {}
        self.answers = dict.fromkeys(range(plan.n_sites), b"")
        self.gone = set()

    def run(self, until=None):
        """All steps, or those before `until`. Returns the result, if there is one."""
        for step in STEPS:
            if step == until:
                return None
            self.step(step)
        return self.server.result()

    def step(self, step):
        assert self.server.due == Step(step)
        self.gone.update(self.missing.get(step, ()))
        for site, answer in self.answers.items():
            if site not in self.gone:
                self.turn(step, site, answer)
        self.answers = self.server.close()

    def turn(self, step, site, answer):
        answer = self.to_site(step, site, answer)
        if answer is None:
            return
        self.answered[step, site] = answer
        try:
            message = say(self.runs[site], step, answer, self.vectors[site])
        except SmpcError as error:
            self.refusals.append((step, site, error))
            return
        self.sent[step, site] = message
        message = self.to_server(step, site, message)
        if message is not None:
            try:
                self.server.receive(site, message)
            except SmpcError as error:
                self.rejections.append((step, site, error))


def say(run, step, answer, vector):
    if step == "advertise":
        return run.advertise()
    if step == "mask":
        return run.mask(answer, vector)
    return getattr(run, step)(answer)
