"""fundusnet: findings in fundus photographs, and the place in the picture that speaks for them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fundusnet.config import compose
    from fundusnet.evaluating import evaluate
    from fundusnet.exporting import export
    from fundusnet.predicting import predict
    from fundusnet.prediction.loading import load
    from fundusnet.training import train

__all__ = ["__version__", "compose", "evaluate", "export", "load", "predict", "train"]
__version__ = "0.1.0"

# Imported when asked for: `import fundusnet` and `fundusnet --help` cost neither torch nor hydra.
_HOMES = {
    "compose": "fundusnet.config",
    "evaluate": "fundusnet.evaluating",
    "export": "fundusnet.exporting",
    "load": "fundusnet.prediction.loading",
    "predict": "fundusnet.predicting",
    "train": "fundusnet.training",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'fundusnet' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
