"""The transform from bytes to network input, compared with numpy stage by stage."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from distdl.core.config import AugmentConfig, ComputeConfig, Config, DataConfig
from distdl.data.loaders.batch_transform import BatchTransform, cut_bytes, on_device, single_threaded, transfer
from distdl.data.loaders.spec import LoaderSpec
from distdl.runtime.world import World
from distdl.telemetry.clock import Clock
from gpu_fake import CUDA, NewTensorsOnCpu, on_gpu, simulate_gpu
from numbered_sets import numbered, pictures

CPU = torch.device("cpu")


def spec_of(
    kind: str, tmp_path: Path, training: bool = True, augment: AugmentConfig | None = None, **data: object
) -> LoaderSpec:
    dataset = replace(numbered(kind, 9, tmp_path), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    config = Config(data=DataConfig(augment=augment or AugmentConfig(), **data))
    return LoaderSpec(config=config, dataset=dataset, split=dataset.train, world=World(), training=training)


def images_of(n: int, size: int = 24) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures(n)[:, :size, :size]))


def normalized(images: torch.Tensor) -> np.ndarray:
    """Normalize bytes [b, H, W, C] to floats [b, C, H, W], by the definition."""
    values = (images.numpy() / 255 - np.array([0.4, 0.5, 0.6])) / np.array([0.2, 0.25, 0.3])
    return values.transpose(0, 3, 1, 2)


class TestCutBytes:
    def test_without_parameters_the_images_are_returned_unchanged(self) -> None:
        images = images_of(2)
        assert cut_bytes(images, {}, 4) is images

    def test_some_images_are_mirrored_in_place(self) -> None:
        images = images_of(3)
        original = images.numpy().copy()
        cut = cut_bytes(images, {"flip": torch.tensor([True, False, True])}, 0)
        assert cut.data_ptr() == images.data_ptr()
        assert (cut.numpy() == np.stack([original[0, :, ::-1], original[1], original[2, :, ::-1]])).all()

    @pytest.mark.parametrize("flip", [None, [False, True]])
    def test_a_shift_crops_the_padded_image(self, flip: list[bool] | None) -> None:
        images = images_of(2)
        params = {"shift": torch.tensor([[0, 0], [5, 2]])} | ({} if flip is None else {"flip": torch.tensor(flip)})
        padded = np.pad(images.numpy(), ((0, 0), (3, 3), (3, 3), (0, 0)))
        expected = np.stack([padded[0, 0:24, 0:24], padded[1, 5:29, 2:26]])
        if flip is not None:
            expected[1] = expected[1][:, ::-1]
        assert (cut_bytes(images, params, 3).numpy() == expected).all()


class TestTransform:
    @pytest.mark.parametrize("training", [True, False])
    def test_bytes_are_normalized_by_the_definition(self, training: bool, tmp_path: Path) -> None:
        transform = BatchTransform(spec_of("memory", tmp_path, training))
        assert transform.is_identity
        images = images_of(4)
        actual, labels = transform(images, torch.arange(4), {})
        assert actual.dtype == torch.float32 and np.allclose(actual.numpy(), normalized(images), atol=1e-5)
        assert labels.tolist() == [0, 1, 2, 3]

    def test_a_neutral_stage_leaves_the_result_unchanged(self, tmp_path: Path) -> None:
        """With a stage, images become floats before they are normalized."""
        transform = BatchTransform(spec_of("files", tmp_path, augment=AugmentConfig(rotation=20)))
        assert not transform.is_identity
        images = images_of(4)
        actual, _ = transform(images, torch.arange(4), {"angle": torch.zeros(4)})
        assert np.allclose(actual.numpy(), normalized(images), atol=1e-5)
        turned, _ = transform(images, torch.arange(4), {"angle": torch.tensor([0.0, 0.0, 9.0, 0.0])})
        changed = (turned != actual).flatten(1).any(1)
        assert changed.tolist() == [False, False, True, False]

    @pytest.mark.parametrize(
        ("augment", "stages"),
        [
            (AugmentConfig(), 0),
            (AugmentConfig(flip=0.5, crop=2), 0),
            (AugmentConfig(rotation=1), 1),
            (AugmentConfig(color_jitter=0.1), 1),
            (AugmentConfig(rotation=1, color_jitter=0.1), 2),
            (AugmentConfig(random_resized_crop=True), 0),
        ],
    )
    def test_files_have_float_stages_in_training_only(
        self, augment: AugmentConfig, stages: int, tmp_path: Path
    ) -> None:
        assert len(BatchTransform(spec_of("files", tmp_path, augment=augment)).stages) == stages
        assert BatchTransform(spec_of("files", tmp_path, training=False, augment=augment)).is_identity

    def test_images_in_memory_of_another_size_are_resized(self, tmp_path: Path) -> None:
        transform = BatchTransform(spec_of("memory", tmp_path, image_size=12, augment=AugmentConfig(crop=2)))
        actual, _ = transform(torch.full((2, 24, 24, 3), 51, dtype=torch.uint8), torch.arange(2), {})
        assert actual.shape == (2, 3, 12, 12)
        expected = (0.2 - np.array([0.4, 0.5, 0.6])) / np.array([0.2, 0.25, 0.3])
        assert np.allclose(actual.numpy(), expected[None, :, None, None], atol=1e-5)

    def test_windows_replace_the_resize_in_training_only(self, tmp_path: Path) -> None:
        augment = AugmentConfig(random_resized_crop=True)
        trained, tested = (
            BatchTransform(spec_of("memory", tmp_path, training, augment, image_size=12)) for training in (True, False)
        )
        window = torch.tensor([[0, 0, 12, 12]])
        images = torch.zeros(1, 24, 24, 3, dtype=torch.uint8)
        images[:, :12, :12] = 255
        cut, _ = trained(images, torch.arange(1), {"window": window})
        assert (cut > 0).all()  # the white quarter only
        resized, _ = tested(images, torch.arange(1), {})
        assert (resized > 0).float().mean() < 0.5

    def test_mixing_applies_in_training_only(self, tmp_path: Path) -> None:
        augment = AugmentConfig(mixup=1.0)
        trained, tested = (BatchTransform(spec_of("memory", tmp_path, training, augment)) for training in (True, False))
        assert trained.mixes and not trained.is_identity and tested.is_identity
        assert BatchTransform(spec_of("memory", tmp_path, True, AugmentConfig(cutmix=1.0))).mixes
        mix = torch.tensor([[0.0, 0.75, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
        images, labels = trained(images_of(2), torch.tensor([3, 8]), {"mix": mix})
        # The first image is mixed with the one before it: the last of the batch.
        assert labels[0].nonzero().flatten().tolist() == [3, 8] and labels[0, 3] == 0.75 and labels[0, 8] == 0.25
        assert labels[1].nonzero().flatten().tolist() == [8]
        alone = torch.from_numpy(normalized(images_of(2))).float()
        assert torch.allclose(images[0], 0.75 * alone[0] + 0.25 * alone[1], atol=1e-5)
        assert torch.allclose(images[1], alone[1], atol=1e-5)

    def test_several_labels_divide_the_target(self, tmp_path: Path) -> None:
        transform = BatchTransform(spec_of("memory", tmp_path))
        targets = transform.targets(torch.tensor([[1, 4], [2, -1]]))
        assert targets.shape == (2, 9) and targets[0, [1, 4]].tolist() == [0.5, 0.5] and targets[1, 2] == 1
        assert targets.sum(1).tolist() == [1, 1]
        single = torch.tensor([3, 2])
        assert transform.targets(single) is single

    @pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
    @pytest.mark.parametrize("channels_last", [False, True])
    def test_batches_have_the_configured_precision_and_layout(
        self, precision: str, dtype: torch.dtype, channels_last: bool, tmp_path: Path
    ) -> None:
        spec = spec_of("memory", tmp_path)
        compute = ComputeConfig(precision=precision, channels_last=channels_last)
        transform = BatchTransform(replace(spec, config=replace(spec.config, compute=compute)))
        actual, _ = transform(images_of(2), torch.arange(2), {})
        assert actual.dtype == dtype
        assert actual.is_contiguous(memory_format=torch.channels_last) == channels_last


def test_parameters_become_tensors() -> None:
    params = on_device({"flip": np.array([True]), "shift": np.array([[1, 2]])}, CPU)
    assert params["flip"].dtype == torch.bool and params["shift"].tolist() == [[1, 2]]


def test_the_number_of_threads_is_restored_after_single_threaded_work() -> None:
    previous = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError), single_threaded(CPU):
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
        with single_threaded(torch.device("meta")):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(previous)


def test_transfer_time_is_subtracted_from_data_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The phases add up to the step time, so no interval may count twice."""
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    clock = Clock()
    with clock("data"):
        now += 3
        with transfer(clock, CPU):
            now += 2
    assert (clock.read()["data"], clock.read()["transfer"]) == (3, 2)


def test_transfer_to_a_gpu_is_measured_there_and_not_subtracted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host only queues the copy, so the wait for data does not contain it."""
    gpu = simulate_gpu(monkeypatch)
    clock = Clock(CUDA)
    with transfer(clock, CUDA):
        gpu.queue(2)
    assert clock.read()["transfer"] == 0
    gpu.run(2)
    assert (clock.read()["data"], clock.read()["transfer"]) == (0, 2)


@pytest.mark.parametrize("padding", [0, 2])
def test_bytes_are_cut_on_a_gpu_as_on_a_cpu(padding: int) -> None:
    params = {"flip": torch.tensor([True, False, True])}
    if padding:
        params["shift"] = torch.tensor([[0, 4], [2, 2], [4, 1]])
    images = torch.randint(256, (3, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = cut_bytes(images.clone(), params, padding)
    with NewTensorsOnCpu():
        assert torch.equal(cut_bytes(on_gpu(images), params, padding), expected)
