"""Augmentation in two parts: draw parameters for samples (numpy, pure), then apply them to a batch (torch, pure).

The stages are selected when a loader is built; each batch passes through these stages only:

    uint8 [b, H, W, C]  cut (padded crop and flip)                      bytes, exact
    float [b, C, H, W]  window or resize, rotate, jitter, mix           in 0 to 1
    the run's precision normalize                                       input of the network
"""

import numpy as np
import torch
import torch.nn.functional as F

from distdl.core.config import AugmentConfig
from distdl.core.counter_rng import uniform
from distdl.data.augment.crops import DRAWS, random_window

JITTER = (0.4, 0.4, 0.4, 0.1)
"""Maximum change of brightness, contrast and saturation (relative) and of hue (fraction of the color circle)."""
CACHE_VALUES = 2**17
"""Number of 4-byte values that fit into a core's cache."""


def draw(
    augment: AugmentConfig, seed: int, epoch: int, indices: np.ndarray, shape: tuple[int, int] | None
) -> dict[str, np.ndarray]:
    """Draw the parameters of the enabled augmentations for samples `indices` [n] of an epoch.

    Args:
        shape: height and width of images in memory; None for files, whose windows are drawn when they are read.
    Returns:
        shift [n, 2] int64, row and column offset from the padded image's corner; flip [n] bool; window [n, 4] int64;
        angle [n] in degrees, 0 for no rotation; jitter [n, 4] factors (see distdl.data.augment.color); mix [n, 4]:
        whether CutMix is used, the weight of the image itself, and the box's center.
    """
    params: dict[str, np.ndarray] = {}

    def numbers(quantity: str, count: int) -> np.ndarray:
        return uniform(seed, epoch, indices, quantity, count)

    if augment.crop:
        params["shift"] = (numbers("crop", 2) * (2 * augment.crop + 1)).astype(np.int64)
    if augment.flip:
        params["flip"] = numbers("flip", 1)[:, 0] < augment.flip
    if augment.random_resized_crop and shape:
        params["window"] = random_window(numbers("window", DRAWS), *shape)
    if augment.rotation:
        u = numbers("rotation", 2)
        angle = (2 * u[:, 1] - 1) * augment.rotation
        params["angle"] = np.where(u[:, 0] < augment.rotation_probability, angle, 0.0).astype(np.float32)
    if augment.color_jitter:
        u = numbers("jitter", 5)
        neutral = np.array((1, 1, 1, 0))
        factors = neutral + (2 * u[:, 1:] - 1) * JITTER
        params["jitter"] = np.where(u[:, :1] < augment.color_jitter, factors, neutral).astype(np.float32)
    if augment.mixup or augment.cutmix:
        params["mix"] = _draw_mix(augment, numbers("mix", 4))
    return params


def _draw_mix(augment: AugmentConfig, u: np.ndarray) -> np.ndarray:
    from scipy.special import betaincinv  # imported here because it takes 0.1 s

    boxed = u[:, 0] < 0.5 if augment.mixup and augment.cutmix else np.full(len(u), bool(augment.cutmix))
    alpha = np.where(boxed, augment.cutmix, augment.mixup)
    return np.column_stack([boxed, betaincinv(alpha, alpha, u[:, 1]), u[:, 2:]]).astype(np.float32)


def pad(images: torch.Tensor, width: int) -> torch.Tensor:
    """Add `width` black pixels on each side of images [n, H, W, C]."""
    return F.pad(images, (0, 0, width, width, width, width)) if width else images


def cut(
    padded: torch.Tensor,
    index: torch.Tensor,
    size: tuple[int, int],
    shift: torch.Tensor | None,
    flip: torch.Tensor | None,
) -> torch.Tensor:
    """Crop windows of `size` from images `index` [b] at `shift` [b, 2], and mirror those with `flip` [b].

    Args:
        padded: [n, H, W, C] uint8, a batch or the whole data set, padded in advance.
    Returns:
        [b, *size, C] uint8. Bytes are copied once, not once each for cropping and flipping.
    """
    if shift is None and flip is None:
        return padded.index_select(0, index)
    if shift is None:
        shift = torch.zeros(len(index), 2, dtype=torch.int64, device=index.device)
    return (_cut_strided if padded.device.type == "cpu" else _cut_indexed)(padded, index, size, shift, flip)


def _cut_indexed(
    padded: torch.Tensor, index: torch.Tensor, size: tuple[int, int], shift: torch.Tensor, flip: torch.Tensor | None
) -> torch.Tensor:
    rows = shift[:, :1] + torch.arange(size[0], device=index.device)
    columns = torch.arange(size[1], device=index.device).expand(len(index), -1)
    if flip is not None:
        columns = torch.where(flip[:, None], size[1] - 1 - columns, columns)
    columns = shift[:, 1:] + columns
    return padded[index[:, None, None], rows[:, :, None], columns[:, None, :]]


def _cut_strided(
    padded: torch.Tensor, index: torch.Tensor, size: tuple[int, int], shift: torch.Tensor, flip: torch.Tensor | None
) -> torch.Tensor:
    # numpy copies whole rows of a strided view: on a CPU 20 times faster than torch's pixel-by-pixel indexing.
    view = np.lib.stride_tricks.sliding_window_view(padded.numpy(), size, axis=(1, 2))
    windows = view.transpose(0, 1, 2, 4, 5, 3)
    image, (top, left_edge) = index.numpy(), shift.numpy().T
    if flip is None:
        return torch.from_numpy(windows[image, top, left_edge])
    if padded.shape[3] > 1:
        return mirror_(torch.from_numpy(windows[image, top, left_edge]), flip)
    out = np.empty((len(image), *size, 1), np.uint8)  # with one channel, numpy mirrors rows while it copies them
    for mirrored, source in ((False, windows), (True, windows[..., ::-1, :])):
        selected = np.flatnonzero(flip.numpy() == mirrored)
        out[selected] = source[image[selected], top[selected], left_edge[selected]]
    return torch.from_numpy(out)


def mirror_(images: torch.Tensor, flip: torch.Tensor) -> torch.Tensor:
    """Mirror images [b, H, W, C] uint8 on the CPU in place, those with `flip` [b]. Returns the same tensor."""
    # One image at a time, so that it stays in the cache; as NCHW with NHWC strides, because torch's flip is vectorized
    # for that layout: 20 times faster than numpy on color images.
    planes = images.permute(0, 3, 1, 2)
    for index in flip.nonzero().flatten().tolist():
        image = planes[index : index + 1]
        image.copy_(image.flip(3))
    return images


def resize(images: torch.Tensor, size: int) -> torch.Tensor:
    """Resize floats [b, C, H, W] to [b, C, size, size], bilinear, antialiased if they shrink."""
    if images.shape[2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def cut_windows(images: torch.Tensor, windows: torch.Tensor, size: int) -> torch.Tensor:
    """Crop a window (top, left, height, width) [b, 4] from each image of [b, C, H, W]; resize to [b, C, size, size].

    Bilinear without antialiasing: for small images, whose windows are enlarged or hardly shrunk.
    """
    height, width = images.shape[2:]
    top, left_edge, tall, wide = windows.to(images.dtype).unbind(1)
    zero = torch.zeros_like(top)
    center_x, center_y = (2 * left_edge + wide) / width - 1, (2 * top + tall) / height - 1
    theta = torch.stack([wide / width, zero, center_x, zero, tall / height, center_y], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, [len(images), images.shape[1], size, size], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def rotate(images: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Rotate floats [b, C, H, W] counterclockwise about their center by `degrees` [b]; the corners become black.

    The result is that of torchvision's rotate with bilinear interpolation.
    """
    height, width = images.shape[2:]
    angle = torch.deg2rad(degrees.to(images.dtype))
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    theta = torch.stack([cos, -sin * height / width, zero, sin * width / height, cos, zero], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    rotated = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return torch.where((degrees == 0).view(-1, 1, 1, 1), images, rotated)


def shares(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Convert labels [b, k] (-1 for none) to targets [b, classes] float32.

    Each of a sample's labels gets the same weight, and the weights sum to 1 (Mahajan et al. 2018).
    """
    counts = torch.zeros(len(labels), classes + 1, device=labels.device).scatter_add_(
        1, labels.where(labels >= 0, classes), torch.ones_like(labels, dtype=torch.float32)
    )[:, :classes]
    return counts / counts.sum(1, keepdim=True)


def mix(
    images: torch.Tensor, labels: torch.Tensor, params: torch.Tensor, classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each image with the previous one in the batch, by mixup or by CutMix; labels become class probabilities.

    Both methods are a map of weights for the image's own pixels: mixup uses one value everywhere, CutMix 0 inside a box
    and 1 outside of it.

    Args:
        images: [b, C, H, W] floats. labels: [b] int64, or [b, classes] probabilities.
        params: [b, 4]: whether to use CutMix, the weight of the image itself, and the box's center (row, column) in 0
            to 1.
    Returns:
        images [b, C, H, W], labels [b, classes] float32.
    """
    boxed, share, *center = params.unbind(1)
    inside = []
    for length, middle in zip(images.shape[2:], center, strict=True):
        # Yun et al. 2019, section 3.1: a box of 1 - share of the area around a point of the image, clipped to it.
        half = 0.5 * length * (1 - share).sqrt()
        low = (middle * length - half).round().clamp_(0, length)
        high = (middle * length + half).round().clamp_(0, length)
        position = torch.arange(length, device=images.device)
        inside.append((position >= low[:, None]) & (position < high[:, None]))
    box = inside[0][:, :, None] & inside[1][:, None, :]
    weight = torch.where(boxed.bool()[:, None, None], (~box).to(images.dtype), share[:, None, None].to(images.dtype))
    own_share = weight.mean((1, 2))[:, None]
    soft = labels if labels.dim() == 2 else F.one_hot(labels, classes).to(torch.float32)
    weight = weight[:, None]
    return images * weight + images.roll(1, 0) * (1 - weight), soft * own_share + soft.roll(1, 0) * (1 - own_share)


def ten_crop(images: torch.Tensor, size: int) -> torch.Tensor:
    """Crop [b, C, L, L] to [b, 10, C, size, size]: four corners and the center, then the same of the mirror images."""
    margin = images.shape[-1] - size
    middle = round(margin / 2)
    corners = ((0, 0), (0, margin), (margin, 0), (margin, margin), (middle, middle))
    crops = [
        view[..., top : top + size, left_edge : left_edge + size]
        for view in (images, images.flip(-1))
        for top, left_edge in corners
    ]
    return torch.stack(crops, 1)


def normalize(
    images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, dtype: torch.dtype, channels_last: bool
) -> torch.Tensor:
    """Normalize images to (images - mean) / std.

    Args:
        images: [b, C, H, W] uint8, or floats in 0 to 1.
        mean, std: [C, 1, 1], in 0 to 1.
        dtype: type of the result.
        channels_last: return the result in the channels-last memory format (NHWC).
    """
    # With one channel both memory formats are the same, and CPU convolutions are faster with the strides of NHWC.
    gray = len(std) == 1 and images.device.type == "cpu"
    layout = torch.channels_last if channels_last or gray else torch.contiguous_format
    full_scale = 255 if images.dtype == torch.uint8 else 1
    scale, offset = 1 / (std * full_scale), mean / std
    if channels_last and len(scale) > 1 and images.device.type == "cpu":
        return _normalize_rows(images, scale.flatten(), offset.flatten(), dtype)
    images = images.to(torch.float32, memory_format=layout, copy=True)
    return images.mul_(scale).sub_(offset).to(dtype)


def _normalize_rows(
    images: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    # Long rows of pixels in memory order: broadcasting over three channels is ten times slower in torch. Images are
    # processed in groups that fit into the cache, which takes a fifth of the time in bf16.
    out = torch.empty(images.shape, dtype=dtype, memory_format=torch.channels_last)
    scale, offset = scale.repeat(images.shape[3]), offset.repeat(images.shape[3])
    group = max(CACHE_VALUES // images.shape[1:].numel(), 1)
    rows, pixels = (values.permute(0, 2, 3, 1).flatten(2) for values in (out, images))
    for target, source in zip(rows.split(group), pixels.split(group), strict=True):
        target.copy_(source.to(torch.float32, copy=True).mul_(scale).sub_(offset))
    return out
