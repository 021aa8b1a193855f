"""What each shape adapter does to a tensor. Half precision is widened to float32 meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, prod
from typing import TYPE_CHECKING, Any

from .grids import span

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]


def resize(tensor: torch.Tensor, method: str, shape: Shape, args: Mapping[str, Any]) -> torch.Tensor:
    """A tensor brought to another shape, in its own dtype.

    Args:
        tensor: a floating tensor of at least 16 bits.
        method: one of `shapes.METHODS`.
        shape: the shape to reach.
        args: as `shapes.resolve` gives them for both shapes.
    """
    return _METHODS[method](tensor, shape, **args)


def interpolate(
    tensor: torch.Tensor,
    shape: Shape,
    *,
    layout: str,
    grid: Shape,
    target_grid: Shape,
    mode: str,
    antialias: bool,
    prefix_tokens: int = 0,
) -> torch.Tensor:
    """Resample a table of positions on another grid.

    The prefix tokens stay as they are. With the defaults of `shapes` it is what timm does to position
    embeddings: bicubic, antialiased, `align_corners` off.

    Args:
        tensor: [N, C] or [B, N, C] (tokens), [B, C, *grid] (channels_first), [B, *grid, C] (channels_last).
        shape: the same with the other grid.
        layout: which of them.
        grid: its sides; they and the prefix tokens make N.
        target_grid: the sides to reach.
        mode, antialias: as `torch.nn.functional.interpolate` takes them.
        prefix_tokens: how many of the first tokens have no place on the grid.
    """
    import torch

    if layout == "channels_first":
        return _resample(tensor, target_grid, mode, antialias).reshape(shape)
    prefix, table = tensor, tensor
    if layout == "tokens":
        prefix, table = tensor[..., :prefix_tokens, :], tensor[..., prefix_tokens:, :]
    channels = shape[-1]
    planes = table.reshape(-1, *grid, channels).movedim(-1, 1)
    result = _resample(planes, target_grid, mode, antialias).movedim(1, -1)
    if layout == "channels_last":
        return result.reshape(shape)
    result = result.reshape(*shape[:-2], prod(target_grid), channels)
    return torch.cat([prefix, result], dim=-2)


def rel_pos_table(
    tensor: torch.Tensor,
    shape: Shape,
    *,
    grid: Shape,
    target_grid: Shape,
    mode: str,
    antialias: bool,
    extra_rows: int = 0,
) -> torch.Tensor:
    """Resample a table of relative position biases for another window.

    ``geometric`` is the method of BEiT, with linear interpolation as timm has it: the old positions
    are spread over the new table at distances that grow by a constant ratio from the centre, where
    the biases vary most, and the new ones are interpolated between them.

    Args:
        tensor: [(2h-1)*(2w-1) + extra_rows, heads] or [heads, 2h-1, 2w-1].
        shape: the same for the other window.
        grid: the window [h, w].
        target_grid: the window to reach.
        mode: ``geometric``, or bicubic or bilinear as `torch.nn.functional.interpolate` takes them.
        antialias: only with the latter.
        extra_rows: how many of the last rows are no relative positions; they stay as they are.
    """
    import torch

    before, after = span(grid), span(target_grid)
    flat = tensor.dim() == 2
    rows = tensor.shape[0] - extra_rows
    planes = tensor[:rows].T.reshape(-1, *before) if flat else tensor
    if mode == "geometric":
        work = _widened(planes)
        down, across = (
            torch.tensor(linear_weights(_spread(a, b), b), dtype=work.dtype, device=work.device)
            for a, b in zip(before, after, strict=True)
        )
        result = (down @ work @ across.T).to(tensor.dtype)
    else:
        result = _resample(planes[None], after, mode, antialias)[0]
    return torch.cat([result.flatten(1).T, tensor[rows:]]) if flat else result.reshape(shape)


def crop(tensor: torch.Tensor, shape: Shape, *, dims: Shape) -> torch.Tensor:
    """The first entries along some dimensions."""
    for dim in dims:
        tensor = tensor.narrow(dim, 0, shape[dim])
    return tensor


def pad(tensor: torch.Tensor, shape: Shape, *, dims: Shape, fill: str | float) -> torch.Tensor:
    """More entries at the end of some dimensions, one dimension after the other.

    Args:
        tensor: the old entries, which keep their places.
        shape: the shape to reach.
        dims: the dimensions that grow.
        fill: ``zero``, ``mean`` (of the old entries along that dimension), or a number.
    """
    import torch

    for dim in dims:
        size = list(tensor.shape)
        size[dim] = shape[dim] - size[dim]
        tensor = torch.cat([tensor, padding(tensor, dim, fill).expand(size)], dim)
    return tensor


def padding(tensor: torch.Tensor, dim: int, fill: str | float) -> torch.Tensor:
    """One entry of what `pad` puts at the end of a dimension; arguments as there."""
    import torch

    if fill == "mean":
        return _widened(tensor).mean(dim, keepdim=True).to(tensor.dtype)
    size = [*tensor.shape[:dim], 1, *tensor.shape[dim + 1 :]]
    value = 0.0 if fill == "zero" else float(fill)
    return torch.full(size, value, dtype=tensor.dtype, device=tensor.device)


def repeat(tensor: torch.Tensor, shape: Shape, *, dims: Shape) -> torch.Tensor:
    """All entries again and again along some dimensions, in their order."""
    times = [b // a if dim in dims else 1 for dim, (a, b) in enumerate(zip(tensor.shape, shape, strict=True))]
    return tensor.repeat(times)


def input_channels(tensor: torch.Tensor, shape: Shape, *, base_channels: int) -> torch.Tensor:
    """A convolution's weight for another number of input channels, as timm does it.

    One channel gets the sum of all, so that a grey image answers as the same image in all channels
    did. More get the old ones in turn, scaled so that the sum over the channels keeps its size.

    Args:
        tensor: [out, in, *kernel].
        shape: the shape to reach.
        base_channels: channels of an image; a divisor of `in` where the stem folds pixels into
            channels, each group of which is summed.
    """
    work = _widened(tensor)
    old, new = tensor.shape[1], shape[1]
    if base_channels != old or new == 1:
        groups = work.reshape(shape[0], old // base_channels, base_channels, *shape[2:])
        return groups.sum(dim=2).to(tensor.dtype)
    times = [1, ceil(new / old), *[1] * (tensor.dim() - 2)]
    return (work.repeat(times)[:, :new] * (old / new)).to(tensor.dtype)


def inflate(tensor: torch.Tensor, shape: Shape, *, mode: str) -> torch.Tensor:
    """A kernel for video from one for images: [out, in, h, w] to [out, in, time, h, w].

    ``average`` repeats it over time and divides by the time steps (Carreira and Zisserman 2017), so
    that a still video answers as its image did; ``center`` puts it at the middle step, zeros around.
    """
    import torch

    steps = shape[2]
    if mode == "average":
        return (_widened(tensor) / steps).to(tensor.dtype)[:, :, None].expand(shape).contiguous()
    result = torch.zeros(shape, dtype=tensor.dtype, device=tensor.device)
    result[:, :, steps // 2] = tensor
    return result


def linear_weights(points: list[float], size: int) -> list[list[float]]:
    """Weights of linear interpolation from uneven points to the places -(size//2) ... size//2.

    Args:
        points: where the old values lie, ascending.
        size: number of new places, odd.

    Returns:
        [size][len(points)]; a place beyond the points takes the nearest one's value.
    """
    rows = []
    for place in range(-(size // 2), size // 2 + 1):
        row = [0.0] * len(points)
        right = next((i for i, point in enumerate(points) if point >= place), len(points))
        if right == 0 or right == len(points):
            row[min(right, len(points) - 1)] = 1.0
        else:
            low, high = points[right - 1], points[right]
            row[right] = (place - low) / (high - low)
            row[right - 1] = 1.0 - row[right]
        rows.append(row)
    return rows


def _spread(old: int, new: int) -> list[float]:
    """Where BEiT's method puts `old` positions in a table of `new` (both odd): the steps 1, q, q^2, ...

    The ratio q lets the outermost position reach the table's edge. It is halved in between 1.01 and
    1.5 down to 1e-6, as timm and BEiT do it: another bracket gives other values.
    """
    low, high, ratio = 1.01, 1.5, 1.0
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (1 - ratio ** (old // 2)) / (1 - ratio) > new // 2:
            high = ratio
        else:
            low = ratio
    reach = [0.0]
    for step in range(old // 2):
        reach.append(reach[-1] + ratio**step)
    return [-place for place in reversed(reach[1:])] + reach


def _resample(planes: torch.Tensor, size: Shape, mode: str, antialias: bool) -> torch.Tensor:
    """[B, C, *old] to [B, C, *size]."""
    from torch.nn.functional import interpolate as resample

    result = resample(_widened(planes), size=list(size), mode=mode, antialias=antialias)
    return result.to(planes.dtype)


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


_METHODS: dict[str, Callable[..., torch.Tensor]] = {
    "interpolate": interpolate,
    "rel_pos_table": rel_pos_table,
    "crop": crop,
    "pad": pad,
    "repeat": repeat,
    "input_channels": input_channels,
    "inflate": inflate,
}
