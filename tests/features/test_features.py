"""Intensities become [0, 1] whatever their scale; descriptors come out ready for the fused step."""

import pytest
import torch

from pymasr.features import IntensityDNS, Mind, noise_level, normalise
from pymasr.ops import reference


def scan(seed=0):
    """Random tissue in a constant background."""
    image = torch.zeros(20, 22, 24)
    image[4:-4, 4:-4, 4:-4] = 50 + 100 * torch.rand((12, 14, 16), generator=torch.Generator().manual_seed(seed))
    return image


def test_percentiles_of_the_foreground_become_0_and_1():
    result = normalise(scan())
    foreground = result[4:-4, 4:-4, 4:-4]
    assert result.min() == 0 and result.max() == 1 and result.dtype == torch.float32
    assert (foreground == 0).float().mean() == pytest.approx(0.01, abs=0.005)
    assert (foreground == 1).float().mean() == pytest.approx(0.01, abs=0.005)


@pytest.mark.parametrize("scale, shift", [(1e-3, 0), (30, -1024), (1, 1e4)])
def test_scale_and_offset_of_the_scanner_do_not_matter(scale, shift):
    assert torch.allclose(normalise(scan() * scale + shift), normalise(scan()), atol=2e-3)


def test_a_window_is_taken_as_it_is():
    image = torch.tensor([-300.0, -200.0, 0.0, 412.0, 1024.0, 3000.0]).reshape(1, 1, 6)
    assert normalise(image, (-200, 1024)).flatten().tolist() == pytest.approx([0, 0, 200 / 1224, 0.5, 1, 1])


def test_a_mask_is_an_image_too():
    result = normalise((scan() > 0).float() * 7)
    assert set(result.unique().tolist()) == {0.0, 1.0}


def test_one_bright_voxel_is_enough_contrast():
    image = torch.zeros(10, 10, 10)
    image[5, 5, 5] = 1
    assert normalise(image).max() == 1


@pytest.mark.parametrize("image, window, message", [
    (torch.full((4, 4, 4), 7.0), None, "the CT has no foreground: every voxel is 7"),
    (torch.rand(4, 4, 4), (5, 6), "the CT has no contrast between the intensities 5 and 6"),
])
def test_an_image_without_contrast_is_refused(image, window, message):
    with pytest.raises(ValueError, match=message):
        normalise(image, window, name="CT")


@pytest.mark.parametrize("extractor, expected", [
    (Mind(), lambda x: reference.mind_ssc(x, 1, 1)),
    (Mind(2, 2), lambda x: reference.mind_ssc(x, 2, 2)),
    (IntensityDNS(), lambda x: reference.dns(x, (1,), eps=1e-4)),
    (IntensityDNS((1, 2)), lambda x: reference.dns(x, (1, 2), eps=1e-4)),
    (IntensityDNS((3,), 1e-2), lambda x: reference.dns(x, (3,), eps=1e-2)),
])
def test_descriptors(extractor, expected):
    image = normalise(scan())
    result, wanted = extractor(image), expected(image[None, None].double())[0]
    assert torch.allclose(result.double(), wanted, atol=1e-4)
    assert result.dtype == torch.float32 and result.stride(0) == 1, "the fused step reads adjacent channels"


@pytest.mark.parametrize("extractor", [Mind(2, 1), IntensityDNS((1, 3))])
def test_descriptors_write_where_they_are_told_and_know_their_reach(extractor):
    image = normalise(scan())
    out = torch.empty((extractor.channels, *image.shape), dtype=torch.float16)
    assert extractor(image, out=out) is out
    whole = extractor(image)
    assert torch.allclose(out.float(), whole, atol=1e-3)
    changed = image.clone()
    changed[10, 11, 12] += 0.3
    if isinstance(extractor, IntensityDNS):  # MIND's bounds see the whole volume
        where = (extractor(changed) != whole).any(0).nonzero() - torch.tensor([10, 11, 12])
        assert where.abs().max() == extractor.reach


@pytest.mark.parametrize("sigma", [0.03, 0.08])
def test_noise_is_measured_where_structure_is_not(sigma):
    z, y, x = torch.meshgrid(*(torch.arange(40.0),) * 3, indexing="ij")
    smooth = 0.5 + 0.2 * torch.sin(z / 7) * torch.cos(y / 6 + x / 9)
    assert noise_level(smooth) < 0.005
    noise = sigma * torch.randn(smooth.shape, generator=torch.Generator().manual_seed(1))
    assert noise_level(smooth + noise) == pytest.approx(sigma, rel=0.25)
    thick = noise.unflatten(0, (20, 2)).mean(1).repeat_interleave(2, 0)  # slices twice as thick, and repeated
    assert noise_level(smooth + thick) == pytest.approx(sigma / 2 ** 0.5, rel=0.25)


@pytest.mark.parametrize("image", [torch.zeros(30, 30, 30), torch.rand(3, 40, 40), torch.rand(8, 8, 8)])
def test_noise_of_too_little_image_counts_as_none(image):
    assert noise_level(image) == 0
