"""Composition and checks: what is refused names the key and the way out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import fundusnet
from fundusnet.cli.main import main
from fundusnet.config.check import PASSED, check
from fundusnet.config.compose import compose, conf_folder, quoted, readable
from fundusnet.config.keys import TASKS, VERBS
from fundusnet.config.signatures import signature_of
from fundusnet.errors import UserError

NEEDED = {
    "prepare": [],
    "export": ["checkpoint=somewhere"],
    "annotate": ["data.root=somewhere"],
    "evaluate": ["run=somewhere", "data=synthetic"],
    "predict": ["output=somewhere"],
    "report": ["runs=[somewhere]"],
}
EXPERIMENTS = sorted(file.stem for file in (conf_folder() / "experiment").glob("*.yaml"))
MODELS = sorted(file.stem for file in (conf_folder() / "model").glob("*.yaml") if file.stem != "default")


def nodes(cfg: DictConfig, above: str = "") -> Iterator[tuple[str, DictConfig]]:
    yield above, cfg
    for name, node in cfg.items():
        if isinstance(node, DictConfig):
            yield from nodes(node, f"{above}.{name}" if above else str(name))


@pytest.mark.parametrize(
    ("verb", "words"),
    [*NEEDED.items(), ("train", ["experiment=paper_grading_two_stage"]), *(("train", [f"model={m}"]) for m in MODELS)],
)
def test_conf_shows_every_argument_of_our_classes(verb: str, words: list[str]) -> None:
    cfg = compose(words, verb)
    layout = {**VERBS[verb].keys, **(TASKS[cfg.task] if verb == "train" else {})}
    for key, node in nodes(cfg):
        targets = [target for target in layout.get(key, ()) if "config.keys" in target]
        if str(node.get("_target_", "")).startswith("fundusnet."):
            targets.append(node._target_)
        signatures = [signature for target in targets if (signature := signature_of(target))]
        arguments = {name for each in signatures for name in each.types} - PASSED.get(key, set())
        extra = {"params", "optimizer", "epochs", "steps"} if key == "model.schedule" else set()
        assert arguments - extra <= {str(name) for name in node}, key
        assert str(node.get("_target_", "fundusnet.x")).split(".")[0] in (
            "fundusnet", "torch", "albumentations", "pytorch_lightning"
        )  # fmt: skip


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes(experiment: str) -> None:
    cfg = compose([f"experiment={experiment}"])
    assert cfg.run_dir is None
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize(
    "group",
    [
        "data",
        "finding",
        "model",
        "trainer",
        "logger",
        "callbacks",
        "debug",
        "model/loss",
        "model/optimizer",
        "model/schedule",
    ],
)
def test_every_file_of_a_group_composes(group: str) -> None:
    for file in (conf_folder() / group).glob("*.yaml"):
        if (group, file.stem) not in (("data", "default"), ("model", "default")):
            compose([f"{group}={file.stem}", "data.root=somewhere"])


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
        ("data=idird", "unknown data=idird; did you mean idrid?"),
        ("finding=drusn", "did you mean drusen?"),
        ("model.loss.weight=-0.5", "model.loss.weight=-0.5 is not valid: use a value greater than or equal to 0"),
        ("finding.dilations=[1,0]", "finding.dilations=[1, 0] is not valid: use a list or a value greater"),
        ("finding.dilations=[[1,2],[-1]]", "use an integer or a value greater than or equal to 1"),
        ("data.size=500", "use data.size=512"),
        ("finding.names=[drusen,hemorrage]", "unknown finding hemorrage; did you mean hemorrhage?"),
        ("finding.names=[]", "finding.names is empty"),
        ("finding=null", "GuidedCAM needs findings; choose some, such as finding=drusen"),
        ("model.loss.form=lgo", "model.loss.form=lgo is not valid: use log or bce"),
        ("model.optimizer.lr=0", "model.optimizer.lr=0 is not valid: use a value greater than 0"),
        ("data=csv", "data.root is not given"),
        ("data.source=idird", "unknown data.source=idird; did you mean idrid?"),
        ("data.num_workers=-1", "data.num_workers=-1 is not valid: use a value greater than or equal to 0"),
        ("data.batch_size=true", "data.batch_size=True is not valid: use an integer"),
        ("data.fractions=[0.8,0.2]", "data.fractions=[0.8, 0.2] is not valid: use a list of 3 values"),
        ("data.fractions=[0,0.5,0.5]", "are not shares of train, val and test"),
        ("data.augment.warp.rotate=far", "data.augment.warp.rotate=far is not valid: use a number"),
        ("data.augment_on=gpu", "data.augment_on=gpu is not valid: use cpu or device"),
        ("data.augment.warp=far", "data.augment.warp=far is not valid: use null, or a _target_"),
        ("trainer=null", "trainer=null is not valid: train needs it; choose a file of trainer, or set single keys"),
        ("data=7", "unknown data=7; valid names: airogs, aptos"),
        ("evaluation=false", "unknown evaluation=false; valid names: default"),
        (
            "+data.augment.blur={_target_:albumentations.GaussianBlur,sigma:3}",
            "did you mean data.augment.blur.sigma_limit",
        ),
        ("trainer.deterministic=3", "trainer.deterministic=3 is not valid: use true or false or warn"),
        (
            "+trainer.limit_train_batches=few",
            "limit_train_batches=few is not valid: use an integer or a number",
        ),
        ("+trainer.limit_train_batch=3", "did you mean trainer.limit_train_batches?"),
        ("+trainer.logger=true", "unknown key trainer.logger"),
        ("callbacks.pictures.cuont=3", "unknown key callbacks.pictures.cuont; did you mean callbacks.pictures.count?"),
        (
            "+callbacks.own._target_=nowhere.Own",
            "callbacks.own._target_=nowhere.Own cannot be imported",
        ),
        (
            "model.optimizer._target_=torch.optim.Nope",
            "module 'torch.optim' has no attribute 'Nope'",
        ),
        ("finding.names=[drusen,drusen]", "finding.names lists drusen twice"),
        ("seed=[1", "seed=[1 is not valid: use an integer"),
        ("seed=0,1", "seed=0,1 is not valid: use an integer; to train with each of several values add -m"),
        ("seed=range(0,3)", "to train with each of several values add -m"),
        ("trainer.monitor=val/los", "trainer.monitor=val/los is not logged; did you mean val/loss?"),
        (
            "+callbacks.own._target_=collections.Counter trainer.monitor=val/f1",
            "say with trainer.mode=max or min whether",
        ),
        (
            "experiment=grading_ranking data=synthetic trainer.monitor=val/auroc",
            "is not logged; did you mean val/accuracy",
        ),
        (
            "data.size=32 model.network.reductions=5 data.batch_size=1",
            "leaves one cell, and data.batch_size=1 one image, which batch normalisation cannot normalise",
        ),
        (
            "experiment=grading data=keh data.root=. data.size=64 model.network.shrink=[1,65]",
            "model.network.shrink=[1, 65] leaves nothing of data.size=64; use smaller factors",
        ),
        (
            "experiment=grading_two_stage data=keh data.root=. model.stage1.network.shrink=[400]",
            "model.stage1.network.shrink=[400] leaves nothing of data.size=384",
        ),
        (
            "experiment=landmarks data=csv data.root=. data.size=64 model.network.shrink=65",
            "model.network.shrink=65 leaves nothing of data.size=64",
        ),
        ("finding.names=drusen", "finding.names=drusen is not valid: use a list, such as finding.names=[drusen]"),
        ("data=[idrid,keh]", "data=[idrid,keh] names several sources; train on one"),
        ("model=guided,inception", "model=guided,inception names several; to train each of them add -m"),
        # Keys that no code would read.
        ("data.fold=3", "data.fold=3 needs data.folds"),
        ("model=inception model.network.width=999", "model.network.width is a key of model=guided"),
        ("model=guided model.network.weights=nowhere.pth", "model.network.weights is a key of model=guided_timm"),
        ("experiment=paper_grading_two_stage data.present=3", "data.present is not used by task=grading; leave it out"),
        (
            "experiment=paper_grading_two_stage evaluation.operating_point=test",
            "operating_point is not used by task=grading",
        ),
        ("experiment=paper_grading_two_stage finding=drusen", "finding is not used by task=grading; leave it out"),
        ("experiment=paper_grading_two_stage model.loss.weight=1", "model.loss.weight is a key of"),
        # Keys of version 0.1.0.
        ("trainer.gradient_clip=1", "trainer.gradient_clip is now trainer.gradient_clip_val"),
        ("data.augment.hflip=false", "data.augment.hflip is now data.augment.warp.hflip"),
        ("model.optimizer.name=adamw", "model.optimizer.name is now chosen by model/optimizer=sgd, adamw or rmsprop"),
        ("experiment=paper_grading_two_stage model.balance=inverse", "model.balance is now model.loss.balance"),
    ],
)
def test_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        compose(override.split() if " " in override else [override])
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("size", "reductions"), [(512, 5), (96, 5), (500, 2), (128, 3)])
def test_divisible_sizes_pass(size: int, reductions: int) -> None:
    compose([f"data.size={size}", f"model.network.reductions={reductions}"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=ranking", "task=findings"], "task=findings does not fit the model, which is for grading"),
        (["model=ranking", "finding=drusen"], "finding is not used by task=grading; leave it out"),
        (
            ["experiment=paper_grading_ranking", "model.stage1.folds=5"],
            "model.stage1.folds is a key of model=two_stage",
        ),
        (["experiment=paper_grading_ranking", "+model.stage1.fods=5"], "did you mean model.stage1.folds?"),
        (["experiment=paper_grading_two_stage", "model.head=corl"], "use ranking, multiclass, coral or corn"),
        (
            ["experiment=paper_grading_two_stage", "model.mask.kind=true"],
            "model.mask.kind=True is not valid: use predicted",
        ),
        (
            ["experiment=paper_grading_two_stage", "model.mask.floor=2"],
            "model.mask.floor=2 is not valid: use a value less than",
        ),
        (
            ["experiment=paper_grading_two_stage", "model.stage1.folds=0"],
            "model.stage1.folds=0 is not valid: use a value greater than",
        ),
    ],
)
def test_each_task_has_its_own_keys_and_words(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as refused:
        compose(overrides)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("words", [["model=ranking"], ["model=two_stage"], ["model=ranking", "finding=null"]])
def test_the_model_alone_makes_a_grading_run(words: list[str]) -> None:
    cfg = compose(words)
    assert cfg.task == "grading" and "finding" not in cfg and "present" not in cfg.data


def test_prepare_refuses_what_only_training_reads() -> None:
    with pytest.raises(UserError, match="unknown key seed"):
        compose(["seed=5"], "prepare")
    with pytest.raises(UserError, match=r"data\.present is not used by fundusnet prepare"):
        compose(["data.present=3"], "prepare")


def test_arguments_of_lightnings_trainer_pass() -> None:
    cfg = compose(
        ["+trainer.limit_train_batches=0.5", "+trainer.accumulate_grad_batches=4", "+trainer.profiler=simple"]
    )
    assert cfg.trainer.limit_train_batches == 0.5 and cfg.trainer.accumulate_grad_batches == 4


def test_several_loggers_at_once() -> None:
    assert set(compose(["logger=[csv,wandb]"]).logger) == {"csv", "wandb"}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_our_experiments_set_only_keys_that_are_read(experiment: str) -> None:
    def all_keys(cfg: DictConfig) -> set[str]:
        return {f"{key}.{name}" if key else str(name) for key, node in nodes(cfg) for name in node}

    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        whole = hydra_compose("train", [f"experiment={experiment}"])
    dropped = all_keys(whole) - all_keys(compose([f"experiment={experiment}"]))
    of_findings = {"finding", "data.cue", "data.present", "evaluation.operating_point", "evaluation.maps"}
    assert {key for key in dropped if not key.startswith("finding.")} <= of_findings
    assert not dropped or whole.model.task != "findings"


@pytest.mark.parametrize("file", ["experiment/own.yaml", "model/own.yaml", "data/own.yaml", "finding/own.yaml"])
def test_a_misspelt_key_in_a_file_of_the_users_own_is_refused(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = {
        "experiment": "# @package _global_\nmodel:\n  network:\n    widht: 3\n",
        "model": "defaults: [guided, _self_]\nnetwork:\n  widht: 3\n",
        "data": "defaults: [synthetic, _self_]\nbatch: 3\n",
        "finding": "names: [drusen]\ndilations: [1]\npool: 1\npol: 3\n",
    }
    group = file.partition("/")[0]
    (tmp_path / group).mkdir()
    (tmp_path / file).write_text(text[group])
    assert main(["train", "--config-dir", str(tmp_path), f"{group}=own"]) == 2
    assert "; did you mean " in capsys.readouterr().err


def test_options_of_a_source_are_free() -> None:
    assert compose(["+data.options.anything=1"]).data.options.anything == 1


def test_a_users_finding_file_names_a_new_finding(tmp_path: Path) -> None:
    cfg = compose()
    cfg.finding.names = ["laser_scar"]
    with pytest.raises(UserError, match="laser_scar"):
        check(cfg)
    (tmp_path / "finding").mkdir()
    (tmp_path / "finding" / "laser_scar.yaml").write_text("names: [laser_scar]\ndilations: [1]\npool: 1\n")
    check(cfg, own_folders=[tmp_path])


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
        ("trainer.lr=choice(1,2)", 'trainer.lr="choice(1,2)"'),
        ("run=sweep/weight=0_seed=1", 'run="sweep/weight=0_seed=1"'),
        ("input=eyes (2)", 'input="eyes (2)"'),
        ("name=guided (λ = 1, bce)", 'name="guided (λ = 1, bce)"'),
        ("runs=[sweep/seed=0,other]", 'runs=["sweep/seed=0",other]'),
        ("runs=['sweep/seed=0']", "runs=['sweep/seed=0']"),
        ("input=a,b", 'input="a,b"'),
        ("input=Anna's", 'input="Anna\'s"'),
        ('input=the "new" ones', 'input="the \\"new\\" ones"'),
        ("input=a[1] {b}\\", 'input="a[1] {b}\\\\"'),
        ("runs=[it's,b[1]]", 'runs=["it\'s","b[1]"]'),
        ("finding.dilations=[1,2", 'finding.dilations="[1,2"'),
        ("seed", "seed"),
        ("seed=", "seed="),
        ("~sweep", "~sweep"),
    ],
)
def test_names_of_folders_need_no_quotes(typed: str, read: str) -> None:
    assert quoted(typed) == read


def test_several_values_are_left_to_a_sweep() -> None:
    for typed in ("seed=0,1", "trainer.lr=choice(1,2)", "seed=range(0,3)"):
        assert quoted(typed, sweep=True) == typed


@pytest.mark.parametrize(
    "name",
    [
        *(
            "2024",
            "2024_01",
            "00123",
            "1e5",
            "0x1f",
            "true",
            "null-2",
            "None",
            "[2024]",
            "{a}",
            "{a: 1}",
            "a,b",
            "Anna's",
        ),
        *('the "new" ones', "a[1]", "C:\\eyes\\", "-5", "1.50", "inf", "nan", "year=2024", "a b", "Ärzte/ß", "1_000.0"),
    ],
)
def test_names_and_paths_are_what_was_typed(name: str) -> None:
    assert compose([f"input={name}", f"output={name}", "checkpoint=x"], "predict").input == name
    assert compose([f"run={name}"], "evaluate").run == name
    assert compose([f"runs={name}"], "report").runs in (name, ["2024"])  # brackets make a list there
    train = compose([*["experiment=quickstart"], f"name={name}", f"run_dir={name}", f"data.root={name}"])
    assert (train.name, train.run_dir, train.data.root) == (name, name, name)


def test_lists_of_names_are_what_was_typed() -> None:
    assert compose(["runs=[2024,2025_01,true]"], "report").runs == ["2024", "2025_01", "true"]
    cfg = compose(["data=folder", "data.root=x", "data.options.classes=[0,1,02,false]"], "prepare")
    assert cfg.data.options.classes == ["0", "1", "02", "false"]
    cfg = compose(["data=idrid", "data.root=x", "annotators=[7,08]"], "annotate")
    assert cfg.annotators == ["7", "08"]


def test_other_values_keep_their_type() -> None:
    cfg = compose(["checkpoint=x", "input=null", "device=[0,1]", "merge=y", "output=z"], "predict")
    assert cfg.input is None and cfg.device == [0, 1]
    cfg = compose(["data=diaretdb1", "data.root=x", "data.options.confidence=1"], "prepare")
    assert cfg.data.options.confidence == 1


def test_a_folder_of_a_sweep_is_taken_as_it_is_typed() -> None:
    cfg = compose(["run=outputs/model.loss.weight=0_seed=1", "output=eyes (2)"], verb="evaluate")
    assert cfg.run == "outputs/model.loss.weight=0_seed=1" and cfg.output == "eyes (2)"


def test_options_of_another_source_are_left_out_unless_given() -> None:
    cfg = compose(["experiment=quickstart", "data=csv", "data.root=x"])
    assert dict(cfg.data.options) == {"classes": []}
    assert "images" in compose(["experiment=quickstart"]).data.options


def test_formats_are_a_list() -> None:
    with pytest.raises(UserError, match=r"formats=onnx is not valid: use a list, such as formats=\[onnx\]"):
        compose(["checkpoint=x", "formats=onnx"], "export")


def test_a_sweep_over_names_keeps_each_as_it_was_typed() -> None:
    assert readable(["data.root=2024_01,2025,eyes", "seed=0,1"], "train", sweep=True) == [
        'data.root="2024_01","2025",eyes',
        "seed=0,1",
    ]
    assert readable(["name=2024_01", "run_dir=null", "seed=1_0"], "train") == [
        'name="2024_01"',
        "run_dir=null",
        "seed=1_0",
    ]


@pytest.mark.parametrize("value", ["true", "null"])
def test_a_value_in_place_of_a_group_of_keys_is_refused(value: str) -> None:
    words = ["checkpoint=x", "input=y", "output=z"]
    for group, keys in (("report", "report.pictures or report.size"), ("heatmaps", "heatmaps.draw or heatmaps.scale")):
        with pytest.raises(UserError, match=rf"{group}={value} is not valid: {group} has keys of its own; set {keys}"):
            compose([*words, f"{group}={value}"], "predict")


@pytest.mark.parametrize("word", ["trainer=null", "data=[idrid,csv]", "data=7"])
def test_what_is_refused_before_composing_is_one_line(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "experiment=quickstart", word]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and word.partition("=")[0] in error and "Traceback" not in error
