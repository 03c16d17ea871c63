"""Image transfer learning from Python on Julia's Flux and Metalhead.

Importing this package starts no framework; `load` starts an engine.
"""

from pyflux_transfer import _hangup  # noqa: F401
from pyflux_transfer._version import __version__
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
