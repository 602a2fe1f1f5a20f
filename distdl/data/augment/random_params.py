"""Augmentation in two parts: draw parameters for samples (numpy, pure), then apply them to a batch (torch, pure).

What is applied is decided when a loader is made; a batch then passes through that list and nothing else:

    uint8 [b, H, W, C]  cut (padded crop and flip)                      bytes, exact
    float [b, C, H, W]  window or resize, rotate, jitter, mix           in 0 to 1
    the run's precision normalise                                       as the network takes it
"""

import numpy as np
import torch
import torch.nn.functional as F

from distdl.core.config import AugmentConfig
from distdl.core.counter_rng import uniform
from distdl.data.augment.crops import DRAWS, random_window

JITTER = (0.4, 0.4, 0.4, 0.1)
"""Most by which brightness, contrast and saturation change, as a share, and hue, in turns."""
CACHED = 2**17
"""Numbers of 4 bytes that a core's cache keeps at hand."""


def draw(
    augment: AugmentConfig, seed: int, epoch: int, indices: np.ndarray, shape: tuple[int, int] | None
) -> dict[str, np.ndarray]:
    """Parameters of the changes that are on, for samples `indices` [n] of an epoch.

    Args:
        shape: height and width of images in memory; None for files, whose windows are drawn as they are read.
    Returns:
        shift [n, 2] int64, rows and columns from the padded image's corner; flip [n] bool; window [n, 4] int64;
        angle [n] degrees, 0 where it is not rotated; jitter [n, 4] factors (see distdl.data.augment.color); mix [n, 4]
        whether it is CutMix, the image's own share, and the box's centre.
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
    from scipy.special import betaincinv  # 0.1 s, for those who mix

    boxed = u[:, 0] < 0.5 if augment.mixup and augment.cutmix else np.full(len(u), bool(augment.cutmix))
    alpha = np.where(boxed, augment.cutmix, augment.mixup)
    return np.column_stack([boxed, betaincinv(alpha, alpha, u[:, 1]), u[:, 2:]]).astype(np.float32)


def pad(images: torch.Tensor, width: int) -> torch.Tensor:
    """[n, H, W, C] with `width` black pixels on each side."""
    return F.pad(images, (0, 0, width, width, width, width)) if width else images


def cut(
    padded: torch.Tensor,
    index: torch.Tensor,
    size: tuple[int, int],
    shift: torch.Tensor | None,
    flip: torch.Tensor | None,
) -> torch.Tensor:
    """Windows of `size` from images `index` [b], at `shift` [b, 2], mirrored where `flip` [b].

    Args:
        padded: [n, H, W, C] uint8, whole images or a whole set of them.
    Returns:
        [b, *size, C] uint8. Bytes are copied once: no image is padded, cropped and flipped one after the other.
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
    # numpy copies whole rows of a strided view: on a CPU 20 times faster than torch's indexing, pixel by pixel.
    view = np.lib.stride_tricks.sliding_window_view(padded.numpy(), size, axis=(1, 2))
    windows = view.transpose(0, 1, 2, 4, 5, 3)
    image, (top, left_edge) = index.numpy(), shift.numpy().T
    if flip is None:
        return torch.from_numpy(windows[image, top, left_edge])
    if padded.shape[3] > 1:
        return mirror_(torch.from_numpy(windows[image, top, left_edge]), flip)
    out = np.empty((len(image), *size, 1), np.uint8)  # single bytes numpy turns round as it copies them
    for mirrored, seen in ((False, windows), (True, windows[..., ::-1, :])):
        selected = np.flatnonzero(flip.numpy() == mirrored)
        out[selected] = seen[image[selected], top[selected], left_edge[selected]]
    return torch.from_numpy(out)


def mirror_(images: torch.Tensor, flip: torch.Tensor) -> torch.Tensor:
    """Bytes [b, H, W, C] on the CPU, in place mirrored where `flip` [b]. Returns them."""
    # Image by image, which stays in the cache; and as NHWC strides of NCHW, for which torch has a vectorised flip: 20
    # times faster than numpy on colours.
    planes = images.permute(0, 3, 1, 2)
    for place in flip.nonzero().flatten().tolist():
        image = planes[place : place + 1]
        image.copy_(image.flip(3))
    return images


def resize(images: torch.Tensor, size: int) -> torch.Tensor:
    """Floats [b, C, H, W] to [b, C, size, size], antialiased where they shrink."""
    if images.shape[2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def cut_windows(images: torch.Tensor, windows: torch.Tensor, size: int) -> torch.Tensor:
    """Floats [b, C, H, W]: each image's window (top, left, height, width) [b, 4], resized to [b, C, size, size].

    Bilinear without antialiasing: for sets of small images, which a window enlarges or hardly shrinks.
    """
    height, width = images.shape[2:]
    top, left_edge, tall, wide = windows.to(images.dtype).unbind(1)
    zero = torch.zeros_like(top)
    centre_x, centre_y = (2 * left_edge + wide) / width - 1, (2 * top + tall) / height - 1
    theta = torch.stack([wide / width, zero, centre_x, zero, tall / height, centre_y], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, [len(images), images.shape[1], size, size], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def rotate(images: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Floats [b, C, H, W], each turned counter-clockwise by its `degrees` [b] about the middle; black comes in.

    As torchvision's rotate with bilinear interpolation.
    """
    height, width = images.shape[2:]
    angle = torch.deg2rad(degrees.to(images.dtype))
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    theta = torch.stack([cos, -sin * height / width, zero, sin * width / height, cos, zero], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    turned = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return torch.where((degrees == 0).view(-1, 1, 1, 1), images, turned)


def shares(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Targets [b, classes] float32 of labels [b, k], -1 for none: of k labels each gets 1 / k (Mahajan et al. 2018)."""
    counts = torch.zeros(len(labels), classes + 1, device=labels.device).scatter_add_(
        1, labels.where(labels >= 0, classes), torch.ones_like(labels, dtype=torch.float32)
    )[:, :classes]
    return counts / counts.sum(1, keepdim=True)


def mix(
    images: torch.Tensor, labels: torch.Tensor, params: torch.Tensor, classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each image mixed with the one before it in the batch, by mixup or by CutMix; labels become shares of classes.

    Both are a map of weights of the image's own pixels: one value all over, or 0 in a box and 1 outside of it.

    Args:
        images: [b, C, H, W] floats. labels: [b] int64, or [b, classes] shares.
        drawn: [b, 4]: whether it is CutMix, the image's own share, and the box's centre (row, column) in 0 to 1.
    Returns:
        images [b, C, H, W], labels [b, classes] float32.
    """
    boxed, share, *centre = params.unbind(1)
    inside = []
    for length, middle in zip(images.shape[2:], centre, strict=True):
        # Yun et al. 2019, section 3.1: a box of 1 - share of the area about a place in the image, clipped to it.
        half = 0.5 * length * (1 - share).sqrt()
        low = (middle * length - half).round().clamp_(0, length)
        high = (middle * length + half).round().clamp_(0, length)
        place = torch.arange(length, device=images.device)
        inside.append((place >= low[:, None]) & (place < high[:, None]))
    box = inside[0][:, :, None] & inside[1][:, None, :]
    weight = torch.where(boxed.bool()[:, None, None], (~box).to(images.dtype), share[:, None, None].to(images.dtype))
    own_share = weight.mean((1, 2))[:, None]
    soft = labels if labels.dim() == 2 else F.one_hot(labels, classes).to(torch.float32)
    weight = weight[:, None]
    return images * weight + images.roll(1, 0) * (1 - weight), soft * own_share + soft.roll(1, 0) * (1 - own_share)


def ten_crop(images: torch.Tensor, size: int) -> torch.Tensor:
    """[b, C, L, L] to [b, 10, C, size, size]: four corners and the centre, then the same of the mirror images."""
    far = images.shape[-1] - size
    middle = round(far / 2)
    places = ((0, 0), (0, far), (far, 0), (far, far), (middle, middle))
    crops = [
        view[..., top : top + size, left_edge : left_edge + size]
        for view in (images, images.flip(-1))
        for top, left_edge in places
    ]
    return torch.stack(crops, 1)


def normalize(
    images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, dtype: torch.dtype, channels_last: bool
) -> torch.Tensor:
    """[b, C, H, W] (bytes, or floats in 0 to 1) less mean over std, in `dtype` and in the memory layout asked for."""
    # One channel lies the same either way, and a processor's convolutions are faster where its strides say NHWC.
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
    # Long rows of pixels, in the order of memory: torch broadcasts over three channels ten times slower. And as many
    # images at once as stay in the cache until they are done, which in bf16 takes a fifth of the time.
    out = torch.empty(images.shape, dtype=dtype, memory_format=torch.channels_last)
    scale, offset = scale.repeat(images.shape[3]), offset.repeat(images.shape[3])
    few = max(CACHED // images.shape[1:].numel(), 1)
    rows, pixels = (values.permute(0, 2, 3, 1).flatten(2) for values in (out, images))
    for to, of in zip(rows.split(few), pixels.split(few), strict=True):
        to.copy_(of.to(torch.float32, copy=True).mul_(scale).sub_(offset))
    return out
