"""Export: onnxruntime gives the same numbers, plain weights can be loaded, and the card agrees with the run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny_runs import tiny_overrides, tiny_place

from fundusnet.cli.main import main
from fundusnet.prediction.preparation import InputSpec, prepare_photograph

# What docs/export.md tells a stranger: nothing of ours, nothing of torch.
DOCS = Path(__file__).resolve().parents[2] / "docs"
STRANGER = """
import json, sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
described = json.loads(session.get_modelmeta().custom_metadata_map["fundusnet"])
names = [output.name for output in session.get_outputs()]
np.savez(sys.argv[3], **dict(zip(names, session.run(names, {"image": np.load(sys.argv[2])}))))
assert not {name.partition(".")[0] for name in sys.modules} & {"torch", "fundusnet", "cv2", "PIL"}
print(json.dumps(described))
"""


def by_a_stranger(folder: Path, pixels: Path) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    command = [sys.executable, "-I", "-c", STRANGER, folder / "model.onnx", pixels, folder / "out.npz"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    with np.load(folder / "out.npz") as found:
        return dict(found), json.loads(done.stdout)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny guided network, exported."""
    place = tiny_place(tmp_path_factory.mktemp("export"))
    assert main(["train", *tiny_overrides(place), f"run_dir={place}/run"]) == 0
    assert main(["export", f"checkpoint={place}/run"]) == 0
    return place / "run"


def test_onnx_gives_the_predictions_of_the_run(run: Path) -> None:
    prepared = run.parent / "prepared"
    found, described = by_a_stranger(run / "export", prepared / "pixels.npy")
    images = pd.read_csv(prepared / "manifest" / "images.csv")["image_id"].tolist()
    scored = pd.read_csv(run / "predictions.csv")
    rows = [images.index(image_id) for image_id in scored["image_id"]]
    np.testing.assert_allclose(found["probability"][rows, 0], scored["probability"], atol=1e-4)
    with np.load(run / "maps.npz") as stored:
        np.testing.assert_allclose(found["map"][rows], stored["map"], atol=2e-3)  # stored in 16 bits
    threshold = json.loads((run / "metrics.json").read_text())["operating_points"]["drusen"]
    expected = {"task": "findings", "names": ["drusen"], "size": 64, "thresholds": {"drusen": threshold}}
    assert expected.items() <= described.items()


def test_plain_weights_load_as_the_checkpoint_does(run: Path) -> None:
    import fundusnet

    pixels = np.load(run.parent / "prepared" / "pixels.npy")[:3]
    of_weights = fundusnet.load(run / "export" / "model.safetensors").predict(list(pixels))
    of_checkpoint = fundusnet.load(run).predict(list(pixels))
    assert [each.probability for each in of_weights] == [each.probability for each in of_checkpoint]


def test_the_card_agrees_with_the_run(run: Path) -> None:
    card = (run / "export" / "MODEL_CARD.md").read_text()
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    auroc = metrics["auroc"]
    assert f"| auroc | {auroc['value']:.3f} [{auroc['ci95'][0]:.3f}" in card
    predictions = pd.read_csv(run / "predictions.csv")
    splits = pd.read_csv(run / "splits.csv")["split"].value_counts()
    assert f"| training | {splits['train']} | " in card and splits["test"] == len(predictions)
    assert f"| test | {len(predictions)} | {predictions['patient_id'].nunique()} |" in card
    assert "fundusnet train" in card and "drusen" in card and "not a medical device" in card
    assert "{{" not in card and "None" not in card


def test_every_file_may_be_read_as_others_may(run: Path) -> None:
    modes = {file.stat().st_mode & 0o777 for file in (run / "export").iterdir()}
    assert len(modes) == 1


@pytest.mark.skipif(not DOCS.is_dir(), reason="a source distribution carries no docs")
def test_the_documented_crop_is_the_one_of_prepare() -> None:
    page = (DOCS / "export.md").read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def crop" in block]
    scope: dict[str, Any] = {}
    exec(code, scope)
    rng = np.random.default_rng(0)
    for height, width, size in ((300, 420, 128), (900, 700, 224), (90, 100, 128)):
        y, x = np.mgrid[:height, :width]
        lit = np.hypot(x - 0.55 * width, y - 0.5 * height) < 0.42 * min(height, width)
        picture = (rng.integers(90, 250, (height, width, 3)) * lit[:, :, None]).astype(np.uint8)
        expected = prepare_photograph(picture, [InputSpec(size, None)]).pixels[size]
        assert np.array_equal(scope["crop"](picture, size), expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["checkpoint=nowhere"], "nowhere"),
        (["checkpoint={run}", "formats=[onxx]"], "unknown format onxx in formats; choose from onnx"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    run: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *(word.format(run=run) for word in words)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_graph_that_differs_from_torch_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fundusnet.exports.onnx_file.TOLERANCE", -1.0)
    assert main(["export", f"checkpoint={run}", f"output={tmp_path}", "formats=[onnx]"]) == 2
    assert "ONNX differs from torch" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
