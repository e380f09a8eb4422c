"""The documents: links lead somewhere, commands are ones the program takes, the site builds, the tutorial runs."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from fundusnet.config.compose import compose
from fundusnet.config.keys import VERBS
from fundusnet.errors import UserError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "fundusnet/**/*.md", "benchmarks/*.md", "outputs/README.md")
    for page in ROOT.glob(pattern)
)


def commands(page: Path) -> list[str]:
    """The lines of its bash blocks that start the program: continued ones joined, variables filled in, no comments."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
    found: list[str] = []
    values: dict[str, str] = {}
    lines = iter("\n".join(blocks).replace("\\\n", " ").splitlines())
    for line in lines:
        while line.startswith("fundusnet ") and line.partition(" #")[0].count("'") % 2:  # a value of several lines
            line = f"{line} {next(lines)}"
        if assigned := re.fullmatch(r'(\w+)="?([^"]*)"?', line):
            values[assigned[1]] = assigned[2]
        elif line.startswith("fundusnet "):
            line = re.sub(r"\$(\w+)", lambda name: values.get(name[1], name[0]), line)
            found.append(line.partition(" #")[0].strip())
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:|#", target):
            continue
        # The tutorial leads to pages that only the site has.
        if (page.parent / target).resolve().is_relative_to(ROOT / "docs" / "methods"):
            continue
        assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_compose(page: Path) -> None:
    for command in commands(page):
        verb, *words = shlex.split(command)[1:]
        assert verb in VERBS or verb.startswith("-"), command
        if verb.startswith("-") or {"-m", "--config-dir", "--cfg", "--help"} & set(words) or "…" in command:
            continue
        try:
            compose([word for word in words if word != "…"], verb)
        except UserError as error:
            raise AssertionError(f"{command}: {error}") from None


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    cells = json.loads((ROOT / "docs" / "howto" / "first_ten_minutes.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) == 5 and not any(cell.get("outputs") for cell in cells)
    program = tmp_path / "notebook.py"  # without a guard against being imported by worker processes, as in a notebook
    program.write_text("\n".join(code))
    environment = {**os.environ, "MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, program], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("{'hard_exudate': ") == 8  # probability and prediction of four photographs
    assert (tmp_path / "outputs" / "small" / "looked.png").stat().st_size > 10_000
    blocks = [
        block for cell in cells for block in re.findall(r"```python\n(.*?)```", "".join(cell["source"]), re.DOTALL)
    ]
    for words, verb in re.findall(r"compose\((\[[^]]*\])(?:, \"(\w+)\")?\)", "".join(blocks)):
        compose(json.loads(words), verb or "train")


def test_versions_of_the_site_lie_side_by_side(tmp_path: Path) -> None:
    """The newest release comes first and is where the folder leads to; a version can be replaced."""
    publish = runpy.run_path(str(ROOT / "docs" / "publish.py"))["publish"]
    site, sites = tmp_path / "site", tmp_path / "sites"
    site.mkdir()
    for version in ("0.9", "1.0rc1", "main", "0.10", "1.0", "0.10"):
        (site / "index.html").write_text(f"{version}, again" if (sites / version).exists() else version)
        publish(site, sites, version)
    listed = json.loads((sites / "versions.json").read_text())
    assert [each["version"] for each in listed] == ["1.0", "1.0rc1", "0.10", "0.9", "main"]
    assert [each["version"] for each in listed if each["aliases"] == ["latest"]] == ["1.0"]
    assert 'url=1.0/"' in (sites / "index.html").read_text()
    assert (sites / "0.10" / "index.html").read_text() == "0.10, again"


@pytest.mark.slow
def test_the_site_builds_has_versions_and_breaks_on_a_broken_link(tmp_path: Path, browser: Browser) -> None:
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "outputs", "artefacts"))
    build = [Path(sys.executable).parent / "zensical", "build", "--clean", "--strict", "--config-file", "mkdocs.yml"]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    for command in ([sys.executable, "docs/generate.py"], build):
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
    site = copy / "outputs" / "site"
    for page in ("index", "tutorial/index", "methods/findings/index", "reference/python/index", "datasets/csv/index"):
        assert (site / f"{page}.html").is_file()
    words = json.dumps(json.loads((site / "search.json").read_text()))
    assert "guidance_loss" in words and "superotemporal" in words
    reference = (site / "reference" / "python" / "index.html").read_text()
    assert "guidance_loss" in reference
    assert "auto (the first GPU if there is one), cpu, cuda or cuda:1." in reference  # what a parameter is
    for version in ("0.9", "1.0"):
        done = subprocess.run([sys.executable, "docs/publish.py", tmp_path / "sites", version], cwd=copy, check=False)
        assert done.returncode == 0
    _the_selector_leads_to_each_version(tmp_path / "sites", browser)
    with (copy / "outputs" / "pages" / "tutorial.md").open("a") as page:
        page.write("\n[gone](nowhere.md)\n")
    done = subprocess.run(build, cwd=copy, capture_output=True, text=True, env=environment)
    assert done.returncode != 0 and "page does not exist" in done.stderr


def _the_selector_leads_to_each_version(sites: Path, browser: Browser) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(sites))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        tab = browser.new_page()
        tab.goto(f"http://127.0.0.1:{server.server_port}/")
        tab.wait_for_url("**/1.0/")
        choice = tab.locator(".md-version")
        choice.wait_for()
        assert choice.locator("a").all_text_contents() == ["1.0", "0.9"]
        tab.goto(f"http://127.0.0.1:{server.server_port}/1.0/tutorial/")
        tab.locator(".md-version__current").hover(force=True)  # the list opens above it
        tab.locator(".md-version a", has_text="0.9").click()
        tab.wait_for_url("**/0.9/**")
        tab.close()
        server.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_tutorial_runs(tmp_path: Path) -> None:
    found = commands(ROOT / "docs" / "tutorial.md")
    assert len(found) > 5
    for command in found:
        words = [sys.executable, "-m", *shlex.split(command)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ})
        assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
    assert (tmp_path / "outputs" / "report.html").is_file()
    without, guided = (
        json.loads((tmp_path / "outputs" / name / "metrics.json").read_text())["metrics"]["auroc"]["value"]
        for name in ("without", "with")
    )
    assert without < 0.85 and guided > 0.95  # as the page says
    assert len(list((tmp_path / "outputs" / "predictions" / "heatmaps").glob("*.jpg"))) == 400


def test_flags_of_other_programs_exist() -> None:
    """As their own help says; pages name programs whose flags change from version to version."""
    told: dict[str, str] = {}
    for page in PAGES:
        for verb, rest in re.findall(r"\bwandb (sync|sweep|agent)\b([^`\n]*)", page.read_text()):
            for flag in re.findall(r"--[a-z-]+", rest):
                if verb not in told:
                    command = [sys.executable, "-m", "wandb", verb, "--help"]
                    told[verb] = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                assert flag in told[verb], f"{page.name}: wandb {verb} {flag}"
