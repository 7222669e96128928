"""What a release costs, and how it is paid for.

Events are values that say which noise hid which sensitivity; accountants turn them into epsilon; the ledger makes
sure that nobody spends more than a site allowed; the samplers draw noise exactly; the schema is the only public source
of a table's domain.

>>> from privacy import DiscreteGaussian, ZcdpAccountant
>>> accountant = ZcdpAccountant(neighbours="add_remove_one")
>>> accountant.compose(DiscreteGaussian(noise_multiplier=20.0))
>>> accountant.epsilon(delta=1e-6) < 0.25
True
"""

from typing import TYPE_CHECKING, Any

from privacy.accountant import Accountant
from privacy.calibration import (
    calibrate_noise_multiplier,
    calibrate_to_attack_advantage,
    calibrate_to_delta,
)
from privacy.errors import (
    BudgetExceeded,
    KeyReused,
    LedgerCorrupt,
    LedgerError,
    PrivacyError,
    SchemaError,
    SchemaProblem,
    SpentWithoutAnswer,
    UnknownAccount,
    UnsupportedEvent,
)
from privacy.events import (
    ApproximateDP,
    Composed,
    DiscreteGaussian,
    DiscreteLaplace,
    DistributedDiscreteGaussian,
    DistributedSkellam,
    Event,
    ExponentialMechanism,
    Gaussian,
    Laplace,
    NonPrivate,
    PermuteAndFlip,
    PoissonSampled,
    PureDP,
    RandomizedResponse,
    Repeated,
    SampledWithoutReplacement,
    ZeroConcentratedDP,
    event_from_json,
    event_to_json,
)
from privacy.filters import (
    Blocks,
    Filter,
    PureFilter,
    RdpFilter,
    SpendRefused,
    ZcdpFilter,
    require_filter,
)
from privacy.neighbours import Neighbours
from privacy.odometer import RenyiOdometer
from privacy.prv import CrosscheckError, CrosscheckMissing, CrosscheckTimeout, PrvAccountant
from privacy.randomness import InsecureSeededRng, Rng, SecureRng
from privacy.rdp import RdpAccountant, rdp_of
from privacy.samplers import sample_discrete_gaussian, sample_discrete_laplace
from privacy.schema import Schema
from privacy.zcdp import ZcdpAccountant, epsilon_to_rho, rho_of, rho_to_delta, rho_to_epsilon

if TYPE_CHECKING:
    from privacy.numerical import NumericalAccountant

__all__ = [
    "Accountant",
    "ApproximateDP",
    "Blocks",
    "BudgetExceeded",
    "Composed",
    "CrosscheckError",
    "CrosscheckMissing",
    "CrosscheckTimeout",
    "DiscreteGaussian",
    "DiscreteLaplace",
    "DistributedDiscreteGaussian",
    "DistributedSkellam",
    "Event",
    "ExponentialMechanism",
    "Filter",
    "Gaussian",
    "InsecureSeededRng",
    "KeyReused",
    "Laplace",
    "LedgerCorrupt",
    "LedgerError",
    "Neighbours",
    "NonPrivate",
    "NumericalAccountant",
    "PermuteAndFlip",
    "PoissonSampled",
    "PrivacyError",
    "PrvAccountant",
    "PureDP",
    "PureFilter",
    "RandomizedResponse",
    "RdpAccountant",
    "RdpFilter",
    "RenyiOdometer",
    "Repeated",
    "Rng",
    "SampledWithoutReplacement",
    "Schema",
    "SchemaError",
    "SchemaProblem",
    "SecureRng",
    "SpendRefused",
    "SpentWithoutAnswer",
    "UnknownAccount",
    "UnsupportedEvent",
    "ZcdpAccountant",
    "ZcdpFilter",
    "ZeroConcentratedDP",
    "calibrate_noise_multiplier",
    "calibrate_to_attack_advantage",
    "calibrate_to_delta",
    "epsilon_to_rho",
    "event_from_json",
    "event_to_json",
    "rdp_of",
    "require_filter",
    "rho_of",
    "rho_to_delta",
    "rho_to_epsilon",
    "sample_discrete_gaussian",
    "sample_discrete_laplace",
]


def __getattr__(name: str) -> Any:
    # A third of what this package takes to import, for programs that never price by it, such as a site's agent.
    if name != "NumericalAccountant":
        raise AttributeError(f"module 'privacy' has no attribute {name!r}")
    from privacy.numerical import NumericalAccountant as Accountant

    globals()[name] = Accountant
    return Accountant
