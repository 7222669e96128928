"""Estimators: a joint model as an object with `fit`, in the manner of scikit-learn.

    model = KaplanMeier(group="sex", grid_days=180).fit(network, job)
    print(model.summary())

`network` is whatever hands in studies and returns what was released (`Submitter`): a researcher's line to a hub, any
driver of the network protocol, or a simulation in this process. `job` is a study without models: its table, sites,
budget and purpose. Fitting hands in the study that asks for this model alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from pydantic import ValidationError

from synthema.errors import StudyError
from synthema.learning.summaries import Summary

if TYPE_CHECKING:
    from synthema.learning.model import ModelSpec
    from synthema.study import Study


class Submitter(Protocol):
    """Hands in a study, waits for its end, and returns what the lead put together (`site_run.read_bundle`)."""

    def submit(self, study: Study, /) -> Mapping[str, Any]:
        """Return the bundle. Raises what `synthema.networks.base.run_job` raises."""
        ...


class NotFitted(StudyError):
    """The model has no answer yet: fit it, or read one back."""

    def __init__(self) -> None:
        super().__init__("this model is not fitted: call fit(network, job) first")


class JointModel:
    """Base of the estimators. Keyword arguments are the fields of the model's spec; see there.

    Attributes
    ----------
    spec_
        What is asked, as a value.
    answer_
        What came of it: plain data, after `fit`.
    released_
        Everything that the study made known, after `fit`: prices and sites' accounts among it.

    Raises
    ------
    StudyError
        If a field is missing, unknown or out of its range.
    """

    spec_class: ClassVar[type[ModelSpec]]
    # The name of the model in the study that `fit` hands in.
    name: ClassVar[str] = "model"

    def __init__(self, **fields: Any) -> None:
        try:
            # As TOML and JSON do it: lists become the tuples that frozen values hold.
            self.spec_ = self.spec_class.model_validate_json(json.dumps(fields))
        except ValidationError as error:
            problems = (f"{'.'.join(map(str, item['loc'])) or 'model'}: {item['msg']}" for item in error.errors())
            raise StudyError(f"{type(self).__name__}: {'; '.join(problems)}") from None
        except (TypeError, ValueError):
            raise StudyError(f"{type(self).__name__}: the fields must be plain values") from None
        self._answer: dict[str, Any] | None = None
        self.released_: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        fields = self.spec_.model_dump(exclude={"kind"}, exclude_defaults=True)
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in fields.items())})"

    def fit(self, network: Submitter, job: Study) -> Self:
        """Fit over a network; return self. The same job and model again: the stored answer, at no charge.

        Raises
        ------
        StudyError
            If the job's table does not allow the model.
        SiteRefused
            A site refused; nothing was charged.
        SiteFailed, JobFailed, DisclosureRefused, ModelFailed
            The fit failed; what had started stays charged.
        """
        study = job.with_model(self.name, self.spec_)
        released = network.submit(study)["released"]
        [found] = [each for each in released["models"] if each["name"] == self.name]
        self._answer, self.released_ = found["answer"], released
        self._read(found["answer"])
        return self

    @property
    def answer_(self) -> dict[str, Any]:
        """The answer. Raises NotFitted."""
        if self._answer is None:
            raise NotFitted
        return self._answer

    def _read(self, answer: dict[str, Any]) -> None:
        """Set the attributes that the answer fills; called once it is there."""

    def summary(self) -> Summary:
        """Return the answer as tables, for print and for notebooks. Raises NotFitted."""
        return Summary(self.spec_.title, self.spec_.mode, self.spec_.summary(self.answer_))

    def plot(self) -> str:
        """Return a picture of the answer as SVG. Raises NotFitted."""
        from synthema.report.standalone import standalone

        return standalone(self.spec_.chart(self.answer_, key="model"))

    def to_json(self) -> str:
        """Return spec and answer as JSON. Raises NotFitted."""
        return json.dumps({"format": "synthema-model-v1", "spec": self.spec_.model_dump(), "answer": self.answer_})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the fitted model that `to_json` wrote. Raises StudyError if it is none, or another kind's."""
        try:
            data = json.loads(text)
            if data["format"] != "synthema-model-v1":
                raise StudyError("the model has another format version")
            fields, answer = dict(data["spec"]), dict(data["answer"])
        except (KeyError, TypeError, ValueError, RecursionError):
            raise StudyError("this is no model") from None
        kind = cls.spec_class.model_fields["kind"].default
        if fields.pop("kind", None) != kind:
            raise StudyError(f"this is the model of another kind than {kind!r}")
        model = cls(**fields)
        model._answer = answer
        try:
            model._read(answer)
            # What the file lacks is said now, and not where it is looked for.
            model.spec_.summary(answer)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError):
            raise StudyError("this is no answer of such a model") from None
        return model
