"""DALI pipelines: crop windows from encoded images and, on a GPU, resize and normalize them.

All random numbers are inputs (distdl.core.counter_rng): a pipeline has no random generator, and so no state.
"""

from dataclasses import dataclass
from typing import Any

from nvidia.dali import fn
from nvidia.dali.pipeline import Pipeline, pipeline_def
from nvidia.dali.types import DALIDataType, DALIImageType, DALIInterpType

DTYPES = {"fp32": DALIDataType.FLOAT, "fp16": DALIDataType.FLOAT16}
"""Output type for a run's precision. DALI cannot output bf16; it is converted from fp32 later."""


@dataclass(frozen=True, kw_only=True)
class PipelineSpec:
    """Description of a pipeline."""

    batch: int
    """Maximum number of samples per batch."""
    threads: int
    depth: int
    """Number of batches in flight."""
    device_id: int | None
    """The GPU that decodes and resizes; None for the CPU."""
    channels: int
    size: int | None
    """Height and width, in pixels, to which windows are resized; None for no resize: on a CPU torch is seven times as
    fast."""
    mean: tuple[float, ...] = ()
    """Mean per channel, in 0 to 1. With `mean` and `std`, images are also mirrored and normalized; without, the output
    is bytes."""
    std: tuple[float, ...] = ()
    precision: str = "fp32"
    channels_last: bool = False


def build(spec: PipelineSpec) -> Pipeline:
    """Build a pipeline with the inputs `encoded`, `anchor` and `shape` ([2] each: rows, columns) and the output images.

    With `mean` set there is a fourth input, `mirror`.
    """
    on_gpu = spec.device_id is not None

    # The stub of device_id omits None, which builds a pipeline without a GPU.
    device: dict[str, Any] = {"device_id": spec.device_id}

    @pipeline_def(batch_size=spec.batch, num_threads=spec.threads, prefetch_queue_depth=spec.depth, **device)
    def steps() -> Any:
        encoded, anchor, shape = (fn.external_source(name=name) for name in ("encoded", "anchor", "shape"))
        images: Any = fn.decoders.image_slice(
            encoded,
            anchor,
            shape,
            axis_names="HW",
            normalized_anchor=False,
            normalized_shape=False,
            output_type=DALIImageType.RGB if spec.channels == 3 else DALIImageType.GRAY,
            # "mixed" uses the GPU's hardware decoder where it can; chroma upsampling is the same as on the CPU.
            **({"device": "mixed", "jpeg_fancy_upsampling": True} if on_gpu else {}),
        )
        if spec.size is None:
            return images
        images = fn.resize(
            images, size=[spec.size, spec.size], interp_type=DALIInterpType.INTERP_LINEAR, antialias=True
        )
        if spec.mean:
            images = fn.crop_mirror_normalize(
                images,
                mirror=fn.external_source(name="mirror"),
                mean=[255 * value for value in spec.mean],
                std=[255 * value for value in spec.std],
                dtype=DTYPES.get(spec.precision, DALIDataType.FLOAT),
                output_layout="HWC" if spec.channels_last else "CHW",
            )
        return images

    pipeline = steps()
    pipeline.build()
    return pipeline
