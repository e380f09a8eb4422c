"""The evaluation serves both systems and knows neither."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fundusnet.evaluation

FOLDER = Path(fundusnet.evaluation.__file__).parent
SYSTEMS = ("findings", "grading")


def imported_modules(source: str) -> list[str]:
    """Every module that Python source imports, also inside functions, and every name it imports from a module."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = ("fundusnet.evaluation." if node.level else "") + (node.module or "")
            found += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return found


def knows_a_system(source: str) -> bool:
    return any(module.split(".")[:2] == ["fundusnet", name] for module in imported_modules(source) for name in SYSTEMS)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.name)
def test_no_module_imports_findings_or_grading(file: Path) -> None:
    assert not knows_a_system(file.read_text())


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.name)
def test_no_module_names_a_column_of_one_system(file: Path) -> None:
    constants = {node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)}
    assert not constants & {"finding", "grade"}


@pytest.mark.parametrize(
    "source",
    [
        "import fundusnet.findings.statistics",
        "from fundusnet import grading",
        "from fundusnet.grading.cam import upsampled",
        "def late():\n    from fundusnet.findings import task",
    ],
)
def test_such_an_import_is_detected(source: str) -> None:
    assert knows_a_system(source)
