"""Privacy models: what every equivalence class, or the release as a whole, must satisfy. One family a module."""

from anonymise.models.base import AnyModel, Model, TableModel
from anonymise.models.k_anonymity import KAnonymity

__all__ = ["AnyModel", "KAnonymity", "Model", "TableModel"]
