"""``fundusnet annotate``: what it prints, what it refuses, and that it starts without the training libraries."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from running import Server
from studies import write_photographs

from fundusnet.cli.main import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with four photographs in it, where commands start."""
    write_photographs(tmp_path / "photographs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def unserved(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Everything but serving: the sockets that would have been served."""
    served: list[object] = []
    monkeypatch.setattr("uvicorn.Server.run", lambda _, sockets: served.extend(sockets))
    return served


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["annotate", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return str(line)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "data.root is not given"),
        (["data.root=nowhere"], "root=nowhere: source=folder expects"),
        (["data.root=photographs", "host=0.0.0.0"], "host=0.0.0.0 would let anyone in; name annotators=[...]"),
        (["data.root=photographs", "host=192.168.7.7"], "host=192.168.7.7 would let anyone in"),
        (["data.root=photographs", "host=no.such.name.invalid", "annotators=[a]"], "cannot listen on host=no.such"),
        (["data.root=photographs", "port=70000"], "port=70000"),
        (["data.root=photographs", "readings_per_image=0"], "readings_per_image=0 is not valid: use a value greater"),
        (["data.root=photographs", "annotators=[a,a]"], "'a' is given twice"),
        (["data.root=photographs", "finding.names=[drusn]"], "did you mean drusen?"),
        (["data.root=photographs", "earlier=nowhere"], "images.csv is missing"),
        (["data.root=photographs", "export=out"], "there is no study in /"),
        (["data.root=photographs", "links=[anna]"], "there is no study in /"),
        (["data.root=photographs", "database=nonsense"], "database=nonsense cannot be used"),
        (["data.root=photographs", "anotators=[a]"], "did you mean annotators?"),
    ],
)
def test_refused_in_one_line(
    here: Path, unserved: list[object], capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert message in refusal(capsys, *words)
    assert not unserved


def test_a_taken_port_is_named(here: Path, unserved: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port={port}" in refusal(capsys, "data.root=photographs", f"port={port}")


def test_without_names_only_this_machine_is_listened_to(
    here: Path, unserved: list[socket.socket], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["annotate", "data.root=photographs", "port=0"]) == 0
    (listening,) = unserved
    host, port = listening.getsockname()
    assert host == "127.0.0.1"
    assert f"annotate at http://127.0.0.1:{port}/\n" in capsys.readouterr().out
    assert [file.name for file in here.glob("home/fundusnet/annotation/photographs-*/study.sqlite")] == ["study.sqlite"]


def test_links_are_printed_until_they_are_used(
    here: Path, unserved: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(*words: str) -> dict[str, str]:
        assert main(["annotate", "data.root=photographs", "port=0", *words]) == 0
        return dict(re.findall(r"^(\w+): http://127\.0\.0\.1:\d+/join/([\w-]{43})$", capsys.readouterr().out, re.M))

    first = printed("annotators=[anna,ben]", "adjudicators=[ada]")
    assert list(first) == ["anna", "ben", "ada"]
    # They are good still, and only their hashes are kept: nothing to print again but a newcomer's.
    assert printed("annotators=[anna,ben]", "adjudicators=[ada]") == {}
    assert list(printed("annotators=[anna,ben,cleo]", "adjudicators=[ada]")) == ["cleo"]
    again = printed("links=[anna]")
    assert list(again) == ["anna"]
    assert again["anna"] != first["anna"]
    assert main(["annotate", "data.root=photographs", "links=[zoe]"]) == 2
    assert "zoe does not take part in this study; choose from anna, ben, ada, cleo" in capsys.readouterr().err


def test_other_machines_need_links(
    here: Path, unserved: list[object], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words = ["annotate", "data.root=photographs", "port=0", "host=0.0.0.0"]
    assert main([*words, "annotators=[anna]"]) == 0
    assert "unencrypted" in caplog.text
    assert f"anna: http://{socket.gethostname()}:" in capsys.readouterr().out
    caplog.clear()
    assert main([*words, "public=https://reading.example.org/", "annotators=[anna,ben]"]) == 0
    assert "ben: https://reading.example.org/join/" in capsys.readouterr().out
    assert "unencrypted" not in caplog.text


def test_a_real_server_process(here: Path) -> None:
    server = Server("data.root=photographs", "folder=study", "annotators=[anna]", "readings_per_image=1", folder=here)
    try:
        with httpx2.Client(base_url=server.address) as client:
            assert client.get("/api/session").status_code == 401
            joined = client.get(server.links["anna"])
            assert (joined.status_code, joined.headers["location"]) == (303, "/")
            csrf = client.get("/api/session").json()["csrf"]
            body = {"version": 0, "change": "7d444840-9dc0-11d1-b245-5ffdce74fad2", "state": "done", "findings": {},
                    "normal": True, "ungradable": None, "comment": "", "disc": None, "fovea": None,
                    "seconds": 1}  # fmt: skip
            assert client.put("/api/images/b/answer", json=body, headers={"X-CSRF-Token": csrf}).status_code == 200
            for path in ("/static/../../annotating.py", "/..%2f..%2fetc/passwd", "//etc/passwd", "/photographs/a.png"):
                assert raw_status(server.port, path) == 404
            assert raw_status(server.port, "/", host="evil.example") == 421
            assert "server" not in client.get("/").headers
        # While it runs, from another process.
        words = [sys.executable, "-m", "fundusnet", "annotate", "data.root=photographs", "folder=study", "export=out"]
        subprocess.run(words, cwd=here, check=True, capture_output=True)
        assert (here / "out" / "readings.csv").read_text() == "image_id,annotator_id,finding,regions\nb,anna,,\n"
        modules = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "libtorch" not in modules
    finally:
        assert server.stop() == 0


def raw_status(port: int, path: str, host: str = "127.0.0.1") -> int:
    """The status of a request whose path no client has tidied up."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return int(connection.recv(100).split()[1])


def test_nothing_heavy_is_imported() -> None:
    program = (
        "import sys, fundusnet.commands.annotate, fundusnet.annotation.server, fundusnet.annotation.manifest_import; "
    )
    program += "from fundusnet.data.sources import load_source; "
    program += "import fundusnet.data.sources.folder, fundusnet.data.sources.csv; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {
        "torch",
        "torchvision",
        "pytorch_lightning",
        "timm",
        "sklearn",
        "scipy",
        "matplotlib",
        "albumentations",
        "wandb",
    }
    assert not heavy & set(modules)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("order=uncertain", "order=uncertain needs networks that can be uncertain; add checkpoint=RUN"),
        ("checkpoint=nowhere", "checkpoint nowhere does not exist"),
        ("suggest=1.5", "suggest=1.5"),
        ("order=best", "order=best"),
    ],
)
def test_suggestions_that_cannot_be_made_are_refused(
    word: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(capsys, "data.root=photographs", "port=0", word)


def test_networks_have_to_find_what_can_be_marked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tiny_networks import findings_checkpoint, grading_checkpoint

    findings_checkpoint(here / "other.ckpt", ["cataract"])
    grading_checkpoint(here / "grades.ckpt", ["normal", "glaucoma"])
    for file, message in (("other", "predict cataract, none of which can be marked"), ("grades", "grades eyes")):
        assert message in refusal(capsys, "data.root=photographs", "port=0", f"checkpoint={file}.ckpt")


@pytest.mark.parametrize("order", ["random", "uncertain"])
def test_what_networks_suggest_is_stored_while_the_page_is_served(
    here: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    from tiny_networks import findings_checkpoint

    import fundusnet
    from fundusnet.annotation.storage import Storage
    from fundusnet.annotation.suggestions import is_suggested
    from fundusnet.annotation.tables import suggestions

    file = findings_checkpoint(here / "network.ckpt", threshold=0.01)
    found: dict[str, dict[str, Any]] = {}

    def wait_for_suggestions(*_: object, **__: object) -> None:
        """In place of serving: until all are stored that will be."""
        wanted = {name for name in "abcd" if order == "uncertain" or is_suggested(name, 3, 0.5)}
        storage = Storage(f"sqlite:///{here}/study/study.sqlite")
        end = time.monotonic() + 60
        while set(found) != wanted:
            assert time.monotonic() < end, f"{set(found)} instead of {wanted}"
            time.sleep(0.05)
            with storage.read() as connection:
                found.update({row.image_id: row.content for row in connection.execute(sa.select(suggestions))})
        storage.close()

    monkeypatch.setattr("uvicorn.Server.run", wait_for_suggestions)
    words = ["data.root=photographs", "folder=study", "port=0", "seed=3", f"order={order}", f"checkpoint={file}"]
    assert main(["annotate", *words]) == 0
    predictor = fundusnet.load(file)
    for name, content in found.items():
        result = predictor.predict(here / "photographs" / f"{name}.png")
        assert content["probabilities"] == pytest.approx(result.probability, abs=1e-3)
        assert content["findings"] == {each: list(result.regions[each] or ()) for each in ("drusen", "hemorrhage")}
        assert content["points"] == result.points.origin
