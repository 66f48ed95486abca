"""Registration tools behind one call: two images in, a displacement field on the fixed grid out.

Every tool gets the images alone: no mask, no initial transform. Its field maps fixed points to moving points, LPS mm.
There is a file for each; :data:`METHODS` has them all by name.
"""

from benchmarks.methods import ants, convexadam, elastix, itk_v4, ours, simpleitk, voxelmorph
from benchmarks.methods.method import Method

METHODS: dict[str, Method] = {
    **ours.METHODS,
    **voxelmorph.METHODS,
    **itk_v4.METHODS,
    **simpleitk.METHODS,
    **elastix.METHODS,
    **ants.METHODS,
    **convexadam.METHODS,
}

__all__ = ["METHODS", "Method"]
