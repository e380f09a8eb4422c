"""The examples of docs/howto/extending.md: written to disk and run as the page says."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tiny import tiny_prepared

import fundusnet
from fundusnet.cli.main import main
from fundusnet.data.prepared import open_prepared
from fundusnet.errors import UserError
from fundusnet.fitting.tasks import task_of
from fundusnet.runs.folder import read_config

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "howto" / "extending.md").read_text()
TINY = [
    *("data=csv", "data.root=gone", "data.folder=prepared", "data.size=64", "data.num_workers=0", "data.batch_size=8"),
    *("trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.precision=32-true"),
    *("evaluation.bootstrap=5", "evaluation.panels=0"),
]
OF_GUIDED = ["model.network.width=2", "model.network.reductions=3", "model.network.pyramid_width=2"]


def files() -> dict[str, str]:
    """The files of the page; those of one name are joined."""
    found: dict[str, str] = {}
    for name, text in re.findall(r"^`([\w/]+\.(?:yaml|py))`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE):
        found[name] = found.get(name, "") + text + "\n"
    return found


def commands(word: str) -> list[list[str]]:
    """The commands of the page that contain ``word``, without the program's name."""
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL))
    return [shlex.split(line)[1:] for line in blocks.splitlines() if word in line]


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A folder with the page's files and a prepared set; yields its module ``clinic``."""
    torch.set_num_threads(1)
    for name, text in files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    tiny_prepared(tmp_path)
    yield importlib.import_module("clinic")
    sys.modules.pop("clinic", None)


def run(words: list[str], *more: str) -> Path:
    """Run a command of the page with the tiny set and a folder for its run."""
    folder = Path("runs", str(len(list(Path().glob("runs/*")))))
    place = [] if any(word.startswith("run_dir=") for word in words) else [f"run_dir={folder}"]
    assert main([*words, *TINY, *more, *place]) == 0
    return folder if place else Path(next(word for word in words if word.startswith("run_dir=")).partition("=")[2])


def test_the_page_has_what_is_tested_here() -> None:
    assert set(files()) == {
        "mine/finding/laser_scar.yaml", "clinic.py", "mine/data/clinic.yaml", "mine/model/small.yaml",
        "mine/model/loss/focal.yaml", "mine/model/optimizer/radam.yaml", "mine/callbacks/f1.yaml",
        "mine/experiment/harder.yaml", "mine/experiment/mine.yaml",
    }  # fmt: skip


def test_a_finding(clinic: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (words, _) = commands("finding=laser_scar")
    assert main([*words, "--cfg", "job"]) == 0
    assert "laser_scar" in capsys.readouterr().out
    assert main([*words[:-1], f"data.root={Path()}/nowhere"]) == 2
    assert "unknown finding" not in capsys.readouterr().err


def test_a_source(clinic: Any) -> None:
    Path("photographs").mkdir()
    for number in range(4):
        picture = np.full((80, 80, 3), 60 + 20 * number, np.uint8)
        Image.fromarray(picture).save(f"photographs/{number}.png")
    pd.DataFrame({"patient": range(4), "grade": [0, 1, 0, 1]}).to_csv("photographs/grades.csv", index=False)
    (words,) = commands("data=clinic")
    assert main([*words, "data.size=32", "data.folder=four", "data.workers=0", "data.options.camera=a"]) == 0
    prepared = open_prepared("four")
    assert prepared.manifest.classes == ("healthy", "ill")
    assert prepared.manifest.images["grade"].tolist() == [0, 1, 0, 1]


def test_a_network(clinic: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, predict = commands("small")
    folder = run(train)
    assert "clinic.SmallNet" in (folder / "config.yaml").read_text()
    spec = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)["hyper_parameters"]["network"]
    assert spec == {"name": "clinic.SmallNet", "width": 4}
    picture = open_prepared("prepared").pixels[0]
    Path("photographs").mkdir()
    Image.fromarray(np.asarray(picture)).save("photographs/eye.png")
    assert main([*predict, "device=cpu", "workers=0"]) == 0
    predicted = pd.read_csv("predictions/predictions.csv")["probability"].item()
    found = fundusnet.load(folder, device="cpu", network=clinic.SmallNet).predict("photographs/eye.png")
    assert found.probability["drusen"] == pytest.approx(predicted, abs=1e-4)
    evaluate = ["evaluate", f"run={folder}", "evaluation.bootstrap=5", "evaluation.panels=0"]
    assert main([*evaluate, "network=clinic.SmallNet"]) == 0
    again = json.loads((folder / "evaluations/test/metrics.json").read_text())["metrics"]
    assert again["auroc"]["value"] == json.loads((folder / "metrics.json").read_text())["metrics"]["auroc"]["value"]
    # Nothing is imported because a checkpoint names it.
    sys.modules.pop("clinic")
    with pytest.raises(UserError, match=r"needs the network class clinic\.SmallNet; pass it: fundusnet\.load"):
        fundusnet.load(folder, device="cpu")
    assert "clinic" not in sys.modules
    assert main(evaluate) == 2
    assert "clinic.SmallNet" in capsys.readouterr().err and "clinic" not in sys.modules


def test_a_loss(clinic: Any) -> None:
    (words,) = commands("model/loss=focal")
    folder = run(words, *OF_GUIDED)
    history = pd.read_csv(folder / "history.csv").iloc[-1]
    assert 0 < history["val/focal"] < history["val/classification"]
    assert history["val/loss"] == pytest.approx(0.5 * history["val/guidance"] + history["val/focal"], rel=1e-3)
    fundusnet.load(folder, device="cpu")  # a loss is for training only


def test_an_optimiser_and_a_schedule(clinic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr("torch.optim.RAdam.__init__", recording(torch.optim.RAdam.__init__, made))
    own, adamw, timm = commands("optimizer=")
    folder = run(own, *OF_GUIDED, "trainer.max_epochs=3")
    assert [each["lr"] for each in made] == [1e-3]
    assert pd.read_csv(folder / "history.csv")["lr"].tolist() == [1e-3] * 3
    run(adamw, *OF_GUIDED)
    run(timm, *OF_GUIDED)


def recording(function: Any, calls: list[dict[str, Any]]) -> Any:
    def wrapped(self: Any, params: Any, **options: Any) -> None:
        calls.append(options)
        function(self, params, **options)

    return wrapped


def test_a_callback_and_loggers(clinic: Any) -> None:
    own, loggers = commands("callbacks")
    folder = run(own, *OF_GUIDED, "trainer.max_epochs=3")
    scores = pd.read_csv(folder / "history.csv")["val/f1"]
    fitted = json.loads((folder / "fit.json").read_text())
    assert fitted["monitor"] == "val/f1" and scores.min() >= 0 and scores.max() <= 1
    assert fitted["best"] == pytest.approx(scores.max()) and fitted["best_epoch"] == scores.idxmax()
    folder = run(loggers, *OF_GUIDED)
    assert list(folder.glob("csv/**/metrics.csv")) and list(folder.glob("tensorboard/events*"))
    assert "pictures" not in read_config(folder).callbacks


def test_an_augmentation(clinic: Any) -> None:
    own, blurred = commands("experiment=harder") + commands("augment.blur")
    names = []
    for words in (own, blurred):
        cfg = read_config(run(words, *OF_GUIDED))
        data: Any = task_of(cfg).make_datamodule(cfg)
        names.append(data.augment.names)
    assert names == [["warp", "gain", "blur", "colour"], ["warp", "gain", "blur"]]


def test_an_experiment(clinic: Any) -> None:
    (words,) = commands("experiment=mine")
    cfg = read_config(run(words, *OF_GUIDED))
    assert list(cfg.finding.names) == ["hemorrhage"] and cfg.model.loss.weight == 0.3
    assert cfg.trainer.accumulate_grad_batches == 2


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package with the changes of the page."""
    for name in ("fundusnet", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for diff in re.findall(r"```diff\n(.*?)```", PAGE, re.DOTALL):
        assert len(re.findall(r"^\+\+\+ ", diff, re.MULTILINE)) <= 3
        done = subprocess.run(["patch", "-p1"], input=diff, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    return tmp_path


def test_a_key_a_metric_and_a_verb_of_the_package(package: Path) -> None:
    tiny_prepared(package)

    def fundusnet(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fundusnet", *words]
        return subprocess.run(command, cwd=package, capture_output=True, text=True, check=False)

    train = ["train", "finding=drusen", *TINY, *OF_GUIDED, "model.schedule.lowest=0.005", "trainer.max_epochs=2"]
    done = fundusnet(*train, "run_dir=run")
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(package / "run/history.csv")["lr"].tolist() == pytest.approx([0.0075, 0.005], rel=0.4)
    metrics = json.loads((package / "run/metrics.json").read_text())["metrics"]
    predictions = pd.read_csv(package / "run/predictions.csv")
    assert metrics["accuracy"]["value"] == (predictions["label"] == predictions["predicted"]).mean()
    assert "Accuracy" in (package / "run/report.html").read_text()
    assert "model.schedule.lowest=2 is not valid" in fundusnet(*train, "model.schedule.lowest=2").stderr
    counted = fundusnet("count", "folder=prepared", "unit=eyes")
    assert counted.returncode == 0 and counted.stdout.splitlines()[0].endswith(" eyes"), counted.stderr
    assert "did you mean unit?" in fundusnet("count", "folder=prepared", "unti=eyes").stderr
    assert "count the photographs" in fundusnet("--help").stdout
