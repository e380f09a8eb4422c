"""What ``import fundusnet`` offers, without importing what is slow."""

from __future__ import annotations

import subprocess
import sys
from inspect import signature

import fundusnet


def test_dir_shows_what_there_is_and_all_of_it_exists() -> None:
    assert set(fundusnet.__all__) <= set(dir(fundusnet))
    for name in fundusnet.__all__:
        assert getattr(fundusnet, name)


def test_the_verbs_are_functions_of_a_configuration() -> None:
    for verb in ("train", "evaluate", "predict", "prepare", "report", "export", "init"):
        assert list(signature(getattr(fundusnet, verb)).parameters) == ["cfg"], verb


def test_looking_at_the_names_imports_nothing_slow() -> None:
    code = "import sys, fundusnet; dir(fundusnet); print(*({'torch', 'hydra', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
