"""fundusnet: findings in fundus photographs, and the place in the picture that speaks for them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fundusnet.commands.evaluate import evaluate
    from fundusnet.commands.export import export
    from fundusnet.commands.init import init
    from fundusnet.commands.predict import predict
    from fundusnet.commands.prepare import prepare_folder as prepare
    from fundusnet.commands.report import report
    from fundusnet.commands.train import train
    from fundusnet.config.compose import compose
    from fundusnet.prediction.loading import load

__all__ = [
    "__version__",
    "compose",
    "evaluate",
    "export",
    "init",
    "load",
    "predict",
    "prepare",
    "report",
    "train",
]
__version__ = "0.1.0"

# Imported when asked for: `import fundusnet` and `fundusnet --help` cost neither torch nor hydra.
_HOMES = {
    "compose": "fundusnet.config.compose.compose",
    "evaluate": "fundusnet.commands.evaluate.evaluate",
    "export": "fundusnet.commands.export.export",
    "init": "fundusnet.commands.init.init",
    "load": "fundusnet.prediction.loading.load",
    "predict": "fundusnet.commands.predict.predict",
    "prepare": "fundusnet.commands.prepare.prepare_folder",
    "report": "fundusnet.commands.report.report",
    "train": "fundusnet.commands.train.train",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'fundusnet' has no attribute {name!r}")
    module, _, function = _HOMES[name].rpartition(".")
    return getattr(import_module(module), function)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
