"""The command line: one line an error, exit codes, and an instant ``--help``."""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

import pytest
from PIL import Image

from fundusnet.cli.main import main
from fundusnet.commands.report import find_runs
from fundusnet.config.compose import compose
from fundusnet.config.keys import TRAINING, VERBS
from fundusnet.config.signatures import signature_of
from fundusnet.errors import UserError
from fundusnet.runs.folder import Interrupted

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each command starts in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The single line of standard error of a command that the user has to put right."""
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("fundusnet: ")
    return lines[0]


def test_help_lists_every_verb_at_once() -> None:
    listing = "import sys; from fundusnet.cli.main import main; main(['--help']); print(*sys.modules)"
    seconds = []
    for _ in range(3):  # processor time, and the best of three: a busy machine is not what is measured
        before = getrusage(RUSAGE_CHILDREN)
        answer = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True, cwd=ROOT)
        after = getrusage(RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    help_text, _, modules = answer.stdout.rstrip().rpartition("\n")
    assert all(f"  {verb} " in help_text for verb in VERBS)
    assert not {"torch", "hydra", "omegaconf", "numpy", "pandas"} & set(modules.split())
    assert min(seconds) < 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "experiment=findings", "data=csv", "data.root=nowhere"], "found no such folder"),
        (["train", "experiment=grading", "data=keh", "data.root=."], None),  # what is in it is found out later
        (["evaluate", "run=nowhere"], "run=nowhere is not a run folder"),
    ],
)
def test_missing_folders_are_reported_before_torch_is_imported(
    words: list[str], message: str | None, tmp_path: Path
) -> None:
    listing = f"import sys; from fundusnet.cli.main import main; main({words!r}); print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert (message or "source=keh expects") in answer.stderr
    assert answer.stdout.split()[-1] == str(message is None)


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_explains_its_keys(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert main([verb, "seed=1", "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"fundusnet {verb}") and "hydra" not in told.lower() and "defaults:" not in told
    title, says, *examples, empty = told.splitlines()[:5]
    assert says == "For example:" and empty == "" and title.startswith(f"fundusnet {verb}")
    for example in examples:
        program, named, *words = example.split()
        assert (program, named) == ("fundusnet", verb)
        compose(words, verb)
    signature = signature_of(VERBS[verb].keys[""][0])
    assert signature is not None
    groups = {"data", "finding", "model", "trainer", "callbacks", "evaluation", "logger"}  # chosen by name
    assert all(f"\n{key}:" in told for key in signature.types if key not in groups)
    assert ("\n  data             airogs, aptos" in told) == ("data" in signature.types)
    assert ("\n  model/optimizer  adamw, fine_tuning, rmsprop" in told) == (verb in TRAINING)


def test_a_command_leaves_the_process_as_it_found_it(elsewhere: Path) -> None:
    def state() -> list[object]:
        loggers = [logging.getLogger(name) for name in ("", "fundusnet", "pytorch_lightning", "torch.onnx")]
        levels = [(logger.level, list(logger.handlers)) for logger in loggers]
        return [levels, multiprocessing.get_start_method(allow_none=True), dict(vars(sys.modules["__main__"]))]

    before = state()
    assert main(["prepare", "data.options.images=4", "data.size=32", "data.options.size=64", "data.workers=1"]) == 0
    assert state() == before


def test_no_verb_is_an_error_and_help_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.count("usage: fundusnet VERB") == 2


def test_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, "trian") == "fundusnet: unknown verb trian; did you mean train?"
    assert "prepare, train, evaluate, predict, export, report" in refusal(capsys, "xyzzy")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "sead=1"], "did you mean seed?"),
        (["train", "data=idird"], "unknown data=idird; did you mean idrid? Valid names: airogs, aptos,"),
        (["predict", "data=idrid"], "unknown key data; fundusnet predict --help lists the keys"),
        (["predict", "--checkpoint", "run"], "--checkpoint is not a flag; keys have no dashes: checkpoint=VALUE"),
        (["predict", "--batch-size=4"], "--batch-size is not a flag; keys have no dashes: batch_size=VALUE"),
        (["train", "+model.loss.wieght=1"], "did you mean model.loss.weight?"),
        (["train", "model.loss.weight=-1"], "model.loss.weight=-1 is not valid: use a value greater"),
        (["train", "seed=[1"], "seed=[1 is not valid: use an integer"),
        (["train", "resume=nowhere"], "resume=nowhere is not a run folder"),
        (["train", "resume=nowhere", "seed=1"], "leave out seed=1"),
        (["evaluate"], "run is not given"),
        (["report"], "runs is not given"),
        (["evaluate", "run=nowhere", "split=tset"], "split=tset is not valid: use val, test, train or all"),
    ],
)
def test_errors_are_one_line(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert message in refusal(capsys, *words)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["predict", "output=there"], "stopped; resume with the same command"),
        (["train", "run_dir=there"], "stopped; resume with fundusnet train resume=there"),
        (["report", "runs=there"], "stopped"),
    ],
)
@pytest.mark.parametrize("code", [130, 143])
def test_a_stop_is_one_line_that_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], line: str, code: int
) -> None:
    def stopped(cfg: object) -> None:
        if code == 143:
            raise Interrupted
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            if words[0] == "train":  # as Lightning does
                sys.exit(1)
            raise

    for verb in ("predict", "train", "report"):
        monkeypatch.setattr(f"fundusnet.commands.{verb}.{verb}", stopped)
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == code
    assert capsys.readouterr().err == f"fundusnet: {line}\n"


def test_a_place_that_cannot_be_written_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(cfg: object) -> None:
        raise PermissionError(13, "Permission denied", "there/predictions.csv")

    monkeypatch.setattr("fundusnet.commands.predict.predict", refused)
    line = refusal(capsys, "predict", "output=there")
    assert line == "fundusnet: there/predictions.csv: Permission denied; choose another place, or make room"


def test_a_key_of_many_choices_names_some(capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, "evaluate", "run=.", "data.root=there")
    assert "data.root is a key of data=airogs and data=aptos and data=csv and 1" in line and "others, not of" in line


def test_a_file_where_a_folder_should_be_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "eyes").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "eyes" / "eye.png")
    line = refusal(
        capsys, "predict", f"output={tmp_path / 'file' / 'there'}", "checkpoint=landmarks", f"input={tmp_path / 'eyes'}"
    )
    assert "Not a directory; choose another place" in line


def test_misspelt_key_in_a_users_experiment_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    file = tmp_path / "mine" / "experiment" / "own.yaml"
    file.write_text("# @package _global_\ntrainer:\n  max_epocs: 3\n")
    line = refusal(capsys, "train", "--config-dir", "mine", "experiment=own")
    assert line == "fundusnet: unknown key trainer.max_epocs; did you mean trainer.max_epochs?"


@pytest.mark.parametrize("words", [["--help"], ["init", "--help"]])
def test_help_whose_reader_has_enough_ends_quietly(words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        shown = subprocess.run([sys.executable, "-m", "fundusnet", *words], stdout=closed, stderr=subprocess.PIPE)
    assert (shown.returncode, shown.stderr) == (0, b"")


def test_debug_brings_the_traceback_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "model.loss.weight=-1", "debug=true"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_failed_job_fails_the_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", "model.loss.weight=-1,-2", "hydra.sweep.dir=sweep"]) == 1
    said = capsys.readouterr().err
    assert "0 of 2 jobs done in sweep" in said
    for weight in (-1, -2):
        assert f"UserError: model.loss.weight={weight} is not valid" in said


def test_cfg_job_prints_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--cfg", "job", "seed=7"]) == 0
    assert "seed: 7\n" in capsys.readouterr().out


def test_nothing_is_written_by_a_refused_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    refusal(capsys, "train", "data.size=500")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fundusnet tr", "train"),
        ("fundusnet train finding=dru", "finding=drusen"),
        ("fundusnet train model.loss.wei", "model.loss.weight="),
        ("fundusnet report out", "output="),
    ],
)
def test_completion(
    line: str, expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["-sc", "query=bash"]) == 0
    assert expected in capsys.readouterr().out.split()


def test_runs_are_found_once_and_only_when_finished(tmp_path: Path) -> None:
    for name in ("a", "b", "broken"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        (tmp_path / name / "metrics.json").write_text("{}")
    assert find_runs([str(tmp_path / "b"), str(tmp_path / "*")]) == [tmp_path / "b", tmp_path / "a"]
    assert find_runs([str(tmp_path)]) == [tmp_path / "a", tmp_path / "b"]  # a sweep's folder: its jobs
    with pytest.raises(UserError, match="broken matches no finished run"):
        find_runs([str(tmp_path / "broken")])


def test_runs_of_a_sweep_are_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    names = ["weight=0_99ab", "weight=0.5_1c", "weight=2_07", "weight=10_e1"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text("{}")
    assert [run.name for run in find_runs([str(tmp_path)])] == names
    assert [run.name for run in find_runs([str(tmp_path / "weight*")])] == names


def test_keys_may_stand_on_both_sides_of_a_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["seed=3", "--config-dir", str(tmp_path), "data.root=elsewhere", "--cfg", "job", "name=one"]
    assert main(["train", "experiment=quickstart", *words]) == 0
    told = capsys.readouterr().out
    assert "\nseed: 3\n" in told and "  root: elsewhere\n" in told and "\nname: one\n" in told
