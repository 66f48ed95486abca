"""The ladder climbs from less to more; the large pair fills the same space as the small one."""

import numpy as np
import pytest
import SimpleITK as sitk

from benchmarks import ladder, large
from pymasr.registration import Settings


def test_every_rung_has_more_stages_than_the_one_below():
    rungs = dict(ladder.rungs("dns"))
    settings = [Settings.from_preset(features="dns", **changes) for changes in rungs.values()]
    assert [s.transform for s in settings] == ["rigid", "affine"] + ["deformable"] * (len(settings) - 2)
    counts = [len(s.levels) for s in settings[2:]]
    assert counts == sorted(counts) and counts[0] == 0 and settings[-1] == Settings.from_preset(features="dns")


def test_missing_pairs_are_named(tmp_path, capsys):
    assert ladder.main(["--data", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize("size", [20, 25])
def test_an_upsampled_image_shows_the_same_things_at_the_same_places(size):
    z, y, x = np.meshgrid(*(np.arange(10.0),) * 3, indexing="ij")
    image = sitk.GetImageFromArray((x + 2 * y - z).astype(np.float32))
    image.SetSpacing([2.0, 2.0, 2.0])
    image.SetOrigin([5.0, -3.0, 1.0])
    result = large.upsampled(image, size)
    assert result.GetSize() == (size,) * 3
    extents = [np.array(i.GetSize()) * i.GetSpacing() for i in (image, result)]
    assert extents[0] == pytest.approx(extents[1])
    point = (12.3, 5.1, 9.9)  # in the middle, where nothing is replicated
    values = [sitk.Resample(i, [1, 1, 1], sitk.Transform(), sitk.sitkLinear, point).GetPixel(0, 0, 0)
              for i in (image, result)]
    assert values[0] == pytest.approx(values[1], abs=0.05)
