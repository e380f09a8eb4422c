"""The wheel alone, away from the checkout: it carries all it needs and trains from an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = (
    *("train", "experiment=quickstart", "data.size=64", "data.options.images=60", "data.workers=0"),
    *("data.batch_size=8", "trainer.max_epochs=1", "trainer.accelerator=cpu", "evaluation.bootstrap=20"),
)


def output(*command: str | Path, cwd: Path) -> str:
    """What a command printed; the test fails with its errors where it fails. No variable points to the checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    answer = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    output(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT, cwd=folder)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel, and from this one everything but the checkout."""
    folder = tmp_path_factory.mktemp("environment")
    output(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    output(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (site,) = folder.rglob("site-packages")
    # A folder named in a .pth file is searched, but .pth files inside it, an editable install's, are not followed.
    (site / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_it_holds_every_file_of_the_package_and_the_configuration(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    ours = [file for file in (ROOT / "fundusnet").rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert {file.relative_to(ROOT).as_posix() for file in ours} <= inside
    conf = {f"fundusnet/{file.relative_to(ROOT).as_posix()}" for file in (ROOT / "conf").rglob("*.yaml")}
    assert len(conf) > 20 and conf <= inside


def test_it_trains_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    where = "import fundusnet, fundusnet.config.compose as c; print(fundusnet.__file__, c.conf_folder(), sep='\\n')"
    for place in output(installed, "-c", where, cwd=tmp_path).splitlines():
        assert Path(place).is_relative_to(installed.parents[1])
    shown = output(installed.parent / "fundusnet", *QUICKSTART, cwd=tmp_path)
    run = tmp_path / shown.splitlines()[-1]
    assert run.is_relative_to(tmp_path / "outputs" / "quickstart")
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    assert (run / "report.html").stat().st_size > 10_000
