"""Acute myeloid leukaemia as an example: a public schema of 144 columns, and SIMULATED patients that fit it.

    aml_schema               names as in the public schema of the SYNTHEMA project; categories, units, rules our own
    simulated_aml_patients   rows of nobody, for demonstrations, tests and measurements of size and speed
    simulated_aml_sites      hospitals that differ: age, share of referred patients, missing values, follow-up

Simulated patients are neither anonymised nor private: there is nobody behind them. What they show is that a study runs,
never what is true of leukaemia.
"""

from synthema.aml.schema import aml_schema, aml_schema_file
from synthema.aml.simulator import SimulatedSite, simulated_aml_patients, simulated_aml_sites

__all__ = [
    "SimulatedSite",
    "aml_schema",
    "aml_schema_file",
    "simulated_aml_patients",
    "simulated_aml_sites",
]
