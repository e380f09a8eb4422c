"""What surrounds the code: the workflow's rights and pins, the container, the forms for issues."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())
STEPS = [(name, step) for name, job in WORKFLOW["jobs"].items() for step in job["steps"]]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_jobs_may_only_read_and_end() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    for name, job in WORKFLOW["jobs"].items():
        assert "permissions" not in job and 0 < job["timeout-minutes"] <= 90, name
    for name, step in STEPS:
        if "checkout" in step.get("uses", ""):
            assert step["with"] == {"persist-credentials": False}, name
        # Text of whoever opens a pull request must not become a command.
        assert "${{ github." not in step.get("run", ""), name


def test_actions_are_pinned_by_commit() -> None:
    for name, step in STEPS:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step.get("uses", f"actions/x@{'0' * 40}")), name


def test_every_supported_python_is_tested() -> None:
    claimed = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert WORKFLOW["jobs"]["tests"]["strategy"]["matrix"]["python"] == claimed


def test_what_is_installed_at_its_lowest_version_has_a_lower_bound() -> None:
    steps = [str(step.get("run", "")) for step in WORKFLOW["jobs"]["lowest"]["steps"]]
    words = shlex.split(next(step for step in steps if "--resolution lowest-direct" in step))
    named = words[words.index("--editable") + 2 :]
    assert named and all(">=" in word for word in named), named


def test_make_has_what_the_workflow_calls() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    matrix = WORKFLOW["jobs"]["tests"]["strategy"]["matrix"]
    called = {*matrix["target"], *(each["target"] for each in matrix["include"])}
    called |= {word for _, step in STEPS for word in re.findall(r"^make ([a-z-]+)$", step.get("run", ""))}
    assert {"lint", "docs", "test", "test-slow"} <= called <= targets


def test_the_container_gets_all_that_the_package_is_built_from_and_no_data() -> None:
    text = (ROOT / "Containerfile").read_text()
    copied = {word for line in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.MULTILINE) for word in line.split()}
    allowed = {line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == allowed and all((ROOT / name).exists() for name in copied)
    assert (ROOT / ".containerignore").read_text().splitlines()[0] == "*"
    assert (ROOT / ".dockerignore").resolve() == (ROOT / ".containerignore").resolve()
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE) and "pip" not in last
    extras = re.search(r"^ARG EXTRAS=(.*)$", text, re.MULTILINE)
    assert extras and set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


def test_forms_for_issues_are_complete() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 4
    for form in forms:
        content = yaml.safe_load(form.read_text())
        if form.name != "config.yml":
            assert content["name"] and content["description"], form.name
            ids = [part["id"] for part in content["body"] if part["type"] != "markdown"]
            assert len(ids) == len(set(ids)) > 0, form.name


def test_the_packages_for_tests_are_listed_once() -> None:
    listed = subprocess.run([ROOT / ".ci" / "packages"], capture_output=True, text=True, check=True).stdout.split()
    assert listed == ["chromium", "postgresql", "dcmtk"]
    assert "$(.ci/packages)" in (ROOT / ".ci" / "run").read_text()
