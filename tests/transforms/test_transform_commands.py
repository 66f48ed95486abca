"""Promise: the commands on transforms do what the functions do, write whole files, and say in a sentence why not."""

import json

import numpy as np
import pytest
import scenes
import SimpleITK as sitk

from pymasr import cli, transforms


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A pair, its labels and transforms as files in the working directory."""
    monkeypatch.chdir(tmp_path)
    sitk.WriteImage(scenes.template(scenes.FIXED), "fixed.nii.gz")
    sitk.WriteImage(scenes.picture(scenes.MOVING, kind=np.int16), "moving.nii.gz")
    sitk.WriteImage(scenes.regions(scenes.MOVING), "labels.nii.gz")
    sitk.WriteImage(scenes.regions(scenes.FIXED), "fixed_labels.nii.gz")
    sitk.WriteImage(sitk.Compose([scenes.picture(scenes.MOVING)] * 3), "three.nii.gz")
    transforms.write(scenes.linear(), "affine.mat")
    transforms.write(sitk.TranslationTransform(3, (5e3, 0, 0)), "far.tfm")
    sitk.WriteImage(transforms.displacement_field(scenes.deformation(), scenes.FIXED), "warp.nii.gz")
    np.savetxt("points.csv", scenes.points_in(scenes.FIXED, 9), delimiter=",", header="x,y,z", comments="")
    return tmp_path


def run(capsys, *arguments):
    """Standard output of a command that works."""
    status = cli.main(list(arguments))
    printed = capsys.readouterr()
    assert status == 0 and not printed.err, printed.err
    return printed.out


CHAIN = ("warp.nii.gz", "affine.mat")


def test_apply(files, capsys):
    out = run(capsys, "apply", *CHAIN, "moving.nii.gz", "-r", "fixed.nii.gz", "-o", "below/out.nrrd", "--outside", "-5")
    assert out == "wrote    below/out.nrrd\n"
    result = sitk.ReadImage("below/out.nrrd")
    assert result.GetPixelID() == sitk.sitkInt16
    expected = transforms.apply("moving.nii.gz", "fixed.nii.gz", list(CHAIN), outside=-5)
    np.testing.assert_array_equal(scenes.array(result), scenes.array(expected))
    run(capsys, "apply", *CHAIN, "labels.nii.gz", "-r", "fixed.nii.gz", "-o", "labels_out.nii.gz", "--labels", "-q")
    expected = transforms.apply("labels.nii.gz", "fixed.nii.gz", list(CHAIN), labels=True)
    np.testing.assert_array_equal(scenes.array(sitk.ReadImage("labels_out.nii.gz")), scenes.array(expected))
    run(capsys, "apply", *CHAIN, "three.nii.gz", "-r", "fixed.nii.gz", "-o", "three_out.nii.gz", "--components",
        "channels")
    assert sitk.ReadImage("three_out.nii.gz").GetNumberOfComponentsPerPixel() == 3


def test_apply_inverse_leads_back(files, capsys):
    """Labels of the fixed image to the moving one and again to the fixed one are what they were, inside."""
    out = run(capsys, "apply", *CHAIN, "fixed_labels.nii.gz", "-r", "moving.nii.gz", "-o", "there.nii.gz", "--labels",
              "--inverse")
    assert out.startswith("inverse  off by 0.0") and out.endswith("wrote    there.nii.gz\n")
    run(capsys, "invert", *CHAIN, "-o", "inverse.h5")
    run(capsys, "apply", "inverse.h5", "fixed_labels.nii.gz", "-r", "moving.nii.gz", "-o", "same.nii.gz", "--labels")
    np.testing.assert_array_equal(*(scenes.array(sitk.ReadImage(f"{name}.nii.gz")) for name in ("there", "same")))
    run(capsys, "apply", *CHAIN, "there.nii.gz", "-r", "fixed.nii.gz", "-o", "again.nii.gz", "--labels")
    before, again = (scenes.array(sitk.ReadImage(f"{name}.nii.gz")) for name in ("fixed_labels", "again"))
    inside = again > 0
    assert inside.mean() > 0.2 and (before == again)[inside].mean() > 0.85


def test_apply_to_points(files, capsys):
    run(capsys, "apply", *CHAIN, "points.csv", "--points", "LPS", "-o", "moved.csv")
    before, moved = (np.loadtxt(f"{name}.csv", delimiter=",", skiprows=1) for name in ("points", "moved"))
    np.testing.assert_allclose(moved, scenes.through(transforms.chain(list(CHAIN)), before), atol=1e-5)
    run(capsys, "apply", *CHAIN, "moved.csv", "--points", "LPS", "-o", "back.csv", "--inverse")
    np.testing.assert_allclose(np.loadtxt("back.csv", delimiter=",", skiprows=1), before, atol=0.1)


def test_apply_to_a_surface(files, capsys):
    pytest.importorskip("vtkmodules", reason="VTK is not installed: pip install vtk")
    a, b, c = scenes.points_in(scenes.FIXED, 3) * [-1, -1, 1]
    (files / "s.ply").write_text("ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\n"
                                 "property float z\nelement face 1\nproperty list uchar int vertex_indices\n"
                                 "end_header\n" + "".join(f"{x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in (a, b, c))
                                 + "3 0 1 2\n")
    run(capsys, "apply", *CHAIN, "s.ply", "--points", "RAS", "-o", "out.vtk")
    from pymasr.transforms.surfaces import Surface

    expected = scenes.through(transforms.chain(list(CHAIN)), scenes.points_in(scenes.FIXED, 3))
    np.testing.assert_allclose(Surface.read("out.vtk", "RAS").points, expected, atol=1e-3)


def test_invert(files, capsys):
    out = run(capsys, "invert", *CHAIN, "-o", "inverse.h5", "--json", "--measure-on", "fixed.nii.gz")
    printed = json.loads(out)
    expected = transforms.invert(list(CHAIN), scenes.FIXED)
    assert printed["inverse_error_mm"] == pytest.approx(expected.error, abs=1e-4)
    assert printed["inverse_unconverged"] == 0
    run(capsys, "invert", *CHAIN, "-o", "inverse.nii.gz", "-r", "moving.nii.gz")
    field = transforms.displacement_field(expected.transform, scenes.MOVING)
    np.testing.assert_allclose(scenes.array(sitk.ReadImage("inverse.nii.gz")), scenes.array(field), atol=1e-4)
    run(capsys, "invert", "affine.mat", "-o", "inverse.tfm", "-q")
    assert sitk.ReadTransform("inverse.tfm").IsLinear()


def test_compose(files, capsys):
    run(capsys, "compose", *CHAIN, "-o", "both.h5")
    run(capsys, "compose", *CHAIN, "-o", "both.nii.gz", "-r", "fixed.nii.gz")
    points = scenes.points_in(scenes.FIXED, margin=3)
    expected = scenes.through(transforms.chain(list(CHAIN)), points)
    np.testing.assert_allclose(scenes.through(transforms.read("both.h5"), points), expected, atol=1e-6)
    np.testing.assert_allclose(scenes.through(transforms.read("both.nii.gz"), points), expected, atol=1e-3)
    run(capsys, "compose", "affine.mat", "[affine.mat,1]", "-o", "none.txt")
    np.testing.assert_allclose(sitk.ReadTransform("none.txt").TransformPoint((3.0, 4.0, 5.0)), (3, 4, 5), atol=1e-6)


def test_jacobian(files, capsys):
    out = run(capsys, "jacobian", *CHAIN, "-r", "fixed.nii.gz", "-o", "j.nii.gz")
    image, statistics = transforms.jacobian(list(CHAIN), scenes.FIXED)
    assert f"folded   0 of {14 * 17 * 19} voxels" in out and f"{statistics['std_log_jacobian']:.4f}" in out
    np.testing.assert_allclose(scenes.array(sitk.ReadImage("j.nii.gz")), scenes.array(image), atol=1e-5)
    mask = scenes.regions(scenes.FIXED) > 2
    sitk.WriteImage(mask, "mask.nii.gz")
    printed = json.loads(run(capsys, "jacobian", *CHAIN, "-r", "fixed.nii.gz", "--json", "--mask", "mask.nii.gz"))
    _, masked = transforms.jacobian(list(CHAIN), scenes.FIXED, scenes.array(mask))
    assert printed == pytest.approx(masked, abs=1e-5) and printed["voxels"] < 14 * 17 * 19


@pytest.mark.parametrize(("arguments", "message"), [
    ("apply affine.mat moving.nii.gz -o a.nii.gz", "give --reference"),
    ("apply affine.mat moving.nii.gz -r fixed.nii.gz -o a.png", "must be a file that ends with .nii.gz, .nii, .mha"),
    ("apply affine.mat moving.nii.gz -r fixed.nii.gz -o moving.nii.gz", "is what is read, too; give another name"),
    ("apply far.tfm moving.nii.gz -r fixed.nii.gz -o a.nii.gz", "takes no voxel of the reference into it"),
    ("apply gone.h5 moving.nii.gz -r fixed.nii.gz -o a.nii.gz", "transform gone.h5: no such file"),
    ("apply affine.mat gone.nii.gz -r fixed.nii.gz -o a.nii.gz", "image gone.nii.gz: no such file"),
    ("apply affine.mat moving.nii.gz -r gone.nii.gz -o a.nii.gz", "reference gone.nii.gz: no such file"),
    ("apply affine.mat three.nii.gz -r fixed.nii.gz -o a.nii.gz", "has 3 values per voxel; say"),
    ("apply moving.nii.gz moving.nii.gz -r fixed.nii.gz -o a.nii.gz", "3 values per voxel, got 3-D with 1"),
    ("apply warp.nii.gz points.csv -o a.csv", "say in which frame, --points LPS or --points RAS"),
    ("apply warp.nii.gz points.csv -o a.csv --points RAS", "9 of 9 lie outside the grid"),
    ("apply warp.nii.gz points.csv -o a.csv --points LPS --labels", "--labels is for images"),
    ("apply warp.nii.gz points.csv -o a.vtk --points LPS", "must be a file that ends with .csv, .fcsv"),
    ("apply warp.nii.gz fixed.nii.gz -o a.csv --points LPS", "must end with one of .csv, .fcsv, .vtk"),
    ("apply affine.mat moving.nii.gz -r fixed.nii.gz -o a.nii.gz --allow-outside", "--allow-outside is for points"),
    ("apply affine.mat moving.nii.gz -r fixed.nii.gz -o a.nii.gz --points XYZ", "choose from"),
    ("invert warp.nii.gz -o a.nii.gz", "--reference is needed for a displacement image, and only there"),
    ("invert warp.nii.gz -o a.tfm", "too large for a text file"),
    ("invert warp.nii.gz -o a.xyz", "must be a file that ends with .h5"),
    ("compose affine.mat warp.nii.gz -o a.mat", "for linear transforms only"),
    ("compose affine.mat -o a.h5 -r fixed.nii.gz", "--reference is needed for a displacement image, and only there"),
    ("jacobian affine.mat -r fixed.nii.gz -o warp.nii.gz --mask gone.nii.gz", "mask gone.nii.gz: no such file"),
    ("jacobian affine.mat -r fixed.nii.gz -o fixed.nii.gz", "is what is read, too"),
])
def test_one_sentence(files, capsys, arguments, message):
    before = {path: path.read_bytes() for path in files.iterdir()}
    assert cli.main(arguments.split()) == cli.WRONG_USE
    text = capsys.readouterr().err
    assert text.startswith("pymasr: error: ") and text.count("\n") == 1
    assert message in text, text
    assert {path: path.read_bytes() for path in files.iterdir()} == before
