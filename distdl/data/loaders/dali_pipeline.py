"""DALI pipelines: from encoded images to their windows and, on a GPU, to bytes of one size or what the network takes.

Every random decision comes in with the sample (distdl.core.counter_rng): a pipeline has no generator, and so no state.
"""

from dataclasses import dataclass
from typing import Any

from nvidia.dali import fn
from nvidia.dali.pipeline import Pipeline, pipeline_def
from nvidia.dali.types import DALIDataType, DALIImageType, DALIInterpType

DTYPES = {"fp32": DALIDataType.FLOAT, "fp16": DALIDataType.FLOAT16}
"""Type that is written for a run's precision; bf16, which DALI does not write, is made from fp32."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Description of a pipeline."""

    batch: int
    """The most samples at once."""
    threads: int
    depth: int
    """Batches under way."""
    device_id: int | None
    """The GPU that decodes and resizes; None for the CPU."""
    channels: int
    size: int | None
    """Height and width to which windows are resized; None leaves them: on a CPU torch resizes seven times as fast."""
    mean: tuple[float, ...] = ()
    """With `std`, by channel in 0 to 1: mirror and normalise as well. Without, bytes come out."""
    std: tuple[float, ...] = ()
    precision: str = "fp32"
    channels_last: bool = False


def build(graph: Graph) -> Pipeline:
    """The pipeline: inputs `encoded`, `anchor` and `shape` (each [2]: rows, columns), with a mean also `mirror`."""
    on_gpu = graph.device_id is not None

    # The stub of device_id omits None, which builds a pipeline without a GPU.
    device: dict[str, Any] = {"device_id": graph.device_id}

    @pipeline_def(batch_size=graph.batch, num_threads=graph.threads, prefetch_queue_depth=graph.depth, **device)
    def steps() -> Any:
        encoded, anchor, shape = (fn.external_source(name=name) for name in ("encoded", "anchor", "shape"))
        images: Any = fn.decoders.image_slice(
            encoded,
            anchor,
            shape,
            axis_names="HW",
            normalized_anchor=False,
            normalized_shape=False,
            output_type=DALIImageType.RGB if graph.channels == 3 else DALIImageType.GRAY,
            # A GPU's hardware decoder takes what it can; colors are smoothed as on the CPU.
            **({"device": "mixed", "jpeg_fancy_upsampling": True} if on_gpu else {}),
        )
        if graph.size is None:
            return images
        images = fn.resize(
            images, size=[graph.size, graph.size], interp_type=DALIInterpType.INTERP_LINEAR, antialias=True
        )
        if graph.mean:
            images = fn.crop_mirror_normalize(
                images,
                mirror=fn.external_source(name="mirror"),
                mean=[255 * value for value in graph.mean],
                std=[255 * value for value in graph.std],
                dtype=DTYPES.get(graph.precision, DALIDataType.FLOAT),
                output_layout="HWC" if graph.channels_last else "CHW",
            )
        return images

    pipeline = steps()
    pipeline.build()
    return pipeline
