"""From a configuration to a network of findings: what is said before training."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tiny_runs import tiny_overrides, tiny_place

import fundusnet
from fundusnet.config.compose import compose
from fundusnet.findings.task import make_datamodule, make_module


@pytest.mark.parametrize(("cue", "warned"), [("regions", True), ("pixels", False)])
def test_guidance_without_any_cue_is_said(
    tmp_path: Path, cue: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = compose([*tiny_overrides(tiny_place(tmp_path)), f"data.cue={cue}"])
    data = make_datamodule(cfg)
    data.setup()
    data.labels.cue_known[data.labels.label == 1] = cue == "pixels"  # as if neither disc nor fovea were known
    make_module(cfg, data)
    assert ("with drusen has a cue, so it is trained without guidance" in caplog.text) == warned
    caplog.clear()
    make_module(compose([*tiny_overrides(tmp_path), f"data.cue={cue}", "model.loss.weight=0"]), data)
    assert caplog.text == ""


def test_without_a_test_split_validation_is_scored_and_said_to_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = [*tiny_overrides(tiny_place(tmp_path)), "data.fractions=[0.7,0.3,0]", f"run_dir={tmp_path}/run"]
    result = fundusnet.train(compose(words))
    assert result.metrics["split"] == "val"
    assert "there is no test split (data.fractions=[0.7, 0.3, 0]): the metrics are those of validation" in caplog.text
    scored, validated = (pd.read_csv(tmp_path / "run" / f"predictions{end}.csv") for end in ("", "_val"))
    assert scored["image_id"].tolist() == validated["image_id"].tolist()
    assert (tmp_path / "run" / "report.html").is_file()
