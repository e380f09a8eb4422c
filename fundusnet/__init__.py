"""fundusnet: findings in fundus photographs, and the place in the picture that speaks for them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fundusnet.commands.evaluate import evaluate
    from fundusnet.commands.export import export
    from fundusnet.commands.predict import predict
    from fundusnet.commands.train import train
    from fundusnet.config.compose import compose
    from fundusnet.prediction.loading import load

__all__ = ["__version__", "compose", "evaluate", "export", "load", "predict", "train"]
__version__ = "0.1.0"

# Imported when asked for: `import fundusnet` and `fundusnet --help` cost neither torch nor hydra.
_HOMES = {
    "compose": "fundusnet.config.compose",
    "evaluate": "fundusnet.commands.evaluate",
    "export": "fundusnet.commands.export",
    "load": "fundusnet.prediction.loading",
    "predict": "fundusnet.commands.predict",
    "train": "fundusnet.commands.train",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'fundusnet' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
