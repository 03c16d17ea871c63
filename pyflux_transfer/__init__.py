"""Image transfer learning from Python on Julia's Flux and Metalhead.

Importing this package starts no framework; `load` starts an engine. What it offers is imported when
it is first asked for: the command line needs but a part of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyflux_transfer import _hangup  # noqa: F401
from pyflux_transfer._version import __version__

if TYPE_CHECKING:
    from pyflux_transfer.classifier import Classifier, load
    from pyflux_transfer.comparison import Candidate, compare
    from pyflux_transfer.data.dataset import Splits, scan
    from pyflux_transfer.data.tabular.rows import Table
    from pyflux_transfer.errors import InputError, PyFluxTransferError
    from pyflux_transfer.explain import Explanation
    from pyflux_transfer.insight.findings import Finding, Findings
    from pyflux_transfer.insight.metrics import Evaluation
    from pyflux_transfer.inspection import check
    from pyflux_transfer.labelling import Proposal, propose
    from pyflux_transfer.networks.catalog import MODELS
    from pyflux_transfer.networks.preprocessing import Preprocessing
    from pyflux_transfer.predict import Prediction
    from pyflux_transfer.progress import Progress
    from pyflux_transfer.training.features import Cache
    from pyflux_transfer.training.train import Run

# name → the module that it is in
_PLACES = {
    "Cache": "training.features",
    "Candidate": "comparison",
    "Classifier": "classifier",
    "Evaluation": "insight.metrics",
    "Explanation": "explain",
    "Finding": "insight.findings",
    "Findings": "insight.findings",
    "InputError": "errors",
    "MODELS": "networks.catalog",
    "Prediction": "predict",
    "Preprocessing": "networks.preprocessing",
    "Progress": "progress",
    "Proposal": "labelling",
    "PyFluxTransferError": "errors",
    "Run": "training.train",
    "Splits": "data.dataset",
    "Table": "data.tabular.rows",
    "check": "inspection",
    "compare": "comparison",
    "load": "classifier",
    "propose": "labelling",
    "scan": "data.dataset",
}

__all__ = [
    "MODELS",
    "Cache",
    "Candidate",
    "Classifier",
    "Evaluation",
    "Explanation",
    "Finding",
    "Findings",
    "InputError",
    "Prediction",
    "Preprocessing",
    "Progress",
    "Proposal",
    "PyFluxTransferError",
    "Run",
    "Splits",
    "Table",
    "__version__",
    "check",
    "compare",
    "load",
    "propose",
    "scan",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
