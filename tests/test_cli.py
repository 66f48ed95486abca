"""Promise: the command line writes its files or one sentence, never half of either."""

import json
import os
import pathlib
import pty
import signal
import subprocess
import sys

import engines
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from pymasr import _C, cli, registration
from pymasr._version import __version__
from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.registration import starts
from pymasr.registration.result import FILES
from pymasr.sitk import to_sitk

ROOT = pathlib.Path(__file__).resolve().parents[1]
GRID = Geometry((12, 14, 16), (1.0, 1.0, 2.0))


def blobs(shape, seed):
    return 100 + engines.smooth_field(shape, 60, seed)[0].numpy()


@pytest.fixture
def pair(tmp_path):
    """FIXED and MOVING as files, in a directory of their own."""
    (tmp_path / "in").mkdir()
    names = [str(tmp_path / "in" / f"{name}.mha") for name in ("fixed", "moving")]
    for seed, name in enumerate(names):
        sitk.WriteImage(to_sitk(blobs(GRID.shape, seed), GRID), name)
    return names


@pytest.fixture
def known_engine(monkeypatch):
    monkeypatch.setattr(registration, "register_images", engines.known_solution)


def command(engine, *arguments):
    return [sys.executable, str(ROOT / "tests" / "engines.py"), engine, *map(str, arguments)]


def environment(**more):
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "PYMASR_DEBUG": "0",
            **more}


def assert_one_sentence(text):
    assert text.startswith("pymasr: error: ") and text.endswith("\n")
    assert text.count("\n") == 1, text
    assert "Traceback" not in text


def test_register(pair, tmp_path, known_engine, capsys):
    assert cli.main(["register", *pair, "-o", str(tmp_path / "out"), "--preset", "fast", "--seed", "7", "-v"]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(FILES)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["config"]["fixed"] == report["fixed"]["path"] == pair[0]
    assert (report["preset"], report["settings"]["seed"]) == ("fast", 7)
    assert [s["name"] for s in report["stages"]] == ["reading", "deformable", "inversion", "evaluation", "writing",
                                                     "overview"]
    assert report["versions"]["pymasr"] == __version__
    printed = capsys.readouterr()
    assert "2.0000 before, 0.5000 after" in printed.out
    assert "folded" in printed.out and "overview" in printed.out
    assert str(tmp_path / "out" / "transform.h5") in printed.out
    assert printed.err == ""


@pytest.mark.parametrize("option", ["diffeomorphic", "symmetric"])
def test_options_of_the_deformation_and_warnings_reach_the_user(pair, tmp_path, monkeypatch, capsys, option):
    seen = []

    def engine(fixed, moving, settings, **_):
        seen.append(settings)
        solution = engines.known_solution(fixed, moving, settings)
        solution.displacement[0] = -2 * torch.arange(GRID.shape[0])[:, None, None]  # folds everywhere
        return solution

    monkeypatch.setattr(registration, "register_images", engine)
    assert cli.main(["register", *pair, "-o", str(tmp_path / "out"), f"--{option}"]) == 0
    assert getattr(seen[0], option) and seen[0].diffeomorphic
    printed = capsys.readouterr().out
    assert "warning" in printed and "The deformation folds at" in printed
    assert "the option diffeomorphic" not in printed  # it was taken
    assert "inverse" in printed and str(tmp_path / "out" / "inverse.h5") in printed


def test_quiet(pair, tmp_path, known_engine, capsys):
    assert cli.main(["register", *pair, "-o", str(tmp_path / "out"), "-q"]) == 0
    assert capsys.readouterr() == ("", "")


def test_masks_come_to_the_engine(pair, tmp_path, monkeypatch):
    inside = np.zeros(GRID.shape, np.uint8)
    inside[2:5, 3:9, 4:8] = 3
    mask = str(tmp_path / "in" / "mask.nii.gz")
    sitk.WriteImage(to_sitk(inside, GRID), mask)
    seen = {}

    def engine(fixed, moving, settings, **rest):
        seen.update(rest)
        return engines.known_solution(fixed, moving, settings)

    monkeypatch.setattr(registration, "register_images", engine)
    arguments = ["register", *pair, "-o", str(tmp_path / "out"), "--fixed-mask", mask, "--moving-mask", mask]
    assert cli.main(arguments) == 0
    for name in ("fixed_mask", "moving_mask"):
        np.testing.assert_array_equal(seen[name].array.numpy(), inside > 0)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["fixed_mask"] == mask
    assert report["jacobian_region"] == "fixed mask"


def test_transform_and_start_come_to_the_engine(pair, tmp_path, monkeypatch):
    seen = {}

    def engine(fixed, moving, settings, **rest):
        seen.update(rest, settings=settings)
        return engines.known_solution(fixed, moving, settings)

    monkeypatch.setattr(registration, "register_images", engine)
    file = str(tmp_path / "in" / "start.tfm")
    sitk.WriteTransform(sitk.TranslationTransform(3, (1.0, 2.0, 3.0)), file)
    arguments = ["register", *pair, "-o", str(tmp_path / "out"), "--transform", "rigid"]
    for initial, expected in ((None, "auto"), ("mass", "mass"), (file, starts.about(np.zeros(3), np.array([1, 2, 3])))):
        assert cli.main(arguments + ([] if initial is None else ["--initial", initial])) == 0
        assert seen["settings"].transform == "rigid"
        assert np.array_equal(seen["initial"], expected)
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        assert report["initial"] == (initial or "auto")


def test_a_start_that_is_none(pair, tmp_path, known_engine, capsys):
    assert cli.main(["register", *pair, "-o", str(tmp_path / "out"), "--initial", "center"]) == cli.WRONG_USE
    text = capsys.readouterr().err
    assert_one_sentence(text)
    assert "one of auto, headers, centres, mass, moments, search" in text and "'center', which is no file" in text


def corrupt(pair, kind):
    """Make the moving image of `pair` one of the things that cannot be registered."""
    array = blobs(GRID.shape, 1)
    path = pathlib.Path(pair[1])
    if kind == "missing":
        path.unlink()
    elif kind == "unreadable":
        path.write_text("this is no image")
    elif kind == "2-D":
        sitk.WriteImage(sitk.GetImageFromArray(array[0]), pair[1])
    elif kind == "4-D":
        sitk.WriteImage(sitk.Image([4, 5, 6, 2], sitk.sitkFloat32), pair[1])
    elif kind == "NaN":
        array[3, 4, 5] = np.nan
        sitk.WriteImage(to_sitk(array, GRID), pair[1])
    elif kind == "constant":
        sitk.WriteImage(to_sitk(0 * array, GRID), pair[1])


BAD_IMAGES = {"missing": "no such file", "unreadable": "cannot be read", "2-D": "got 2 dimensions",
              "4-D": "got 4 dimensions", "NaN": "1 of 2688 voxels are NaN", "constant": "every voxel is 0"}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_bad_image(pair, tmp_path, known_engine, capsys, kind):
    corrupt(pair, kind)
    assert cli.main(["register", *pair, "-o", str(tmp_path / "out")]) == cli.WRONG_USE
    printed = capsys.readouterr()
    assert_one_sentence(printed.err)
    assert f"moving image {pair[1]}: " in printed.err and BAD_IMAGES[kind] in printed.err
    assert printed.out == ""
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("kind", ["unreadable", "NaN"])
def test_bad_image_in_a_process_of_its_own(pair, tmp_path, kind):
    """Nothing of what the libraries below write to the terminal by themselves comes with the sentence."""
    corrupt(pair, kind)
    done = subprocess.run(command("known_solution", "register", *pair, "-o", tmp_path / "out"), env=environment(),
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (cli.WRONG_USE, "")
    assert_one_sentence(done.stderr)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_unwritable_output_is_found_before_anything_is_read(pair, tmp_path, capsys):
    (tmp_path / "file").touch()
    pathlib.Path(pair[0]).unlink()
    for output in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        assert cli.main(["register", *pair, "-o", str(output)]) == cli.WRONG_USE
        text = capsys.readouterr().err
        assert_one_sentence(text)
        assert f"output directory {output}" in text


@pytest.mark.parametrize(("arguments", "message"), [
    (["register", "a", "b", "-o", "c", "--set", "x"], "--set: must be NAME=VALUE, got 'x'"),
    (["register", "a", "b", "-o", "c", "--preset", "x"], "accurate"),
    (["register", "a", "b", "-o", "c", "--device", "x"], "cuda"),
    (["register", "a", "b", "-o", "c", "--feature", "mind"], "unknown argument --feature mind, expected one of"),
    (["register", "a", "b", "-o", "c", "--threads", "0"], "--threads: must be a whole number from 1 up, got '0'"),
    (["register", "a", "b", "-o", "c", "-q", "-v"], "not allowed with"),
    (["register", "a", "b"], "-o/--output"),
    (["register", "a", "-o", "c"], "MOVING"),
    (["registre"], "choose from"),
    ([], "COMMAND"),
])
def test_wrong_use(arguments, message, capsys):
    assert cli.main(arguments) == cli.WRONG_USE
    text = capsys.readouterr().err
    assert_one_sentence(text)
    assert message in text
    assert "--help)" in text


@pytest.mark.parametrize(("arguments", "message"), [
    (["--features", "sift"], "there is no descriptor called sift, expected masr, dsir, mind or dns"),
    (["--features", "mind(radius={[]: 1})"], "features must be descriptors added up"),
    (["--set", "regularization=3"], "no setting called regularization; did you mean regularisation?"),
    (["--set", "regularisation=soft"], "regularisation must be at least 0, got 'soft'"),
    (["--set", "levels=5"], "levels must be a tuple, got 5"),
    (["--set", "levels=(1, 2)"], "levels must be a tuple of DeformableLevel"),
    (["--set", "robust=True"], "--set robust: use --robust for that"),
    (["--set", "moving_mask=a.nii"], "use --moving-mask for that"),
    *((["--set", f"{name}=1"], f"there is no setting called {name}") for name in (
        "progress", "fixed_geometry", "fixed", "parser", "command")),
])
def test_settings_that_make_no_sense(pair, tmp_path, arguments, message, known_engine, capsys):
    assert cli.main(["register", *pair, "-o", str(tmp_path / "out"), *arguments]) == cli.WRONG_USE
    text = capsys.readouterr().err
    assert_one_sentence(text)
    assert message in text and not (tmp_path / "out").exists()


def test_any_setting_can_be_given(pair, tmp_path, known_engine):
    given = ["--set", "regularisation=3", "--set", "storage=float32", "--set", "levels=[[2, 4, 7]]", "--robust",
             "--no-diffeomorphic", "--features", "mind + 0.5 * dns"]
    assert cli.main(["register", *pair, "-o", str(tmp_path / "out"), "-q", *given]) == 0
    settings = json.loads((tmp_path / "out" / "report.json").read_text())["settings"]
    assert settings["levels"] == [{"factor": 2, "spacing": 4, "iterations": 7}]
    wanted = {"regularisation": 3, "storage": "float32", "robust": True, "diffeomorphic": False,
              "features": "mind + 0.5 * dns"}
    assert {name: settings[name] for name in wanted} == wanted


def test_cuda_asked_for_and_absent(pair, tmp_path, capsys):
    if _C.cuda_status()["built"]:
        pytest.skip("this build has CUDA")
    assert cli.main(["register", *pair, "-o", str(tmp_path / "out"), "--device", "cuda"]) == cli.WRONG_USE
    text = capsys.readouterr().err
    assert_one_sentence(text)
    assert _C.cuda_status()["reason"] in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("error", "status"), [
    (InputError("the images don't overlap in space"), cli.WRONG_USE), (RuntimeError("a kernel\nfailed"), cli.FAILED),
    (MemoryError(), cli.FAILED), (KeyboardInterrupt(), cli.INTERRUPTED)])
def test_failure_of_the_engine(pair, tmp_path, known_engine, monkeypatch, capsys, error, status):
    def engine(*_, **__):
        raise error

    monkeypatch.delenv("PYMASR_DEBUG", raising=False)
    monkeypatch.setattr(registration, "register_images", engine)
    arguments = ["register", *pair, "-o", str(tmp_path / "out")]
    assert cli.main(arguments) == status
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and text.startswith("pymasr: ")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    if status != cli.INTERRUPTED:
        with pytest.raises(type(error)):
            cli.main([*arguments, "-vv"])
        monkeypatch.setenv("PYMASR_DEBUG", "1")
        with pytest.raises(type(error)):
            cli.main(arguments)


def test_interrupt_leaves_nothing(pair, tmp_path):
    process = subprocess.Popen(command("endless", "register", *pair, "-o", tmp_path / "out"), env=environment(),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "pymasr: interrupted, nothing was written\n")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_a_path_that_the_terminal_cannot_show(pair, tmp_path):
    done = subprocess.run(command("known_solution", "register", *pair, "-o", tmp_path / "ü b"),
                          env=environment(PYTHONIOENCODING="ascii"), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xfc b" in done.stdout
    assert (tmp_path / "ü b" / "report.json").exists()


def test_a_reader_that_has_seen_enough():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "pymasr.cli", "info"], env=environment(), stdout=write,
                          stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (cli.FAILED, "")


def test_progress_bar_on_a_terminal_only(pair, tmp_path):
    """stderr is a terminal here; in test_register, where it is none, nothing is drawn."""
    ours, theirs = pty.openpty()
    arguments = command("known_solution", "register", *pair, "-o", tmp_path / "out")
    process = subprocess.Popen(arguments, env=environment(TERM="xterm", COLUMNS="120"), stdout=subprocess.DEVNULL,
                               stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait() == 0
    text = shown.decode()
    assert "deformable 1/2" in text and "3/3" in text and "loss 1.0000" in text and "left" in text


def test_info(capsys):
    assert cli.main(["info"]) == 0
    text = capsys.readouterr().out
    for part in ("pymasr", "torch", "SimpleITK", _C.compiler, _C.best_instruction_set(), "threads", "CUDA"):
        assert part in text
    assert cli.main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["versions"]["pymasr"] == __version__
    assert facts["instruction_set"] == {"used": _C.instruction_set(), "best": _C.best_instruction_set()}
    assert facts["cuda"]["usable"] == (facts["cuda"]["reason"] is None)
    assert facts["cuda"]["built"] or not facts["cuda"]["usable"]


def test_help_does_not_wait_for_torch():
    code = ("import sys; from pymasr import cli; status = cli.main(['register', '--help']); "
            "heavy = {'torch', 'numpy', 'SimpleITK', 'matplotlib', 'rich'} & set(sys.modules); "
            "sys.exit(str(heavy) if heavy else status)")
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--fixed-mask" in done.stdout
