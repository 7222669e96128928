"""Attacks on a synthetic table: what an adversary who has it could learn about the people it was made from.

Four kinds, after the definitions of anonymeter (Giomi et al. 2023, arXiv:2211.10459) where it has them, each compared
with people the generator never saw: singling out, linkability, inference, membership. Distances to the closest record
are there because readers ask for them; they guarantee nothing. `privacy_attacks` runs all, on the table and on two
rulers: a total leak, and a harmless table. Everything here reads real rows and is INTERNAL.
"""

from generators.attacks.closest import ClosestRecords, Distances
from generators.attacks.membership import MembershipResult
from generators.attacks.results import AttackResult
from generators.attacks.suite import AttackSuite, PrivacyAttacks, privacy_attacks
from privacy._rates import Rate, Risk

__all__ = [
    "AttackResult",
    "AttackSuite",
    "ClosestRecords",
    "Distances",
    "MembershipResult",
    "PrivacyAttacks",
    "Rate",
    "Risk",
    "privacy_attacks",
]
