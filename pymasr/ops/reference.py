"""Every op of :mod:`pymasr.ops` again, in a few lines of plain PyTorch: the yardstick of the tests and benchmarks.

``reference.X`` has the name, the arguments and the channel order of ``ops.X``; it is differentiable by autograd, runs
in any floating-point type (the tests use float64) and is not made fast beyond being vectorised. All tensors are
batched here: features and images (N, C, D, H, W), displacement fields (N, 3, D, H, W) in voxels of the sampled image,
component k along array axis k (z, y, x).
"""

import itertools

import torch
import torch.nn.functional as F

#: The 6-neighbourhood (z, y, x) in the order -z, +z, -y, +y, -x, +x.
NEIGHBOURS = ((-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1))
#: The 12 pairs i < j of neighbours at squared distance 2 d^2: all but the three pairs of opposites.
PAIRS = tuple((i, j) for i, j in itertools.combinations(range(6), 2) if i // 2 != j // 2)


def _neighbours(image, dilation):
    """The six neighbours at distance `dilation` of every voxel, replicate border: six tensors shaped as `image`."""
    size = image.shape[2:]
    padded = F.pad(image, (dilation,) * 6, mode="replicate")
    return [padded[(..., *(slice(dilation * (1 + o), dilation * (1 + o) + n) for o, n in zip(offset, size)))]
            for offset in NEIGHBOURS]


def _squared_differences(image, dilation):
    """(f(x+i) - f(x+j))^2 for the 12 pairs: (N, 12, C, D, H, W)."""
    near = _neighbours(image, dilation)
    return torch.stack([(near[i] - near[j]) ** 2 for i, j in PAIRS], 1)


def dns(features, dilations=(1, 2), reduction="l2", eps=1e-5):
    """Deep neighbourhood self-similarity (arXiv 2402.18933, section 3.2); see :func:`pymasr.ops.dns`."""
    layouts = []
    for dilation in dilations:
        distance = _squared_differences(features, dilation)                     # (N, 12, C, D, H, W)
        distance = distance.sum(2, keepdim=True) if reduction == "l2" else distance
        variance = distance.mean(1, keepdim=True).clamp_min(eps)
        layouts.append(torch.exp(-distance / variance).transpose(1, 2).flatten(1, 2))
    return torch.cat(layouts, 1)


def mind_ssc(image, radius=2, dilation=2):
    """MIND-SSC (Heinrich et al., MICCAI 2013); see :func:`pymasr.ops.mind_ssc`."""
    distance = F.pad(_squared_differences(image, dilation)[:, :, 0], (radius,) * 6, mode="replicate")
    distance = F.avg_pool3d(distance, 2 * radius + 1, stride=1)
    distance = distance - distance.min(1, keepdim=True)[0]
    variance = distance.mean(1, keepdim=True)
    mean = variance.mean((1, 2, 3, 4), keepdim=True).detach()
    # torch.clamp passes no gradient to its bounds here: they are constants, as METHOD asks
    return torch.exp(-distance / torch.minimum(torch.maximum(variance, 0.001 * mean), 1000 * mean).clamp_min(1e-30))


def grid_positions(shape, displacement=None, matrix=None, *, batch=1, dtype=torch.float64, device=None):
    """Sampling positions M (v, 1) + u[v] in voxels (z, y, x) of the sampled image: (N, 3, D, H, W)."""
    if displacement is not None:
        batch, dtype, device, shape = (displacement.shape[0], displacement.dtype, displacement.device,
                                       displacement.shape[2:])
    axes = [torch.arange(n, dtype=dtype, device=device) for n in shape]
    position = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None].expand(batch, -1, -1, -1, -1)
    if matrix is not None:
        matrix = torch.as_tensor(matrix, dtype=dtype, device=device).expand(batch, 3, 4)
        position = torch.einsum("nij,njdhw->nidhw", matrix[:, :, :3], position) + matrix[:, :, 3, None, None, None]
    return position if displacement is None else position + displacement


def sample(image, position, padding="border", mode="linear"):
    """Values of `image` (N, C, D, H, W) at `position` (N, 3, d, h, w), voxels. NaN counts as outside: border gives
    voxel 0 of that axis, zeros gives 0. `border` clamps the position; `zeros` lets every corner outside count as 0."""
    size = image.shape[2:]
    lower, weight = [], []
    for k, n in enumerate(size):
        p = torch.nan_to_num(position[:, k], nan=0.0 if padding == "border" else -2.0, posinf=n + 1.0, neginf=-2.0)
        p = p.clamp(0, n - 1) if padding == "border" else p.clamp(-2, n + 1)
        if mode == "nearest":
            p = torch.floor(p.detach() + 0.5)                                   # halves round up
        base = torch.floor(p.detach())
        base = base.clamp(max=max(n - 2, 0)) if padding == "border" else base
        lower.append(base.long())
        weight.append(p - base)
    value = 0
    batch = torch.arange(image.shape[0], device=image.device)[:, None, None, None]
    for corner in itertools.product((0, 1), repeat=3):
        factor, index, inside = 1, [], True
        for k, n in enumerate(size):
            i = lower[k] + corner[k]
            factor = factor * (weight[k] if corner[k] else 1 - weight[k])
            inside = inside & (i >= 0) & (i < n)
            index.append(i.clamp(0, n - 1))
        factor = factor * inside if padding == "zeros" else factor
        corner_value = image.permute(0, 2, 3, 4, 1)[batch, index[0], index[1], index[2]]
        value = value + corner_value * factor[..., None]
    return value.permute(0, 4, 1, 2, 3)


def warp(image, displacement=None, *, matrix=None, padding="border", mode="linear", shape=None):
    """Backward warping out[v] = image[M (v, 1) + u[v]]; see :func:`pymasr.ops.warp`."""
    position = grid_positions(shape or image.shape[2:], displacement, matrix, batch=image.shape[0], dtype=image.dtype,
                              device=image.device)
    return sample(image, position, padding, mode)


def inside_mask(position, size):
    """1 where a position lies within the voxel centres of a grid of `size`, 0 elsewhere and for NaN: (N, d, h, w)."""
    return torch.stack([(position[:, k] >= 0) & (position[:, k] <= n - 1) for k, n in enumerate(size)]).all(0)


def warp_ssd(fixed, moving, displacement=None, *, matrix=None, weights=None, moving_mask=None, outside="exclude"):
    """Weighted mean of the squared difference of `fixed` and the warped `moving`; see :func:`pymasr.ops.warp_ssd`.

    Returns value (N,), NaN where nothing is valid, and gradient (N, 3, D, H, W), or (N, 3, 4) when no displacement is
    given.
    """
    argument = displacement if displacement is not None else torch.as_tensor(matrix, dtype=fixed.dtype)
    with torch.enable_grad():
        variable = argument.detach().clone().requires_grad_(True)
        position = (grid_positions(None, variable, matrix) if displacement is not None else
                    grid_positions(fixed.shape[2:], None, variable, batch=fixed.shape[0], dtype=fixed.dtype))
        weight = torch.ones_like(position[:, 0]) if weights is None else weights[:, 0].to(position.dtype).expand_as(
            position[:, 0]).clone()
        if outside == "exclude":
            weight = weight * inside_mask(position.detach(), moving.shape[2:])
        if moving_mask is not None:
            # a sample counts where the moving voxel nearest to it is in the mask
            inside = sample(moving_mask.to(position.dtype), position.detach(), "border", "nearest")[:, 0] > 0.5
            weight = weight * inside
        squared = (sample(moving, position) - fixed).square().mean(1) * weight
        total = weight.sum((1, 2, 3))
        value = squared.sum((1, 2, 3)) / total.clamp_min(torch.finfo(total.dtype).tiny)
        gradient, = torch.autograd.grad(value.sum(), variable)
    return torch.where(total > 0, value.detach(), torch.nan), gradient


def bspline_weights(length, spacing, *, dtype=torch.float64, device=None):
    """Cubic B-spline basis (length, control points): voxel v against control point k, which lies at (k - 1) spacing."""
    count = bspline_control_shape((length,), (spacing,))[0]
    t = (torch.arange(length, dtype=dtype, device=device)[:, None] / spacing + 1
         - torch.arange(count, dtype=dtype, device=device)[None]).abs()
    return torch.where(t < 1, 2 / 3 - t ** 2 + t ** 3 / 2, torch.where(t < 2, (2 - t) ** 3 / 6, 0 * t))


def bspline_control_shape(shape, spacing):
    """Control points per axis that support every voxel of `shape`: floor((n - 1) / spacing) + 4."""
    return tuple((n - 1) // s + 4 for n, s in zip(shape, spacing))


def bspline_upsample(control, shape, spacing):
    """Uniform cubic B-spline: control grid (N, C, gz, gy, gx) to the dense field (N, C, *shape); see
    :func:`pymasr.ops.bspline_upsample`. `spacing` is in voxels, an int per axis."""
    basis = [bspline_weights(n, s, dtype=control.dtype, device=control.device) for n, s in zip(shape, spacing)]
    return torch.einsum("ncabd,za,yb,xd->nczyx", control, *basis)


def bspline_adjoint(gradient, spacing):
    """Transpose of :func:`bspline_upsample`: (N, C, D, H, W) to (N, C, gz, gy, gx)."""
    basis = [bspline_weights(n, s, dtype=gradient.dtype, device=gradient.device)
             for n, s in zip(gradient.shape[2:], spacing)]
    return torch.einsum("nczyx,za,yb,xd->ncabd", gradient, *basis)


def _with_gradient(energy, field):
    """energy(field), differentiable, and its gradient."""
    with torch.enable_grad():
        variable = field.detach().clone().requires_grad_(True)
        gradient, = torch.autograd.grad(energy(variable).sum(), variable)
    return energy(field), gradient


def diffusion_energy(field, spacing=(1.0, 1.0, 1.0)):
    """Mean over voxels of the squared first differences, (N,), and its gradient: sum over components and axes; an axis
    of n voxels has n - 1 forward differences, whose sum is divided by the number of voxels. See
    :func:`pymasr.ops.diffusion_energy`."""
    count = field[0, 0].numel()
    return _with_gradient(lambda u: sum((u.diff(dim=axis) / h).square().sum((1, 2, 3, 4)) / count
                                        for axis, h in zip((2, 3, 4), spacing)), field)


def bending_energy(field, spacing=(1.0, 1.0, 1.0)):
    """Mean over voxels of the squared second differences, (N,), and its gradient: pure ones [1 -2 1] on interior voxels
    once, mixed ones (2 x 2 corner differences) twice, summed over components. See
    :func:`pymasr.ops.bending_energy`."""
    count = field[0, 0].numel()

    def energy(u):
        total = 0
        for a, b in itertools.combinations_with_replacement(range(3), 2):
            second = u.diff(dim=2 + a).diff(dim=2 + b) / (spacing[a] * spacing[b])
            total = total + (1 if a == b else 2) * second.square().sum((1, 2, 3, 4)) / count
        return total

    return _with_gradient(energy, field)


def compose(outer, inner, *, padding="border"):
    """Displacement of x -> outer(inner(x)), on one grid: inner[v] + outer[v + inner[v]];
    see :func:`pymasr.ops.compose`."""
    return inner + warp(outer, inner, padding=padding)


def exponential(velocity, steps=7):
    """Scaling and squaring of a stationary velocity field (Arsigny et al. 2006); see :func:`pymasr.ops.exponential`."""
    field = velocity / 2 ** steps
    for _ in range(steps):
        field = compose(field, field)
    return field


def exponential_backward(velocity, gradient, steps=7):
    """Gradient to the velocity by autograd; see :func:`pymasr.ops.exponential_backward`."""
    with torch.enable_grad():
        variable = velocity.detach().clone().requires_grad_(True)
        result, = torch.autograd.grad(exponential(variable, steps), variable, gradient)
    return result


def jacobian_determinant(displacement):
    """det(I + du/dv), (N, 1, D, H, W): central differences inside, one-sided at the border, an axis of size 1 constant;
    see :func:`pymasr.ops.jacobian_determinant`."""
    rows = []
    for axis in (2, 3, 4):
        if displacement.shape[axis] == 1:
            rows.append(0 * displacement)
        else:
            rows.append(torch.gradient(displacement, dim=axis)[0])
    jacobian = torch.stack(rows, 2) + torch.eye(3, dtype=displacement.dtype, device=displacement.device)[
        None, :, :, None, None, None]
    return torch.linalg.det(jacobian.permute(0, 3, 4, 5, 1, 2))[:, None]


def search_costs(fixed, moving, radius, *, weights=None, moving_mask=None):
    """Whole displacements (K, 3) of a window, shortest first, and the cost of each at every cell, (N, K, D, H, W), NaN
    where it is no candidate. `radius` is in cells, an int per axis."""
    displacements = sorted(itertools.product(*(range(-r, r + 1) for r in radius)),
                           key=lambda d: (sum(k * k for k in d), d))
    size = fixed.shape[2:]
    weight = torch.ones_like(fixed[:, :1]) if weights is None else weights.to(fixed.dtype).clamp_min(0)
    valid = torch.ones_like(moving[:, :1]) if moving_mask is None else (moving_mask > 0.5).to(moving.dtype)
    weight, valid = (w * image.isfinite().all(1, keepdim=True) for w, image in ((weight, fixed), (valid, moving)))
    around = [w for r in reversed(radius) for w in (r, r)]
    valid, moving = F.pad(valid, around), F.pad(moving.nan_to_num(0, 0, 0), around)
    fixed = fixed.nan_to_num(0, 0, 0)
    def around_cells(values):
        return F.avg_pool3d(F.pad(values, (1,) * 6), 3, stride=1)

    parts = []
    for d in displacements:
        window = (..., *(slice(r + k, r + k + n) for r, k, n in zip(radius, d, size)))
        parts.append(((fixed - moving[window]).square().mean(1, keepdim=True) * valid[window], valid[window]))
    own, partners = (sum(p) for p in zip(*parts))
    present = weight * (partners > 0)
    level = around_cells(present * own / partners.clamp_min(1)) / around_cells(present).clamp_min(1e-30)
    costs = []
    for squared, there in parts:
        counts = around_cells(weight * there)
        share = (counts / around_cells(present)).sqrt()
        cost = around_cells(weight * squared) / counts * share + level * (1 - share)  # NaN where nothing counts
        costs.append(torch.where(there > 0, cost, torch.nan)[:, 0])
    return torch.tensor(displacements, dtype=fixed.dtype), torch.stack(costs, 1)


def displacement_search(fixed, moving, radius, *, coupling=None, theta=0.0, weights=None, moving_mask=None):
    """The displacement with the least cost + theta |d - coupling|^2 and its cost; see
    :func:`pymasr.ops.displacement_search`. `radius` is an int per axis."""
    displacements, costs = search_costs(fixed, moving, radius, weights=weights, moving_mask=moving_mask)
    coupling = fixed.new_zeros((fixed.shape[0], 3, *fixed.shape[2:])) if coupling is None else coupling.to(fixed.dtype)
    away = torch.stack([(coupling - d[:, None, None, None]).square().sum(1) for d in displacements], 1)
    best = torch.where(costs.isnan(), torch.inf, costs + theta * away).min(1, keepdim=True)[1]  # the first of equals
    best = torch.where(costs.isnan().all(1, keepdim=True), away.min(1, keepdim=True)[1], best)
    return displacements[best[:, 0]].permute(0, 4, 1, 2, 3), costs.gather(1, best)
