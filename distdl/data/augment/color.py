"""Colour jitter of a batch, each image by its own factors, with torchvision's definitions of every change.

Images are [b, C, H, W] floats in 0 to 1, factors [b]. Unlike torchvision's ColorJitter the four changes come in one
order, brightness, contrast, saturation, hue, so that a batch can be changed at once.
"""

import torch

GRAY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601, as torchvision rounds them)."""


def jitter(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Change the images by `factors` [b, 4]: brightness, contrast, saturation (1 leaves them) and hue (0 leaves it).

    Gray images have neither saturation nor hue.
    """
    brightness, contrast, saturation, hue = factors.to(images.dtype).unbind(1)
    images = adjust_contrast(adjust_brightness(images, brightness), contrast)
    if images.shape[1] == 3:
        images = adjust_hue(adjust_saturation(images, saturation), hue)
    return images


def adjust_brightness(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Towards black."""
    return (images * factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def adjust_contrast(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Towards the image's mean gray."""
    return _blend(images, gray(images).mean((1, 2, 3), keepdim=True), factor)


def adjust_saturation(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Towards each pixel's gray."""
    return _blend(images, gray(images), factor)


def adjust_hue(images: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Turn the hue by `shift` of the whole circle."""
    hue, saturation, value = _to_hsv(images)
    return _to_rgb((hue + shift.view(-1, 1, 1)) % 1.0, saturation, value)


def gray(images: torch.Tensor) -> torch.Tensor:
    """[b, 1, H, W]."""
    if images.shape[1] == 1:
        return images
    # Numbers, not a tensor of them: making one on a GPU waits for all that the stream has still to do.
    red, green, blue = (weight * channel for weight, channel in zip(GRAY, images.split(1, 1), strict=True))
    return red + green + blue


def _blend(image_values: torch.Tensor, other_values: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    share = share.view(-1, 1, 1, 1)
    return (image_values * share + other_values * (1 - share)).clamp_(0, 1)


def _to_hsv(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    red, green, blue = images.unbind(1)
    value, least = images.amax(1), images.amin(1)
    spread = value - least
    # A gray pixel has no hue: dividing its zeros by 1 gives hue and saturation 0.
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
    sectors, strength = hue * 6, saturation * value

    def channel(offset: int) -> torch.Tensor:
        place = (sectors + offset) % 6
        return value - strength * torch.minimum(place, 4 - place).clamp_(0, 1)

    return torch.stack([channel(5), channel(3), channel(1)], 1)
