"""Loader `dali`: NVIDIA DALI decodes on a GPU or on CPU cores, with the sample order and random numbers of all loaders.

On a GPU one pipeline decodes (in hardware if available) and resizes. If no other augmentation follows, it also mirrors
and normalizes. Its resize differs from torch's: by less than two of 256 levels per pixel on average. On a CPU it
decodes the windows only; the other stages are those of loader torch.
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch

from distdl.core.errors import UserError, missing
from distdl.data.dataset import Batch, EncodedSplit
from distdl.data.files import File
from distdl.data.loaders.base import ChunkLoader
from distdl.data.loaders.dali_input import BLANK, DaliImage, prepare, prepare_decoded
from distdl.data.loaders.order import Step
from distdl.data.loaders.prefetch import steps_ahead
from distdl.data.loaders.samples import Chunk, Samples
from distdl.data.loaders.spec import LoaderSpec
from distdl.data.storage.decode import WindowOf, resize
from distdl.runtime.cores import cores

if TYPE_CHECKING:
    from nvidia.dali.pipeline import Pipeline

DEPTH = 3
"""Number of batches in flight in a pipeline."""
WINDOW_PARTS = (slice(0, 2), slice(2, 4))
"""The two parts of a window: its first row and column, and its shape."""
PREFETCH = 4
"""Number of batches that are read from disk before a pipeline needs them."""


class DaliLoader(ChunkLoader):
    """Reads each batch in one thread; DALI's threads decode and resize it."""

    name = "dali"

    def __init__(self, spec: LoaderSpec, reason: str) -> None:
        if find_spec("nvidia") is None or find_spec("nvidia.dali") is None:
            raise missing("NVIDIA DALI", "dali")
        if not isinstance(spec.split, EncodedSplit):
            raise UserError(f"data.loader dali decodes files, and {spec.dataset.name} is in memory: use resident")
        super().__init__(spec, reason)
        self._undecodable: set[File] = set()
        """Files that DALI failed to decode: they are passed to it as bitmaps."""
        self.samples = Samples(spec)
        workers = spec.config.data.workers
        self.threads = cores(spec.world.local_size) if workers < 0 else max(workers, 1)
        self.on_gpu = spec.world.device.type == "cuda"
        self.normalizes = self.on_gpu and self.transform.is_identity and not spec.config.data.augment.crop
        # The pool has one thread per core: each of them must compute with a single thread.
        self._pool = ThreadPoolExecutor(max(self.threads, 2), "distdl-dali", partial(torch.set_num_threads, 1))
        self._pipeline: Pipeline | None = self._build(spec.batch)
        self._in_flight = 0

    def _build(self, batch: int) -> "Pipeline":
        from distdl.data.loaders.dali_pipeline import PipelineSpec, build

        spec = self.spec
        moments = {"mean": spec.dataset.mean, "std": spec.dataset.std} if self.normalizes else {}
        return build(
            PipelineSpec(
                batch=batch,
                threads=self.threads,
                depth=DEPTH,
                device_id=spec.world.device.index or 0 if self.on_gpu else None,
                channels=spec.dataset.channels,
                size=spec.read_size if self.on_gpu else None,
                precision=spec.config.compute.precision,
                channels_last=spec.config.compute.channels_last,
                **moments,
            )
        )

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield this rank's batches of `epoch`, after the first `start` samples (counted over all ranks).

        Raises:
            UserError: a file cannot be read, and data.on_error is raise.
        """
        self._drain()
        chunks = self._read_ahead(epoch, start)
        waiting: deque[tuple[Step, Chunk]] = deque()
        try:
            while True:
                while len(waiting) < DEPTH and (item := next(chunks, None)):
                    waiting.append(item)
                    self._feed(item[1])
                if not waiting:
                    return
                step, chunk = waiting[0]
                if chunk.error:
                    raise UserError(chunk.error)
                chunk, images = self._decoded(epoch, waiting)
                waiting.popleft()
                yield self.batch(step, chunk, images)
        finally:
            chunks.close()
            self._drain()

    def _read_ahead(self, epoch: int, start: int) -> Generator[tuple[Step, Chunk], None, None]:
        def read(step: Step) -> tuple[Step, Chunk]:
            return step, self.samples.gather(epoch, step.indices, self._prepare)

        futures: deque[Future] = deque()
        try:
            for step in steps_ahead(self.spec, epoch, start):
                futures.append(self._pool.submit(read, step))
                if len(futures) > PREFETCH:
                    yield futures.popleft().result()
            while futures:
                yield futures.popleft().result()
        finally:
            for future in futures:
                future.cancel()

    def _prepare(self, file: File, window: WindowOf) -> DaliImage:
        load = prepare_decoded if file in self._undecodable else prepare
        return load(file, window, self.spec.dataset.channels, self.spec.config.data.max_pixels)

    def _feed(self, chunk: Chunk) -> None:
        if chunk.error:
            return  # the error is raised when the chunk is due
        images = chunk.images + [BLANK] * (len(chunk.indices) - chunk.readable)
        self._run(self._running(), images, chunk.params.get("flip"))
        self._in_flight += 1

    def _run(self, pipeline: "Pipeline", images: list[DaliImage], flip: np.ndarray | None) -> None:
        anchors, shapes = (np.array([image.window[part] for image in images], np.int32) for part in WINDOW_PARTS)
        inputs = {"encoded": [image.content for image in images], "anchor": anchors, "shape": shapes}
        if self.normalizes:
            inputs["mirror"] = (np.zeros(len(anchors)) if flip is None else flip).astype(np.int32)
        for name, value in inputs.items():
            pipeline.feed_input(name, value)
        pipeline._run_once()  # schedule_run() would first wait for a full queue, which a short epoch cannot fill

    def _decoded(self, epoch: int, waiting: deque[tuple[Step, Chunk]]) -> tuple[Chunk, torch.Tensor]:
        """Decode the first waiting chunk. If DALI fails to decode files, read only those again, as bitmaps."""
        while True:
            step, chunk = waiting[0]
            try:
                return chunk, self._output()
            except RuntimeError as error:
                if "pipeline" not in str(error) or not (failed := self._failed(chunk)):
                    raise
            self._undecodable |= failed
            # A pipeline cannot be used after an error.
            self._pipeline, self._in_flight = self._build(self.spec.batch), 0
            chunk = self.samples.gather(epoch, step.indices, self._prepare)
            waiting[0] = step, chunk
            if chunk.error:
                raise UserError(chunk.error)
            for _, pending in waiting:
                self._feed(pending)

    def _failed(self, chunk: Chunk) -> set[File]:
        """Find the files of a chunk that DALI cannot decode, by decoding each alone: its error names no file."""
        failed: set[File] = set()
        pipeline = None
        for image, index in zip(chunk.images, chunk.indices.tolist(), strict=False):
            pipeline = pipeline or self._build(1)
            try:
                self._run(pipeline, [image], None)
                pipeline.share_outputs()
                pipeline.release_outputs()
            except RuntimeError:
                failed.add(self.samples.files[index])
                pipeline = None
        return failed

    def _running(self) -> "Pipeline":
        assert self._pipeline is not None  # until the loader is closed
        return self._pipeline

    def _output(self) -> torch.Tensor:
        pipeline = self._running()
        stream = torch.cuda.current_stream(self.spec.world.device) if self.on_gpu else None
        (images,) = pipeline.share_outputs(stream)
        pipeline.release_outputs()  # in DALI's default executor, outputs stay valid while they are referenced
        self._in_flight -= 1
        return torch.from_dlpack(images.as_tensor()) if self.on_gpu else self._resized(images)

    def _resized(self, windows: Sequence) -> torch.Tensor:
        """Resize a pipeline's windows, each of any size, to [b, size, size, channels] uint8."""
        size, channels = self.spec.read_size, self.spec.dataset.channels
        images = torch.empty(len(windows), size, size, channels, dtype=torch.uint8)

        def fill(first: int) -> None:
            for index in range(first, len(windows), self.threads):
                window = torch.from_dlpack(windows[index]).permute(2, 0, 1)
                images[index] = resize(window, size).permute(1, 2, 0)

        list(self._pool.map(fill, range(self.threads)))
        return images

    def _transformed(
        self, images: torch.Tensor, labels: torch.Tensor, chunk: Chunk
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.normalizes:
            return super()._transformed(images, labels, chunk)
        images = images.permute(0, 3, 1, 2) if self.spec.config.compute.channels_last else images
        return images.to(self.transform.dtype), self.transform.targets(labels)

    def _drain(self) -> None:
        """Discard the outputs that an epoch requested but did not consume because it was left early."""
        while self._in_flight:
            self._in_flight -= 1
            try:
                pipeline = self._running()
                pipeline.share_outputs()
                pipeline.release_outputs()
            except RuntimeError:
                self._pipeline, self._in_flight = self._build(self.spec.batch), 0
            except AttributeError:
                return  # the interpreter is exiting, and DALI has already ended its pipelines

    def close(self) -> None:
        """End the threads and release the device's memory."""
        if self._pipeline is None:
            return
        self._drain()
        self._pool.shutdown(cancel_futures=True)
        self._pipeline = None
