"""Small MASR-Nets with random weights, and images for them."""

import torch

from pymasr.models import MASRConfig, MASRNet


def small_network(seed=0, **config):
    """Every weight and bias counts, as in a trained one."""
    wanted = {"widths": (3, 4, 5, 6), "features": 2, "squeeze": 5, "hidden": 6, "channels": 4, **config}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MASRNet(MASRConfig(**wanted))
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.2)
        torch.nn.init.normal_(model.head.second.convolution.weight, std=0.3)
    return model.requires_grad_(False).eval()


def random_image(size, seed=0):
    """(D, H, W) in [0, 1], with structure of some voxels' size."""
    noise = torch.rand((1, 1, *(n + 2 for n in size)), generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool3d(noise, 3, 1)[0, 0]
    return ((smooth - 0.25) * 2).clamp(0, 1)
