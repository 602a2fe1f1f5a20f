"""Color jitter of a batch: each image has its own factors, and each adjustment is defined as in torchvision.

Images are [b, C, H, W] floats in 0 to 1, factors are [b]. Unlike in torchvision's ColorJitter the order of the four
adjustments is fixed (brightness, contrast, saturation, hue), so that a whole batch is processed in one call.
"""

import torch

GRAY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601, as torchvision rounds them)."""


def jitter(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Adjust images [b, C, H, W] by `factors` [b, 4]: brightness, contrast, saturation (1: no change), hue (0: none).

    Gray images (C = 1) have neither saturation nor hue.
    """
    brightness, contrast, saturation, hue = factors.to(images.dtype).unbind(1)
    images = adjust_contrast(adjust_brightness(images, brightness), contrast)
    if images.shape[1] == 3:
        images = adjust_hue(adjust_saturation(images, saturation), hue)
    return images


def adjust_brightness(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Blend each image with black: `factor` [b], 1 for no change."""
    return (images * factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def adjust_contrast(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Blend each image with its mean gray value: `factor` [b], 1 for no change."""
    return _blend(images, gray(images).mean((1, 2, 3), keepdim=True), factor)


def adjust_saturation(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Blend each pixel with its gray value: `factor` [b], 1 for no change."""
    return _blend(images, gray(images), factor)


def adjust_hue(images: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Rotate the hue by `shift` [b], a fraction of the color circle."""
    hue, saturation, value = _to_hsv(images)
    return _to_rgb((hue + shift.view(-1, 1, 1)) % 1.0, saturation, value)


def gray(images: torch.Tensor) -> torch.Tensor:
    """Convert images [b, C, H, W] to gray, [b, 1, H, W]."""
    if images.shape[1] == 1:
        return images
    # Python numbers instead of a tensor: creating a tensor on a GPU from host values synchronizes the stream.
    red, green, blue = (weight * channel for weight, channel in zip(GRAY, images.split(1, 1), strict=True))
    return red + green + blue


def _blend(image_values: torch.Tensor, other_values: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    share = share.view(-1, 1, 1, 1)
    return (image_values * share + other_values * (1 - share)).clamp_(0, 1)


def _to_hsv(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    red, green, blue = images.unbind(1)
    value, minimum = images.amax(1), images.amin(1)
    spread = value - minimum
    # A gray pixel has no hue: a divisor of 1 gives it hue and saturation 0.
    saturation = spread / torch.where(spread == 0, 1, value)
    divisor = torch.where(spread == 0, 1, spread)
    from_red, from_green, from_blue = ((value - channel) / divisor for channel in (red, green, blue))
    sixth = torch.where(
        value == red,
        from_blue - from_green,
        torch.where(value == green, 2 + from_red - from_blue, 4 + from_green - from_red),
    )
    return (sixth / 6 + 1) % 1.0, saturation, value


def _to_rgb(hue: torch.Tensor, saturation: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    # Each channel is a trapezoid in hue, shifted by a third of the circle (Smith 1978, in closed form).
    sectors, chroma = hue * 6, saturation * value

    def channel(offset: int) -> torch.Tensor:
        position = (sectors + offset) % 6
        return value - chroma * torch.minimum(position, 4 - position).clamp_(0, 1)

    return torch.stack([channel(5), channel(3), channel(1)], 1)
