"""The tree that docs/architecture.md draws: its folders, their order, and the functions it names."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import fundusnet

ROOT = Path(fundusnet.__file__).parent
PAGE = (ROOT.parent / "docs" / "architecture.md").read_text()
FOLDERS = re.findall(r"^[├└]── (\w+)/ ", PAGE, re.MULTILINE)
ALLOWED = {("fitting/tasks.py", task) for task in ("findings", "grading", "landmarks")}


def imported(file: Path) -> set[str]:
    """The folders of the package that a file imports from, functions included."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{each.name}" for each in node.names]
        elif isinstance(node, ast.Import):
            names += [each.name for each in node.names]
    return {parts[1] for name in names if (parts := name.split("."))[0] == "fundusnet" and len(parts) > 1}


def test_the_picture_has_every_folder() -> None:
    assert set(FOLDERS) == {folder.name for folder in ROOT.iterdir() if (folder / "__init__.py").is_file()}


def test_imports_run_downwards() -> None:
    upwards = {
        (file.relative_to(ROOT).as_posix(), other)
        for place, name in enumerate(FOLDERS)
        for file in (ROOT / name).rglob("*.py")
        for other in imported(file)
        if other in FOLDERS[:place]
    }
    assert upwards == ALLOWED


def test_the_functions_of_the_page_exist() -> None:
    names = re.findall(r"`((?:config|data|fitting|findings|grading|evaluation|networks)\.[\w.]+)`", PAGE)
    assert len(names) > 15
    for name in names:
        parts = name.split(".")
        for cut in range(len(parts), 0, -1):
            try:
                found: object = import_module(".".join(["fundusnet", *parts[:cut]]))
            except ModuleNotFoundError:
                continue
            for attribute in parts[cut:]:
                found = getattr(found, attribute)
            break
