"""Promise: what the page on transforms shows runs as it stands there."""

import pathlib
import re
import shlex

import engines
import numpy as np
import pytest
import scenes
import SimpleITK as sitk

from pymasr import cli, registration, transforms

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "transforms.md").read_text(encoding="utf-8")


def test_blocks_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("vtkmodules", reason="VTK is not installed: pip install vtk")
    from vtkmodules.vtkFiltersSources import vtkSphereSource

    from pymasr.transforms.surfaces import Surface

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registration, "register_images", engines.known_solution)
    for name, image in {"fixed": scenes.picture(scenes.FIXED), "moving": scenes.picture(scenes.MOVING),
                        "flair": scenes.picture(scenes.MOVING, 3), "labels": scenes.regions(scenes.MOVING),
                        "atlas_labels": scenes.regions(scenes.FIXED), "mask": scenes.regions(scenes.FIXED) > 2}.items():
        sitk.WriteImage(image, f"{name}.nii.gz")
    transforms.write(scenes.linear(scenes.FIXED, scenes.FIXED), "second.h5")
    solution = engines.known_solution(*(scenes_image(grid) for grid in (scenes.FIXED, scenes.MOVING)), None)
    inside = scenes.points_in(scenes.FIXED, 5, margin=4)
    np.savetxt("fixed_landmarks.csv", inside, delimiter=",", header="x,y,z", comments="")
    moving = inside @ solution.affine[:3, :3].T + solution.affine[:3, 3]
    np.savetxt("moving_landmarks.csv", moving * [-1, -1, 1], delimiter=",")
    source = vtkSphereSource()
    source.SetCenter(*(scenes.FIXED.centre * [-1, -1, 1]))
    source.SetRadius(3)
    source.Update()
    Surface(source.GetOutput(), "LPS").write(tmp_path / "ventricle.stl")

    ran = 0
    for kind, block in re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL):
        if kind == "python":
            block = block.replace("[[10.0, -5.0, 20.0]]", repr([scenes.FIXED.centre.tolist()]))
            names = {}
            exec(compile(block, "transforms.md", "exec"), names)
            np.testing.assert_allclose(names["again"], [scenes.FIXED.centre], atol=0.3)
            ran += 1
            continue
        for line in block.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "pymasr" and cli.main(arguments) == 0, capsys.readouterr().err
            ran += 1
    assert ran == 12
    for name in ("result/warped_flair.nii.gz", "labels_on_moving.nii.gz", "ventricle_on_moving.stl", "all.h5",
                 "jacobian.nii.gz", "on_fixed.csv"):
        assert (tmp_path / name).exists()


def scenes_image(grid):
    from pymasr.io import as_image

    return as_image(scenes.picture(grid))
