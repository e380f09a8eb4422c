"""Photographs are known by their content, wherever they lie and whatever they are called."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from unittest.mock import patch

import cv2
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection
from studies import Page, answer, client_of, link_of, open_study, photograph, write_photographs

from fundusnet.annotation import identity, image_list
from fundusnet.annotation.identity import File, identify
from fundusnet.annotation.study import Study
from fundusnet.annotation.study_export import export_study
from fundusnet.annotation.tables import images
from fundusnet.data.manifest import read_manifest


def queue(study: Study) -> dict[str, str]:
    found = Page(client_of(study)).get("/api/queue").json()["images"]
    return {entry["image_id"]: entry["state"] for entry in found}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four photographs, of which a and b have been read."""
    page = Page(client_of(open_study(tmp_path)))
    for name in "ab":
        assert page.put(name, answer(comment=f"of {name}")).status_code == 200
    return tmp_path / "photographs"


def comment(study: Study, image_id: str) -> str:
    return str(Page(client_of(study)).get(f"/api/images/{image_id}").json()["answer"]["comment"])


def test_moved_and_renamed_photographs_keep_their_readings(root: Path, tmp_path: Path) -> None:
    (root / "left" / "old").mkdir(parents=True)
    (root / "a.png").rename(root / "left" / "old" / "eye.png")
    (root / "c.png").rename(root / "left" / "c.png")
    study = open_study(tmp_path)
    assert queue(study) == {"a": "done", "b": "done", "c": "todo", "d": "todo"}
    assert comment(study, "a") == "of a"
    assert Page(client_of(study)).get("/api/images/a/photograph").status_code == 200
    exported = read_manifest(export_study(study, tmp_path / "out"))
    assert set(exported.readings["image_id"]) == {"a", "b"}


def test_photographs_that_exchanged_names_are_told_apart(root: Path, tmp_path: Path) -> None:
    (root / "a.png").rename(root / "x.png")
    (root / "b.png").rename(root / "a.png")
    (root / "x.png").rename(root / "b.png")
    study = open_study(tmp_path)
    with study.storage.read() as connection:
        paths = {row.image_id: row.path for row in connection.execute(sa.select(images))}
    assert (paths["a"], paths["b"]) == ("b.png", "a.png")


def test_a_namesake_with_another_suffix_hides_nothing(root: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(root / "a.jpg"), photograph("left", 9))
    states = queue(open_study(tmp_path))
    assert states["a"] == "done"
    assert sorted(states.values()) == ["done", "done", "todo", "todo", "todo"]
    assert queue(open_study(tmp_path)) == states


def test_a_changed_photograph_is_a_new_one_and_the_old_one_is_missing(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    original = (root / "a.png").read_bytes()
    cv2.imwrite(str(root / "a.png"), photograph("left", 9))
    with caplog.at_level(logging.WARNING):
        study = open_study(tmp_path)
    assert "missing or were changed, their readings are kept: a" in caplog.text
    states = queue(study)
    (new,) = set(states) - set("bcd")
    assert new.startswith("a-")
    assert states[new] == "todo"
    (root / "a.png").write_bytes(original)  # restored from the backup
    states = queue(open_study(tmp_path))
    assert states == {"a": "done", "b": "done", "c": "todo", "d": "todo"}


def test_missing_photographs_come_back_with_their_readings(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "b.png").rename(tmp_path / "b.png")
    study = open_study(tmp_path)
    assert set(queue(study)) == set("acd")
    assert "b" in caplog.text
    shutil.move(tmp_path / "b.png", root / "again.png")
    study = open_study(tmp_path)
    assert comment(study, "b") == "of b"
    assert set(queue(study)) == set("abcd")


def test_a_photograph_that_was_missing_at_a_start_that_failed_is_dealt_again(root: Path, tmp_path: Path) -> None:
    (root / "c.png").rename(tmp_path / "c.png")
    with patch("fundusnet.annotation.study.assign_images", side_effect=OSError("killed")), pytest.raises(OSError):
        open_study(tmp_path)
    shutil.move(tmp_path / "c.png", root / "c.png")
    assert set(queue(open_study(tmp_path))) == set("abcd")


def test_identical_files_are_different_photographs(tmp_path: Path) -> None:
    open_study(tmp_path)
    shutil.copy(tmp_path / "photographs" / "a.png", tmp_path / "photographs" / "copy.png")
    assert set(queue(open_study(tmp_path))) == {"a", "b", "c", "d", "copy"}
    (tmp_path / "photographs" / "a.png").unlink()
    assert set(queue(open_study(tmp_path))) == {"b", "c", "d", "copy"}


def test_only_new_and_changed_files_are_read(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    digest = identity._digest
    monkeypatch.setattr(identity, "_digest", lambda file: read.append(file.name) or digest(file))
    open_study(tmp_path)
    assert read == []
    os.utime(root / "c.png", ns=(0, 0))
    cv2.imwrite(str(root / "e.png"), photograph("left", 9))
    open_study(tmp_path)
    assert sorted(read) == ["c.png", "e.png"]


def test_a_restart_compares_images_only_if_files_or_their_table_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    monkeypatch.setattr(image_list, "identify", lambda old, new: compared.append(len(new)) or identify(old, new))

    def start(eye: str = "") -> str:
        table = f"image_id,path,eye\na,a.png,{eye}\nb,b.png,\n"
        (tmp_path / "photographs" / "images.csv").write_text(table)
        with open_study(tmp_path, source="csv").storage.read() as connection:
            return str(connection.scalar(sa.select(images.c.eye).where(images.c.image_id == "a")))

    write_photographs(tmp_path / "photographs", "ab")
    assert (start(), compared) == ("", [2])
    assert (start(), compared) == ("", [2])
    assert (start("left"), compared) == ("left", [2, 2])
    os.utime(tmp_path / "photographs" / "a.png", ns=(0, 0))
    assert (start("left"), compared) == ("left", [2, 2, 2])
    (tmp_path / "photographs" / "a.png").unlink()
    start("left")
    start("left")
    assert len(compared) == 5  # what cannot be read is looked at every time


def test_moved_photographs_keep_their_key_in_the_table(root: Path, tmp_path: Path) -> None:
    """Setting a key, even to what it was, makes SQLite look through all answers: hours in a large study."""
    said: list[str] = []
    for name in "abcd":
        (root / f"{name}.png").rename(root / f"moved {name}.png")
    with patch.object(Connection, "execute", autospec=True, side_effect=Connection.execute) as execute:
        study = open_study(tmp_path)
    for call in execute.call_args_list:
        statement = call.args[1]
        if isinstance(statement, sa.Update) and statement.table.name == "images":
            parameters = call.args[2] if len(call.args) > 2 else []
            said += [name for row in parameters for name in row]
    assert "path" in said
    assert "image_id" not in said
    assert queue(study) == {"a": "done", "b": "done", "c": "todo", "d": "todo"}


def test_a_study_whose_photographs_are_unreadable_for_once_keeps_its_images(root: Path, tmp_path: Path) -> None:
    broken = root / "a.png"
    content = broken.read_bytes()
    broken.unlink()
    broken.symlink_to("nowhere")
    assert queue(open_study(tmp_path))["a"] == "done"
    broken.unlink()
    broken.write_bytes(content)
    assert queue(open_study(tmp_path))["a"] == "done"


FILES = st.lists(st.tuples(st.sampled_from("pqrst"), st.sampled_from("12345")), unique_by=lambda each: each[0])


@given(FILES, FILES)
def test_content_decides(before: list[tuple[str, str]], after: list[tuple[str, str]]) -> None:
    stored = [File(f"id-{path}", path, digest) for path, digest in before]
    ids = identify(stored, [File(path, path, digest) for path, digest in after])
    assert len(set(ids)) == len(after)
    digest_of = {image.name: image.digest for image in stored}
    for image_id, (_, digest) in zip(ids, after, strict=True):
        assert digest_of.get(image_id, digest) == digest
    # As many are recognised as contents are still there.
    for content in "12345":
        had = sum(digest == content for _, digest in before)
        has = sum(digest == content for _, digest in after)
        assert sum(digest_of.get(name) == content for name in ids) == min(had, has)


def late(study: Study, name: str) -> Page:
    return Page(client_of(study, links=True), link_of(study, name))


def test_what_was_answered_before_the_roster_changed_counts(tmp_path: Path) -> None:
    study = open_study(tmp_path, ["anna", "ben"], readings=1, images="abcdef")
    anna = late(study, "anna")
    hers = [entry["image_id"] for entry in anna.get("/api/queue").json()["images"]]
    # The server was down; her browser keeps these. Meanwhile dora joins, and gets some of them.
    study.enrol(["anna", "ben", "dora"])
    now = {entry["image_id"] for entry in anna.get("/api/queue").json()["images"]}
    given_away = [image_id for image_id in hers if image_id not in now]
    assert given_away
    for image_id in hers:
        assert anna.put(image_id, answer()).json()["version"] == 1
    states = {entry["image_id"]: entry["state"] for entry in anna.get("/api/queue").json()["images"]}
    assert {image_id: states[image_id] for image_id in hers} == dict.fromkeys(hers, "done")
    assert set(read_manifest(export_study(study, tmp_path / "out")).readings["image_id"]) == set(hers)
    # What was never hers is refused still.
    other = next(image_id for image_id in "abcdef" if image_id not in states)
    assert anna.put(other, answer()).status_code == 404
    # Nobody has to read again what she has read.
    study.enrol(["anna", "ben", "dora"])
    dora = {entry["image_id"] for entry in late(study, "dora").get("/api/queue").json()["images"]}
    assert not dora & set(hers)


def test_one_who_left_may_still_send_what_was_done(tmp_path: Path) -> None:
    study = open_study(tmp_path, ["anna", "ben"], readings=1)
    anna = late(study, "anna")
    hers = [entry["image_id"] for entry in anna.get("/api/queue").json()["images"]]
    study.enrol(["ben"])
    assert anna.get("/api/session").json()["left"] is True
    assert anna.put(hers[0], answer(comment="before I left")).json()["version"] == 1
    assert anna.get(f"/api/images/{hers[0]}").json()["code"] == "left"
    assert set(read_manifest(export_study(study, tmp_path / "out")).readings["annotator_id"]) == {"anna"}
    ben = {entry["image_id"] for entry in late(study, "ben").get("/api/queue").json()["images"]}
    study.enrol(["ben"])
    assert ben - {entry["image_id"] for entry in late(study, "ben").get("/api/queue").json()["images"]} == {hers[0]}


def test_answers_on_a_photograph_that_was_moved_or_lost_meanwhile_count(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    page = Page(client_of(study))
    for name in "ab":
        page.get(f"/api/images/{name}")
    root = tmp_path / "photographs"
    (root / "a.png").rename(root / "z.png")
    (root / "b.png").unlink()
    study = open_study(tmp_path)
    for name in "ab":
        assert Page(client_of(study)).put(name, answer()).json()["version"] == 1
        assert page.put(name, answer(version=1, disc=[500, 5])).status_code == 422
    assert set(queue(study)) == set("acd")
