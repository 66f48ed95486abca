"""Surfaces and meshes, whose vertices go through transforms as points do; VTK reads and writes them."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np

from pymasr.errors import InputError
from pymasr.transforms.landmarks import FRAMES

#: Reader and writer of each ending: module and classes of VTK.
_FORMATS = {
    ".vtk": ("vtkIOLegacy", "vtkDataSetReader", "vtkDataSetWriter"),
    ".vtp": ("vtkIOXML", "vtkXMLPolyDataReader", "vtkXMLPolyDataWriter"),
    ".vtu": ("vtkIOXML", "vtkXMLUnstructuredGridReader", "vtkXMLUnstructuredGridWriter"),
    ".stl": ("vtkIOGeometry", "vtkSTLReader", "vtkSTLWriter"),
    ".ply": ("vtkIOPLY", "vtkPLYReader", "vtkPLYWriter"),
    ".obj": ("vtkIOGeometry", "vtkOBJReader", "vtkOBJWriter"),
}
SUFFIXES = tuple(_FORMATS)


class Surface:
    """A surface or mesh from a file (.vtk, .vtp, .vtu, .stl, .ply, .obj).

    Attributes:
        points: its vertices, (N, 3) float64, LPS mm.
    """

    def __init__(self, data: Any, frame: str):
        from vtkmodules.util.numpy_support import vtk_to_numpy

        self._data, self._frame = data, frame
        self.points = vtk_to_numpy(data.GetPoints().GetData()).astype(np.float64) * FRAMES[frame]

    @classmethod
    def read(cls, file: str | os.PathLike, frame: str) -> Surface:
        """`frame` is that of the file's coordinates, "LPS" or "RAS": few formats say so themselves.

        Raises InputError: no such file, no vertices, another format. ImportError: VTK is not installed.
        """
        path = pathlib.Path(file)
        if not path.is_file():
            raise InputError(f"surface {path}: no such file")
        reader = _make(path, 1)
        complaints: list[str] = []
        reader.AddObserver("ErrorEvent", lambda *_: complaints.append("it is damaged or of another format"))
        reader.SetFileName(str(path))
        reader.Update()
        data = reader.GetOutputDataObject(0)
        if complaints or data is None or not hasattr(data, "GetPoints") or not data.GetNumberOfPoints():
            raise InputError(f"surface {path}: cannot be read, {complaints[0] if complaints else 'it has no vertices'}")
        return cls(data, frame)

    def moved(self, points: np.ndarray) -> Surface:
        """The same with other vertices (N, 3), LPS mm. Normals that come with it are left out: they are no longer
        right."""
        from vtkmodules.util.numpy_support import numpy_to_vtk
        from vtkmodules.vtkCommonCore import vtkPoints

        data = self._data.NewInstance()
        data.DeepCopy(self._data)
        vertices = vtkPoints()
        vertices.SetData(numpy_to_vtk(np.ascontiguousarray(points * FRAMES[self._frame]), deep=True))
        data.SetPoints(vertices)
        for attributes in (data.GetPointData(), data.GetCellData()):
            normals = attributes.GetNormals()
            if normals is not None:
                attributes.RemoveArray(normals.GetName())
        return Surface(data, self._frame)

    def write(self, file: pathlib.Path) -> None:
        """In the frame that it was read in, binary where the format can be."""
        writer = _make(file, 2)
        if hasattr(writer, "SetFileTypeToBinary"):
            writer.SetFileTypeToBinary()
        writer.SetFileName(str(file))
        writer.SetInputData(self._data)
        if not writer.Write() or not file.exists():
            raise InputError(f"output {file.name}: cannot hold this mesh, take the format that it was read from")


def _make(path: pathlib.Path, which: int) -> Any:
    """A reader (1) or writer (2) for the ending of `path`."""
    import importlib

    module = _FORMATS.get(path.suffix.lower())
    if module is None:
        raise InputError(f"surface {path}: must end with one of {', '.join(SUFFIXES)}")
    try:
        return getattr(importlib.import_module(f"vtkmodules.{module[0]}"), module[which])()
    except ImportError as error:
        raise ImportError(f"surface {path.name}: surfaces need VTK: pip install vtk") from error
