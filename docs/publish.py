"""Add the site that was built to a folder of several versions: ``python docs/publish.py FOLDER [VERSION]``.

The folder is what a web server shows: each version below its own name, ``versions.json``, from which the selector at
the top of each page is filled, and an ``index.html`` that leads to the newest release. A version that is there is
replaced.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from importlib.metadata import version as installed
from pathlib import Path

SITE = Path(__file__).resolve().parents[1] / "outputs" / "site"
REDIRECT = """<!doctype html>
<meta charset="utf-8">
<title>fundusnet</title>
<meta http-equiv="refresh" content="0; url={version}/">
<a href="{version}/">fundusnet {version}</a>
"""


def publish(site: Path, folder: Path, version: str) -> list[str]:
    """Copy ``site`` to ``folder/version`` and return the versions there, the newest release first.

    Names without a number, such as ``main``, stand behind the releases.
    """
    if not (site / "index.html").is_file():
        raise SystemExit(f"{site} holds no site; run make docs first")
    if not re.fullmatch(r"\w[\w.+-]*", version):
        raise SystemExit(f"version '{version}' is not a name of a folder")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / version, ignore_errors=True)
    shutil.copytree(site, folder / version)
    versions = sorted((page.parent.name for page in folder.glob("*/index.html")), key=_age, reverse=True)
    listed = [
        {"version": name, "title": name, "aliases": ["latest"] if name == versions[0] else []} for name in versions
    ]
    (folder / "versions.json").write_text(json.dumps(listed, indent=2) + "\n")
    (folder / "index.html").write_text(REDIRECT.format(version=versions[0]))
    return versions


def _age(name: str) -> tuple[bool, list[int], bool]:
    """Releases after other names; 1.10 after 1.9, and 1.0 after 1.0rc1."""
    found = re.match(r"\d+(?:\.\d+)*", name)
    return bool(found), [int(part) for part in found[0].split(".")] if found else [], bool(found and found[0] == name)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    print(*publish(SITE, Path(sys.argv[1]), sys.argv[2] if len(sys.argv) == 3 else installed("fundusnet")))
