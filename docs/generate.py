"""Gathers the pages of the site: of docs/, README and methods, and those made from conf/, code and a notebook."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from posixpath import normpath

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "outputs" / "pages"
COPIED = {
    "README.md": "index.md",
    "fundusnet/findings/README.md": "methods/findings.md",
    "fundusnet/grading/README.md": "methods/grading.md",
    "fundusnet/landmarks/README.md": "methods/landmarks.md",
    "fundusnet/landmarks/MODEL_CARD.md": "methods/localizer.md",
    "benchmarks/README.md": "reference/annotation-benchmarks.md",
}
PICTURES = ("fundusnet/findings/method.png", "fundusnet/grading/method.png")
API = {
    "Verbs": [
        "fundusnet.train", "fundusnet.evaluate", "fundusnet.predict", "fundusnet.report", "fundusnet.export",
        "fundusnet.init", "fundusnet.prepare", "fundusnet.compose",
    ],
    "A trained network": ["fundusnet.load", "fundusnet.prediction.predictor.Predictor"],
    "Data": [
        "fundusnet.data.regions.region_map", "fundusnet.data.regions.cue_mask", "fundusnet.data.consensus.consensus",
        "fundusnet.data.datamodule.FundusDataModule",
    ],
    "Findings": [
        "fundusnet.findings.network.GuidedCAM", "fundusnet.findings.loss.guidance_loss",
        "fundusnet.findings.module.GuidedModule", "fundusnet.findings.metrics.activation_in_regions",
        "fundusnet.findings.datamodule.FindingsDataModule",
    ],
    "Grading": [
        "fundusnet.grading.ranking.grade_from_probabilities", "fundusnet.grading.ranking.rank_violations",
        "fundusnet.grading.cam.class_activation_maps", "fundusnet.grading.cam.grade_mask",
        "fundusnet.grading.stage.RankingStage", "fundusnet.grading.two_stage.TwoStage",
        "fundusnet.grading.datamodule.GradingDataModule",
    ],
    "Evaluation": [
        "fundusnet.evaluation.operating_point", "fundusnet.evaluation.intervals.bootstrap",
        "fundusnet.evaluation.intervals.pooled",
    ],
}  # fmt: skip


def target_of(link: str, page: Path) -> str | None:
    """The path on the site of a link in the file ``page`` of the checkout; None if the site does not have it."""
    path = normpath(page.parent / link.partition("#")[0])
    if path in COPIED:
        return COPIED[path]
    if path in PICTURES:
        return f"methods/{path.split('/')[1]}.png"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return None


def rewrite_links(text: str, page: Path, place: str) -> str:
    """Markdown of ``page`` with its relative links changed for ``place``, its path on the site."""

    def link(found: re.Match[str]) -> str:
        if re.match(r"[a-z]+:|#", found[2]):
            return found[0]
        target = target_of(found[2], page)
        if target is None:  # a file of the checkout only
            return found[1].strip("![]")
        _, hash_sign, anchor = found[2].partition("#")
        return f"{found[1]}({'../' * place.count('/')}{target}{hash_sign}{anchor})"

    return re.sub(r"(\[[^\]]*\])\(([^)\s]+)\)", link, text)


def configuration() -> str:
    """Every file of ``conf/`` by group, with its comments."""
    lines = [
        "# Configuration", "", "The files of `conf/`. `fundusnet VERB --cfg job` shows the configuration of a command;",
        "`key=value` changes a value, `group=name` chooses a file.", "",
    ]  # fmt: skip
    conf = ROOT / "conf"
    folders = [conf, *sorted(folder for folder in conf.rglob("*") if folder.is_dir())]
    for folder in folders:
        lines += [f"## {'Verbs' if folder == conf else folder.relative_to(conf)}", ""]
        for file in sorted(folder.glob("*.yaml")):
            lines += [f"### {file.relative_to(conf)}", "", "```yaml", file.read_text().rstrip(), "```", ""]
    return "\n".join(lines)


def python() -> str:
    """The public names, for mkdocstrings."""
    lines = ["# Python", ""]
    for title, names in API.items():
        lines += [f"## {title}", ""]
        for name in names:
            lines += [f"::: {name}", ""]
    return "\n".join(lines)


def notebook(file: Path) -> str:
    """The cells of a notebook as a page."""
    cells = json.loads(file.read_text())["cells"]
    texts = [("".join(cell["source"]), cell["cell_type"]) for cell in cells]
    return "\n\n".join(f"```python\n{text}\n```" if kind == "code" else text for text, kind in texts) + "\n"


def main() -> None:
    """Write all pages and pictures of the site to ``outputs/pages``."""
    shutil.rmtree(TARGET, ignore_errors=True)
    shutil.copytree(ROOT / "docs", TARGET, ignore=shutil.ignore_patterns("*.py", "*.ipynb", "*.md", "figures"))
    # Pages of docs/ too: they may link to files outside of it.
    pages = {str(page.relative_to(ROOT)): str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")}
    texts = {
        place: rewrite_links((ROOT / source).read_text(), Path(source), place)
        for source, place in {**COPIED, **pages}.items()
    }
    texts["reference/configuration.md"] = configuration()
    texts["reference/python.md"] = python()
    texts["howto/first_ten_minutes.md"] = notebook(ROOT / "docs" / "howto" / "first_ten_minutes.ipynb")
    for place, text in texts.items():
        file = TARGET / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    for picture in PICTURES:
        shutil.copy(ROOT / picture, TARGET / "methods" / f"{picture.split('/')[1]}.png")


if __name__ == "__main__":
    main()
