"""Run the benchmarks and write what they measured: ``python -m benchmarks [NAME …]``, or ``make bench [ONLY=NAME]``.

Each is a process of its own. Its figures replace the ones it had in ``docs/benchmarks.json``, from which
``docs/benchmarks.md`` is written. Nothing fails for a time.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measuring import Figure

NAMES = (
    *("training_step", "precision", "frozen", "fusing", "epochs", "pipeline", "region_map", "prepare"),
    *("localizer", "two_stage", "cam_masks", "bootstrap", "predict", "startup", "growth"),
)
HERE = Path(__file__).parent
PAGE, DATA = (HERE.parent / "docs" / name for name in ("benchmarks.md", "benchmarks.json"))
Results = dict[str, dict[str, Any]]


def main(names: list[str]) -> int:
    """Run these benchmarks, or all; returns how many could not be run."""
    if unknown := set(names) - set(NAMES):
        print(f"unknown benchmark {', '.join(sorted(unknown))}; choose from {', '.join(NAMES)}")
        return 2
    results: Results = json.loads(DATA.read_text(encoding="utf-8")) if DATA.is_file() else {}
    failed = 0
    for name in names or NAMES:
        start = time.monotonic()
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        answer = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=HERE.parent, check=False)
        if answer.returncode:
            print(f"{name} failed:\n{answer.stderr}", file=sys.stderr)
            failed += 1
            continue
        figures = [json.loads(line) for line in answer.stdout.splitlines() if line.startswith("{")]
        results[name] = {"figures": figures, "minutes": (time.monotonic() - start) / 60, "on": _machine()}
        print(f"{name}: {results[name]['minutes']:.1f} min", flush=True)
        DATA.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        PAGE.write_text(page(results), encoding="utf-8")
    return failed


def page(results: Results) -> str:
    """The page about these results."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`, from one run of each benchmark (`make bench ONLY=NAME`). Ours and its rival take",
        "turns in one process, on one thread, and are compared in processor time: ratios hold on other machines and",
        "under load, seconds do not. Medians, with the quartiles of the rounds in brackets where there were several.",
    ]
    for name in [each for each in NAMES if each in results]:
        found = results[name]
        lines += ["", f"## {name}", "", _introduction(name), ""]
        lines += ["| what | against | measured | | goal |", "|---|---|---|---|---|"]
        figures = [Figure(**figure) for figure in found["figures"]]
        lines += [_row(figure) for figure in figures]
        missed = [figure for figure in figures if figure.reached is False]
        lines += ["", *(f"- Missed: *{f.what}* by {_shortfall(f)}. Reason: {f.miss or 'not known'}." for f in missed)]
        lines += ["", f"*{found['on']}; {found['minutes']:.1f} minutes.*"]
    text = "\n".join(lines) + "\n"
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


def _introduction(name: str) -> str:
    text = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))) or ""
    return text.replace("``", "`")


def _row(figure: Figure) -> str:
    spread = f" ({figure.low:.3g} to {figure.high:.3g})" if figure.low != figure.high else ""
    goal = "" if figure.goal is None else f"{'at most' if figure.limit else 'at least'} {figure.goal:g}{figure.unit}"
    mark = {True: "reached", False: "**missed**", None: ""}[figure.reached]
    measured = f"{figure.value:.3g}{figure.unit}{spread}"
    return f"| {figure.what} | {figure.against} | {measured} | {figure.detail} | {goal} {mark} |"


def _shortfall(figure: Figure) -> str:
    assert figure.goal is not None
    return f"{100 * abs(figure.value - figure.goal) / figure.goal:.0f} %"


def _machine() -> str:
    cpu = Path("/proc/cpuinfo")
    model = platform.machine()
    if cpu.is_file():
        named = [line for line in cpu.read_text().splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    load = f"load {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores"
    return f"{date.today()}, {model}, {load}, Python {platform.python_version()}, torch {version('torch')}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
