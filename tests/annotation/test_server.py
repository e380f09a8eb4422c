"""The page's requests, answered by the real application over a real database file."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from fastapi.testclient import TestClient
from studies import Page, answer, open_study

from fundusnet.annotation.server import create_app


def test_without_names_one_person_reads_everything(tmp_path: Path) -> None:
    page = Page(TestClient(create_app(open_study(tmp_path), links=False), base_url="http://127.0.0.1"))
    assert page.session["annotator"]["name"] == "me"
    queue = page.get("/api/queue").json()["images"]
    assert sorted(entry["image_id"] for entry in queue) == ["a", "b", "c", "d"]
    assert {entry["state"] for entry in queue} == {"todo"}


def test_an_answer_is_kept_once_and_not_overwritten_by_another_tab(tmp_path: Path) -> None:
    page = Page(TestClient(create_app(open_study(tmp_path), links=False), base_url="http://127.0.0.1"))
    first = answer(version=0, findings={"drusen": ["macula"]})
    assert page.put("a", first).json() == {"version": 1, "progress": {"done": 1, "total": 4}}
    assert page.put("a", first).json()["version"] == 1
    other = page.put("a", answer(version=0, normal=True, change=str(uuid4())))
    assert other.status_code == 409
    assert other.json()["answer"]["findings"] == {"drusen": ["macula"]}
    assert page.get("/api/images/a").json()["answer"]["version"] == 1
