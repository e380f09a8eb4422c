"""Checkpoint files: the earlier one or the new one, whole at every moment."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from fundusnet.errors import UserError
from fundusnet.fitting.resume import last_complete
from fundusnet.runs.checkpoints import CheckpointFiles, load_checkpoint, update_metadata, write_checkpoint

CONTENT = {"state_dict": {"weight": torch.arange(6.0)}, "epoch": 3}


class FullDisk(io.FileIO):
    """A file on a disk that has room for 100 bytes more."""

    def write(self, data: Any) -> int:
        super().write(bytes(data)[:100])
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", lambda self, mode="r", *_, **__: FullDisk(self, mode.replace("b", "")))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "new" / "last.ckpt"
    CheckpointFiles().save_checkpoint(CONTENT, file)
    read = CheckpointFiles().load_checkpoint(file)
    assert read["epoch"] == 3 and torch.equal(read["state_dict"]["weight"], torch.arange(6.0))
    assert [each.name for each in file.parent.iterdir()] == ["last.ckpt"]


def test_a_full_disk_leaves_the_earlier_checkpoint_whole(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    file = tmp_path / "best.ckpt"
    write_checkpoint(file, CONTENT)
    request.getfixturevalue("full_disk")
    for write in (lambda: write_checkpoint(file, {"epoch": 4}), lambda: update_metadata(file, {"threshold": 0.5})):
        with pytest.raises(UserError, match=r"best\.ckpt cannot be written: No space left on device; the earlier"):
            write()
    assert load_checkpoint(file)["epoch"] == 3
    assert [each.name for each in tmp_path.iterdir()] == ["best.ckpt"]  # nothing half written takes up room


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    torch.save({"path": tmp_path}, tmp_path / "object.ckpt")  # any object but tensors and plain values
    with pytest.raises(UserError, match="cannot be read"):
        CheckpointFiles().load_checkpoint(tmp_path / "object.ckpt")


@pytest.mark.parametrize("torn", ["last.ckpt", "previous.ckpt"])
@pytest.mark.parametrize("damage", ["short", "empty", "changed"])
def test_the_last_complete_checkpoint(tmp_path: Path, torn: str, damage: str) -> None:
    for name in ("last.ckpt", "previous.ckpt"):
        write_checkpoint(tmp_path / name, CONTENT)
    file = tmp_path / torn
    whole = file.read_bytes()
    middle = whole.index(torch.arange(6.0).numpy().tobytes())
    file.write_bytes(
        {"short": whole[:-50], "empty": b"", "changed": whole[:middle] + b"XX" + whole[middle + 2 :]}[damage]
    )
    expected = "previous.ckpt" if torn == "last.ckpt" else "last.ckpt"
    assert last_complete(tmp_path) == tmp_path / expected


def test_without_a_checkpoint_a_fit_begins_anew(tmp_path: Path) -> None:
    assert last_complete(tmp_path) is None
    (tmp_path / "last.ckpt").write_bytes(b"torn")
    assert last_complete(tmp_path) is None
