"""Promise: landmarks and surfaces go where ITK takes their points, in their own frame, all else unchanged."""

import numpy as np
import pytest
import scenes
import SimpleITK as sitk

from pymasr import transforms
from pymasr.errors import InputError
from pymasr.transforms.landmarks import Landmarks
from pymasr.transforms.surfaces import Surface

WHOLE = transforms.chain([scenes.deformation(), scenes.linear()])
POINTS = scenes.points_in(scenes.FIXED, 12)
TO_RAS, SHIFT = np.array([-1.0, -1, 1]), np.array([1.0, 2, 3])


def test_points_go_where_itk_takes_them():
    np.testing.assert_allclose(transforms.apply_to_points(POINTS, WHOLE), scenes.through(WHOLE, POINTS), atol=1e-9)
    np.testing.assert_allclose(transforms.apply_to_points(POINTS[0], [WHOLE]), scenes.through(WHOLE, POINTS[:1]))


def test_points_where_a_deformation_is_not_known():
    outside = np.vstack([POINTS, [[400.0, 0, 0]]])
    for transform in (WHOLE, scenes.spline()):
        with pytest.raises(InputError) as error:
            transforms.apply_to_points(outside, transform)
        text = str(error.value)
        assert "1 of 13 lie outside the grid" in text and "number 13 (400, 0, 0)" in text and "\n" not in text
    moved = transforms.apply_to_points(outside, WHOLE, allow_outside=True)
    np.testing.assert_allclose(moved[-1], scenes.linear().TransformPoint((400.0, 0.0, 0.0)))
    transforms.apply_to_points(outside, scenes.linear())  # is known everywhere
    with pytest.raises(InputError, match="points must be finite numbers"):
        transforms.apply_to_points([[1, 2, np.nan]], scenes.linear())


@pytest.mark.parametrize("frame", ["LPS", "RAS"])
def test_csv(tmp_path, frame):
    shown = POINTS * (TO_RAS if frame == "RAS" else 1)
    file = tmp_path / "in.csv"
    rows = [f'p{k},{y!r},{x!r},"a, b",{z!r}' for k, (x, y, z) in enumerate(shown.tolist())]
    file.write_text("# of mine\nname,Y,X,note,Z\n" + "\n".join(rows) + "\n", encoding="utf-8-sig")
    read = Landmarks.read(file, frame)
    np.testing.assert_allclose(read.points, POINTS)
    read.moved(POINTS + SHIFT).write(tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[:2] == ["# of mine", "name,Y,X,note,Z"] and len(lines) == 14
    assert lines[2].startswith("p0,") and '"a, b"' in lines[2]
    np.testing.assert_allclose(Landmarks.read(tmp_path / "out.csv", frame).points, POINTS + SHIFT, atol=1e-6)


def test_csv_without_a_header_and_slicers_fcsv(tmp_path):
    np.savetxt(tmp_path / "bare.csv", POINTS, delimiter=",")
    np.testing.assert_allclose(Landmarks.read(tmp_path / "bare.csv", "LPS").points, POINTS)
    (tmp_path / "F.fcsv").write_text("# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n"
                                     "# columns = id,x,y,z,ow,ox,oy,oz,vis\nF-1,1,2,3,0,0,0,1,1\n")
    read = Landmarks.read(tmp_path / "F.fcsv", "LPS")
    np.testing.assert_allclose(read.points, [[1, 2, 3]])
    read.moved(np.array([[4.0, 5, 6]])).write(tmp_path / "G.fcsv")
    assert (tmp_path / "G.fcsv").read_text().splitlines()[-1] == "F-1,4.000000,5.000000,6.000000,0,0,0,1,1"
    with pytest.raises(InputError, match="says that its points are in LPS, not in RAS"):
        Landmarks.read(tmp_path / "F.fcsv", "RAS")


@pytest.mark.parametrize(("text", "message"), [
    ("x,y,z\n1,2,3\n1,b,3\n", "line 3: expected numbers in the columns x, y and z, separated by commas, got 1,b,3"),
    ("1;2;3\n", "line 1: expected numbers"), ("x,y,z\n1,2\n", "line 2: expected numbers"), ("1,2,inf\n", "line 1"),
    ("x,y,z\n", "holds no points"), ("", "holds no points")])
def test_csv_that_holds_no_landmarks(tmp_path, text, message):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(InputError) as error:
        Landmarks.read(tmp_path / "bad.csv", "LPS")
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.fixture
def sphere():
    pytest.importorskip("vtkmodules", reason="VTK is not installed: pip install vtk")
    from vtkmodules.vtkFiltersSources import vtkSphereSource

    source = vtkSphereSource()
    source.SetCenter(*scenes.FIXED.centre)
    source.SetRadius(4)
    source.Update()
    return source.GetOutput()


@pytest.mark.parametrize("suffix", [".vtk", ".vtp", ".stl", ".ply", ".obj"])
def test_surfaces(tmp_path, sphere, suffix):
    Surface(sphere, "LPS").write(tmp_path / f"in{suffix}")
    read = Surface.read(tmp_path / f"in{suffix}", "RAS")
    expected, found = Surface(sphere, "LPS").points, read.points * TO_RAS
    if suffix == ".stl":  # which has no numbers for its vertices
        expected, found = (np.unique(np.round(points, 3), axis=0) for points in (expected, found))
    np.testing.assert_allclose(found, expected, atol=1.1e-3)
    moved = read.moved(read.points + SHIFT)
    moved.write(tmp_path / f"out{suffix}")
    again = Surface.read(tmp_path / f"out{suffix}", "RAS")
    np.testing.assert_allclose(again.points, read.points + SHIFT, atol=1e-4)
    assert again._data.GetNumberOfCells() == read._data.GetNumberOfCells() == sphere.GetNumberOfCells()
    assert sphere.GetPointData().GetNormals() is not None and moved._data.GetPointData().GetNormals() is None


def test_files_that_hold_no_surface(tmp_path, sphere):
    (tmp_path / "a.vtk").write_text("hello")
    (tmp_path / "a.stl").write_text("")
    for name in ("a.vtk", "a.stl"):
        with pytest.raises(InputError, match="cannot be read"):
            Surface.read(tmp_path / name, "LPS")
    with pytest.raises(InputError, match="no such file"):
        Surface.read(tmp_path / "b.vtk", "LPS")


def test_an_image_and_its_landmarks_meet():
    """A bright voxel of the moving image, warped, is where the inverse takes its place."""
    inverse = transforms.invert(WHOLE).transform
    grid = scenes.MOVING
    fixed_point = scenes.points_in(scenes.FIXED, 1, margin=5)[0]
    target = WHOLE.TransformPoint(fixed_point.tolist())
    voxels = np.moveaxis(np.indices(grid.shape), 0, -1)
    points = voxels @ grid.voxel_to_physical[:3, :3].T + grid.voxel_to_physical[:3, 3]
    blob = np.exp(-0.5 * ((points - target) ** 2).sum(-1) / 3 ** 2).astype(np.float32)
    warped = scenes.array(transforms.apply(scenes.to_sitk(blob, grid), scenes.FIXED, WHOLE, outside=0))
    brightest = np.unravel_index(warped.argmax(), warped.shape)
    place = (scenes.FIXED.voxel_to_physical @ [*brightest, 1])[:3]
    back = transforms.apply_to_points([target], inverse)[0]
    np.testing.assert_allclose(back, fixed_point, atol=0.2)
    assert np.linalg.norm(place - back) < 1.5
    assert isinstance(inverse, sitk.Transform)
