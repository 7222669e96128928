"""What a released table tells an attacker who has nothing but the table and the public schema.

Run them on a release before it leaves: every inference they return is certain, given how the table was made.
"""

from anonymise.attacks.downcoding import Attained, Refinement, attained, downcode

__all__ = ["Attained", "Refinement", "attained", "downcode"]
