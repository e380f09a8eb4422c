"""Composition and checks: what is refused names the key and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

import fundusnet
from fundusnet.cli.main import main
from fundusnet.config.compose import check, compose, conf_folder, quoted
from fundusnet.config.schema import SCHEMAS, schema_of
from fundusnet.errors import UserError

NEEDED = {
    "export": ["checkpoint=somewhere"],
    "annotate": ["data.root=somewhere"],
    "evaluate": ["run=somewhere", "data=synthetic"],
    "predict": ["output=somewhere"],
    "report": ["runs=[somewhere]"],
}
GRADING = {("model", "ranking"), ("model", "two_stage")}
EXPERIMENTS = sorted(file.stem for file in (conf_folder() / "experiment").glob("*.yaml"))


def keys(cfg: DictConfig, above: str = "") -> set[str]:
    found = set()
    for name in cfg:
        node = cfg._get_node(name)
        found.add(f"{above}{name}")
        if isinstance(node, DictConfig) and not node._is_missing() and f"{above}{name}" != "data.options":
            found |= keys(node, f"{above}{name}.")
    return found


@pytest.mark.parametrize("verb", list(SCHEMAS))
def test_schema_holds_exactly_the_keys_of_conf(verb: str) -> None:
    assert keys(compose(NEEDED.get(verb, []), verb)) == keys(OmegaConf.structured(SCHEMAS[verb]))


def test_schema_of_grading_holds_exactly_the_keys_of_conf() -> None:
    assert keys(compose(["experiment=grading"])) == keys(OmegaConf.structured(schema_of("train", "grading")))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes(experiment: str) -> None:
    cfg = compose([f"experiment={experiment}"])
    assert cfg.run_dir is None
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("group", ["data", "finding", "model"])
def test_every_file_of_a_group_composes(group: str) -> None:
    for file in (conf_folder() / group).glob("*.yaml"):
        if file.stem != "default":
            task = ["task=grading", "~finding"] if (group, file.stem) in GRADING else []
            compose([f"{group}={file.stem}", "data.root=somewhere", *task])


def test_a_value_of_a_group_reaches_the_network() -> None:
    cfg = compose(["finding=membrane"])
    assert list(cfg.model.network.dilations) == [1, 2, 4, 8]
    assert cfg.model.network.pool == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sead=1", "unknown key sead; did you mean seed?"),
        ("model.loss.wieght=1", "unknown key model.loss.wieght; did you mean model.loss.weight?"),
        ("+model.loss.lambda_weight=1", "did you mean model.loss.weight?"),
        ("+lr=1", "did you mean model.optimizer.lr?"),
        ("data=idird", "data=idird is unknown; did you mean idrid?"),
        ("finding=drusn", "did you mean drusen?"),
        ("model.loss.weight=-0.5", "model.loss.weight=-0.5 is too small"),
        ("finding.dilations=[1,0]", "a dilation is 1 or more"),
        ("finding.dilations=[[1,2],[-1]]", "a dilation is 1 or more"),
        ("data.size=500", "use data.size=512"),
        ("finding.names=[drusen,hemorrage]", "unknown finding hemorrage; did you mean hemorrhage?"),
        ("finding.names=[]", "finding.names is empty"),
        ("model.loss.form=lgo", "model.loss.form=lgo is unknown; use log or bce"),
        ("model.optimizer.lr=fast", "model.optimizer.lr: Value 'fast'"),
        ("data=csv", "data.root is not given"),
        ("data.source=idird", "data.source=idird is unknown; did you mean idrid?"),
        ("data.num_workers=-1", "data.num_workers=-1 is too small; use 0 or more"),
        ("data.fractions=[0.8,0.2]", "no shares of train, val and test"),
        ("data.fractions=[0,0.5,0.5]", "no shares of train, val and test"),
        ("data.augment.scale=[1.1,0.9]", "data.augment.scale=[1.1, 0.9] is no range"),
        ("data.augment.scale=[1]", "is no range of factors"),
        ("data.augment.shear=90", "data.augment.shear=90 is outside 0 to 89"),
        ("finding.names=[drusen,drusen]", "finding.names holds drusen twice"),
        ("seed=[1", "seed=[1 is no override"),
    ],
)
def test_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        compose([override])
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("size", "reductions"), [(512, 5), (96, 5), (500, 2), (128, 3)])
def test_divisible_sizes_pass(size: int, reductions: int) -> None:
    compose([f"data.size={size}", f"model.network.reductions={reductions}"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=ranking"], "model.head belongs to task=grading, and this is task=findings; choose an experiment"),
        (["experiment=grading", "finding=drusen"], "finding belongs to task=findings, and this is task=grading"),
        (["experiment=grading", "model.loss.weight=1"], "model.loss.weight is no key of this experiment"),
        (["experiment=grading_ranking", "model.stage1.folds=5"], "model.stage1.folds is no key of this experiment"),
        (
            ["experiment=grading_ranking", "+model.stage1.folds=5"],
            "model.stage1.checkpoint is not given; choose the model",
        ),
        (["experiment=grading", "model.head=corl"], "use ranking or multiclass or coral or corn"),
        (["experiment=grading", "model.mask.kind=true"], "model.mask.kind=True is unknown; use predicted"),
        (["experiment=grading", "model.stage1.folds=0"], "model.stage1.folds=0 is too small; use 1 or more"),
        (["model.optimizer.name=rmsprop"], "model.optimizer.name=rmsprop is unknown; use sgd or adamw"),
    ],
)
def test_each_task_has_its_own_keys_and_words(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as refused:
        compose(overrides)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_options_of_a_source_are_free() -> None:
    assert compose(["+data.options.anything=1"]).data.options.anything == 1


def test_a_users_finding_file_names_a_new_finding(tmp_path: Path) -> None:
    cfg = compose()
    cfg.finding.names = ["laser_scar"]
    with pytest.raises(UserError, match="laser_scar"):
        check(cfg)
    (tmp_path / "finding").mkdir()
    (tmp_path / "finding" / "laser_scar.yaml").write_text("names: [laser_scar]\ndilations: [1]\npool: 1\n")
    check(cfg, folders=[tmp_path])


def test_an_experiment_file_without_its_package_line_is_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("seed: 3\n")
    assert main(["train", "--config-dir", str(tmp_path), "experiment=mine"]) == 2
    assert "'# @package _global_'; write it at the top" in capsys.readouterr().err


def test_lazy_name_is_the_function_each_time() -> None:
    assert fundusnet.compose is compose
    assert fundusnet.compose is compose
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        fundusnet.tarin  # noqa: B018


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("seed=1", "seed=1"),
        ("trainer.lr=choice(1,2)", "trainer.lr=choice(1,2)"),
        ("run=sweep/weight=0_seed=1", 'run="sweep/weight=0_seed=1"'),
        ("input=eyes (2)", 'input="eyes (2)"'),
        ("name=guided (λ = 1, bce)", 'name="guided (λ = 1, bce)"'),
        ("runs=[sweep/seed=0,other]", 'runs=["sweep/seed=0",other]'),
        ("runs=['sweep/seed=0']", "runs=['sweep/seed=0']"),
        ("finding.dilations=[1,2", "finding.dilations=[1,2"),
        ("seed", "seed"),
        ("seed=", "seed="),
        ("~sweep", "~sweep"),
    ],
)
def test_names_of_folders_need_no_quotes(typed: str, read: str) -> None:
    assert quoted(typed) == read


def test_a_folder_of_a_sweep_is_taken_as_it_is_typed() -> None:
    cfg = compose(["run=outputs/model.loss.weight=0_seed=1", "output=eyes (2)"], verb="evaluate")
    assert cfg.run == "outputs/model.loss.weight=0_seed=1" and cfg.output == "eyes (2)"
