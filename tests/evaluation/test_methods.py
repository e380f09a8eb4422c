"""What methods are called on a page, and which one the others are compared with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from finished_runs import run_folder

from fundusnet.errors import UserError
from fundusnet.evaluation.groups import Group, group_runs
from fundusnet.evaluation.methods import name_methods
from fundusnet.evaluation.runs import read_runs
from fundusnet.findings.statistics import FINDINGS, method_name


def groups(folders: list[Path]) -> list[Group]:
    return group_runs(read_runs(folders, FINDINGS))


def test_methods_are_named_without_their_findings(tmp_path: Path) -> None:
    folders = [run_folder(tmp_path, finding=f, weight=w) for f in ("drusen", "membrane") for w in (1.0, 0.0)]
    methods = name_methods(groups(folders))
    # Differences are against the one without guidance, whatever comes first.
    assert [group.label for group in methods.groups] == ["without guidance", "with guidance, λ=1"]


@pytest.mark.parametrize(
    ("name", "targets", "called"),
    [
        ("drusen λ=0", ["drusen"], "without guidance"),
        ("drusen λ=0.05", ["drusen"], "with guidance, λ=0.05"),
        ("7 findings Inception-v3", ["a"] * 7, "Inception-v3"),
        ("drusen+membrane (resnet50) λ=0", ["drusen", "membrane"], "(resnet50) without guidance"),
        ("drusen λ=1 pixels", ["drusen"], "with guidance, λ=1 pixels"),
        ("my own", ["drusen"], "my own"),
        ("drusen", ["drusen"], "drusen"),
    ],
)
def test_names(name: str, targets: list[str], called: str) -> None:
    assert method_name(name, targets) == called


@pytest.mark.parametrize(
    ("names", "shared", "labels"),
    [
        (["ranking (lite0)", "linear multiclass (lite0)"], "lite0", ["ranking", "linear multiclass"]),
        (["ranking (lite0)", "ranking (lite1)"], "ranking", ["lite0", "lite1"]),
        (["large network, ours", "large network, theirs"], "large network", ["ours", "theirs"]),
    ],
)
def test_what_all_names_share_is_said_once(tmp_path: Path, names: list[str], shared: str, labels: list[str]) -> None:
    """Words that they begin with, or a backbone in brackets, which needs no brackets where it stands alone."""
    folders = [run_folder(tmp_path, weight=weight) for weight in (0.1, 0.2)]
    for folder, name in zip(folders, names, strict=True):
        config = yaml.safe_load((folder / "config.yaml").read_text())
        (folder / "config.yaml").write_text(yaml.safe_dump({**config, "name": name}))
    methods = name_methods(groups(folders))
    assert (methods.shared, [group.label for group in methods.groups]) == (shared, labels)


def test_the_methods_of_table_1(tmp_path: Path) -> None:
    """The network without guidance is what others are compared with, although Inception-v3 hides what names share."""
    folders = [run_folder(tmp_path, weight=weight) for weight in (10.0, 0.5, 0.0)]
    names = ("drusen (lite0) λ=10", "drusen Inception-v3", "drusen (lite0) λ=0")
    for folder, name in zip(folders, names, strict=True):
        config = yaml.safe_load((folder / "config.yaml").read_text())
        (folder / "config.yaml").write_text(yaml.safe_dump({**config, "name": name}))
    methods = name_methods(groups(folders))
    called = [group.label for group in methods.groups]
    assert called == ["without guidance (lite0)", "with guidance, λ=10 (lite0)", "Inception-v3"]
    assert [group.label for group in name_methods(groups([folders[0], folders[2]])).groups] == [
        "without guidance",
        "with guidance, λ=10",
    ]


def test_the_reference_is_a_folder_or_a_name(tmp_path: Path) -> None:
    folders = [run_folder(tmp_path, weight=weight) for weight in (0.0, 0.3, 1.0)]
    for reference in (str(folders[2]), "with guidance, λ=1", "drusen λ=1"):
        labels = [group.label for group in name_methods(groups(folders), reference).groups]
        assert labels == ["with guidance, λ=1", "without guidance", "with guidance, λ=0.3"]
    sweeps = {w: [run_folder(tmp_path / f"λ={w}", weight=w, seed=seed) for seed in (1, 2)] for w in (0.0, 1.0)}
    both = groups([*sweeps[0.0], *sweeps[1.0]])
    chosen = name_methods(both, str(tmp_path / "λ=1.0"))
    assert [group.label for group in chosen.groups] == ["with guidance, λ=1", "without guidance"]
    with pytest.raises(UserError, match="has runs of several methods; give the folder of one, or a name"):
        name_methods(both, str(tmp_path))
    with pytest.raises(UserError, match="reference=elsewhere is none of the runs on this page"):
        name_methods(groups(folders), "elsewhere")


def test_runs_of_one_name_are_told_apart_by_what_was_swept(tmp_path: Path) -> None:
    folders = [run_folder(tmp_path, weight=w, size=size) for w in (0.0, 1.0) for size in (64, 128)]
    labels = {group.label for group in name_methods(groups(folders)).groups}
    assert labels == {f"loss.weight={w}, data.size={size}" for w in (0, 1) for size in (64, 128)}
