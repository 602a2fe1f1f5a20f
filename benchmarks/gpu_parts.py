"""Parts of benchmarks/gpu.py: functions of a setting and a scratch folder that return figures."""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Device and data of the parts."""

    toy: bool
    """Whether to run small sizes on the CPU."""
    data: Path | None
    """Folder of data sets."""

    @property
    def device(self) -> str:
        return "cpu" if self.toy else "cuda"


@dataclass(kw_only=True)
class Outcome:
    """Results of a part."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    """Rows of the table: figure and value."""
    figures: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, value: float | None, unit: str = "", digits: int = 0) -> None:
        """Add a figure to the rows and the figures."""
        self.figures[name] = value
        self.rows.append(
            (name.replace("_", " "), "not known" if value is None else f"{value:,.{digits}f} {unit}".strip())
        )


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part and its time limit."""

    run: Callable[[Setting, Path], Outcome]
    limit_s: float


def train(setting: Setting, run: Path, *argv: str) -> dict[str, Any]:
    """Run `distdl.train` in a separate process. Returns its result.json."""
    common = ["--out", str(run), "--progress", "plain", "--compute.device", setting.device]
    command = [sys.executable, "-m", "distdl.train", *argv, *common]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout, flush=True)
    if done.returncode:
        sys.exit(f"distdl.train {' '.join(argv)}: {(done.stdout.strip().splitlines() or ['no output'])[-1]}")
    return json.loads((run / "result.json").read_text(encoding="utf-8"))


def steady(result: dict[str, Any]) -> float:
    """Return the training throughput in images per second, without warm-up (compilation)."""
    return result["images"] / max(result["train_s"] - result.get("warm_s", 0.0), 1e-9)


def training(setting: Setting, folder: Path) -> Outcome:
    """resnet50, bf16, channels_last, compiled, synthetic input: images/s, MFU and the waterfall."""
    from distdl.cli.explain import read_run
    from distdl.perf.usage.waterfall import waterfall

    argv = ["--profile", "resnet50-synthetic", "--telemetry.hz", "10", "--telemetry.profile-steps", "5"]
    argv += TOY_NETWORK if setting.toy else ["--max-steps", "150"]
    result = train(setting, folder / "run", *argv)
    losses = waterfall(*read_run(folder / "run"))
    outcome = Outcome(figures={"result": result, "waterfall": losses.as_dict()})
    outcome.add("images_per_s", steady(result))
    outcome.add("mfu_percent", None if losses.mfu is None else 100 * losses.mfu, "%", 1)
    for part in losses.parts:
        outcome.rows.append((f"  {part.name}", f"{part.share:.1%}  {part.seconds:.2f} s  {part.what}"))
    outcome.rows.append(("  unaccounted", f"{losses.unaccounted:.1%}"))
    outcome.rows.append(("  largest loss", f"{losses.largest}: {losses.remedy}"))
    return outcome


def plain_loop(setting: Setting, folder: Path) -> Outcome:
    """The same training as a manual loop, with and without compilation: the reference for distdl's images/s."""
    import torch
    import torchvision

    name, batch, size, steps = ("resnet18", 4, 64, 4) if setting.toy else ("resnet50", 256, 224, 60)
    device, outcome = torch.device(setting.device), Outcome()
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    for compiled in (False, True):
        if compiled and setting.toy:
            continue
        torch.manual_seed(0)
        network = torchvision.models.get_model(name).to(device, memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, fused=True)
        images = torch.randn(batch, 3, size, size, device=device).to(torch.bfloat16, memory_format=torch.channels_last)
        labels = torch.randint(1000, (batch,), device=device)
        forward = torch.compile(network) if compiled else network

        def step(forward=forward, optimizer=optimizer, images=images, labels=labels) -> None:
            with torch.autocast(device.type, torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(forward(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        rate = batch * steps / timed(step, steps, device)
        outcome.add(f"{'compiled' if compiled else 'eager'}_images_per_s", rate)
    return outcome


def timed(step: Callable[[], None], steps: int, device: Any, warm: int = 10) -> float:
    """Measure the seconds of `steps` steps after a warm-up; synchronizes with the device only at the start and end."""
    import torch

    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for _ in range(min(warm, steps)):
        step()
    wait()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return time.perf_counter() - start


def fast_profiles(setting: Setting, folder: Path) -> Outcome:
    """The fast profiles on real data: accuracy and seconds of training."""
    from distdl.core.profiles import profiles

    outcome = Outcome()
    cuda = [] if setting.toy else ["--compute.precision", "bf16", "--compute.channels-last"]
    wanted = {"digits": [], "mnist-fast": cuda, "resnet20-cifar10": [*cuda, "--epochs", "12"]}
    for name, argv in wanted.items():
        if name not in profiles() or (name != "digits" and setting.data is None):
            outcome.rows.append((name, "omitted: no --data" if name in profiles() else "omitted: no such profile"))
            continue
        data = ["--data.root", str(setting.data)] if setting.data else []
        small = ["--epochs", "1", "--data.limit", "500"] if setting.toy else []
        result = train(setting, folder / name, "--profile", name, *argv, *small, *data)
        accuracy = (result.get("test") or result["validation"])["accuracy"]
        outcome.figures[name] = {"accuracy": accuracy, "train_s": result["train_s"], "epochs": result["epochs"]}
        text = f"{accuracy:.2%} after {result['epochs']} epochs, {result['train_s']:.1f} s of training"
        outcome.rows.append((name, f"{text}, {steady(result):,.0f} images/s"))
    return outcome


def resident_input(setting: Setting, folder: Path) -> Outcome:
    """CIFAR-10's shape with loader resident, compared with the same network on synthetic input."""
    import numpy as np

    random, count = np.random.default_rng(0), 200 if setting.toy else 10_000
    data = folder / "data" / "cifar-10-batches-bin"
    data.mkdir(parents=True)
    for name in (*(f"data_batch_{part}" for part in range(1, 6)), "test_batch"):
        records = random.integers(0, 256, (count, 3073), np.uint8)
        records[:, 0] %= 10
        (data / f"{name}.bin").write_bytes(records.tobytes())
    (data / "batches.meta.txt").write_text("\n".join(f"noise {number}" for number in range(10)) + "\n")
    argv = ["--profile", "resnet20-cifar10", "--data.root", str(data.parent), "--data.batch-size", "1024"]
    argv += ["--data.drop-last", "--checkpoint.every-epochs", "0", "--evaluate-every", "100", "--telemetry.hz", "10"]
    argv += ["--data.batch-size", "64", "--epochs", "1"] if setting.toy else ["--epochs", "6"]
    argv += [] if setting.toy else ["--compute.precision", "bf16", "--compute.channels-last"]
    outcome, rates = Outcome(), {}
    for loader in ("resident", "synthetic"):
        plain = ["--data.augment.flip", "0", "--data.augment.crop", "0"] if loader == "synthetic" else []
        result = train(setting, folder / loader, *argv, "--data.loader", loader, *plain)
        rates[loader] = steady(result)
        outcome.add(f"{loader}_images_per_s", rates[loader])
    outcome.add("resident_over_synthetic", rates["resident"] / rates["synthetic"], digits=3)
    return outcome


def jpeg_input(setting: Setting, folder: Path) -> Outcome:
    """resnet50 at 224 px fed from JPEGs on disk, compared with synthetic input: ratio of speeds and cores needed."""
    cores = len(os.sched_getaffinity(0))
    photos(folder / "photos", 64 if setting.toy else 4096, cores)
    argv = [
        "--profile",
        "resnet50-synthetic",
        "--compute.no-compile",
        "--data.batch-size",
        "128",
        "--telemetry.hz",
        "10",
    ]
    argv += [*TOY_NETWORK, "--max-steps", "6"] if setting.toy else ["--max-steps", "60"]
    outcome, rates = Outcome(), {}
    rates["synthetic"] = steady(train(setting, folder / "synthetic", *argv))
    outcome.add("synthetic_images_per_s", rates["synthetic"])
    jpeg = ["--data.name", str(folder / "photos"), "--data.augment.random-resized-crop", "--epochs", "100"]
    for loader in loaders():
        result = train(setting, folder / loader, *argv, *jpeg, "--data.loader", loader, "--evaluate-every", "100")
        rates[loader] = steady(result)
        outcome.add(f"{loader}_images_per_s", rates[loader])
        outcome.add(f"{loader}_cores_needed", cores * rates["synthetic"] / rates[loader], f"(of {cores} here)", 1)
    return outcome


def loaders() -> list[str]:
    """Loaders of files that are installed."""

    try:
        import nvidia.dali  # noqa: F401
    except ImportError:
        return ["torch"]
    return ["torch", "dali"]


def photos(folder: Path, count: int, processes: int) -> None:
    """`count` JPEGs of 500 x 375 pixels in ten classes under train/ and a few under test/: smooth noise."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(photo, [(folder, number, count) for number in range(count + 10)], chunksize=64))


def photo(job: tuple[Path, int, int]) -> None:
    """Write one of the photographs."""
    import numpy as np
    from PIL import Image

    folder, number, count = job
    random = np.random.default_rng(number)
    coarse = Image.fromarray(random.integers(0, 256, (47, 63, 3), np.uint8)).resize((500, 375), Image.BICUBIC)
    noise = random.normal(0, 6, (375, 500, 3))
    image = Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8))
    place = folder / ("train" if number < count else "test") / f"class{number % 10}"
    place.mkdir(parents=True, exist_ok=True)
    image.save(place / f"{number:05d}.jpg", quality=85)


def nvml(setting: Setting, folder: Path) -> Outcome:
    """Compare the sampler under a steady load with nvidia-smi at the same time, and measure the cost of a sample."""
    if setting.toy:
        return Outcome(rows=[("nvml", "omitted: it needs a GPU")])
    import torch

    from distdl.telemetry.nvml import NvmlDevice, uuid_of

    uuid = uuid_of(str(torch.cuda.get_device_properties(0).uuid), 0)
    if uuid is None:
        raise RuntimeError("NVML does not list the device that torch uses")
    device, outcome = NvmlDevice(uuid), Outcome()
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            for _ in range(20):
                a @ b
            torch.cuda.synchronize()

    thread = threading.Thread(target=load)
    thread.start()
    try:
        time.sleep(2)
        device.sample()
        pairs, samples, cpu_s, began = [], [], time.thread_time(), time.monotonic()
        for _ in range(40):
            time.sleep(0.1)
            start = time.perf_counter()
            samples.append(device.sample() | {"took_s": time.perf_counter() - start})
        cpu_s, span_s = time.thread_time() - cpu_s, time.monotonic() - began
        for _ in range(6):
            pairs.append((device.sample(), nvidia_smi(uuid)))
            time.sleep(0.5)
    finally:
        stop.set()
        thread.join()
    for field_name, column in SMI.items():
        sampled = statistics.median(
            [sample[field_name] for sample, _ in pairs if field_name in sample] or [float("nan")]
        )
        reported = statistics.median(row[column] for _, row in pairs)
        scale = 2**20 if field_name.endswith("_bytes") else 1
        outcome.figures[field_name] = {"distdl": sampled / scale, "nvidia_smi": reported}
        outcome.rows.append((field_name, f"{sampled / scale:,.1f}; nvidia-smi {reported:,.1f}"))
    for name in ("sm_active_percent", "tensor_active_percent", "dram_active_percent", "pcie_rx_bytes_per_s"):
        seen = [sample[name] for sample in samples if name in sample]
        outcome.add(name, statistics.median(seen) if seen else None, digits=1)
    powers = [sample["power_w"] for sample in samples if "power_w" in sample]
    counted = samples[-1].get("energy_j", 0.0) - samples[0].get("energy_j", 0.0)
    outcome.add(
        "energy_by_counter_over_power", counted / (statistics.mean(powers) * span_s) if powers else None, digits=3
    )
    outcome.add("sample_ms", 1e3 * statistics.median(sample["took_s"] for sample in samples), "ms", 2)
    outcome.add("sampling_cpu_percent_of_a_core_at_10_hz", 100 * cpu_s / span_s, "%", 3)
    outcome.figures["samples"] = samples
    device.close()
    return outcome


SMI = {
    "busy_percent": "utilization.gpu",
    "memory_used_bytes": "memory.used",
    "memory_total_bytes": "memory.total",
    "sm_clock_mhz": "clocks.sm",
    "memory_clock_mhz": "clocks.mem",
    "power_w": "power.draw",
    "temperature_c": "temperature.gpu",
}
"""Names of the compared fields: distdl's and nvidia-smi's."""


def nvidia_smi(uuid: str) -> dict[str, float]:
    """Current values of a device from nvidia-smi."""
    query = ["nvidia-smi", "-i", uuid, f"--query-gpu={','.join(SMI.values())}", "--format=csv,noheader,nounits"]
    line = subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip()
    return dict(zip(SMI.values(), map(float, line.split(",")), strict=True))


def calibration(setting: Setting, folder: Path) -> Outcome:
    """Calibrate this device as `distdl calibrate` does, and compare predictions for other networks."""
    import torch
    import torchvision

    from distdl.cli.calibrate import arithmetic, calibrate
    from distdl.perf import hardware
    from distdl.perf.cost.calibration import stored
    from distdl.profiling import timing
    from distdl.profiling.counting.count import count

    names, batch = (UNSEEN[:1], 2) if setting.toy else (UNSEEN, 32)
    precision, place, file = "fp32" if setting.toy else "bf16", torch.device(setting.device), folder / "machine.toml"
    calibrate(file, on=setting.device, precision=precision, batches=(2,) if setting.toy else (), rounds=1)
    device, outcome, errors = hardware.device(str(file)), Outcome(), []
    outcome.add("product_tflops", device.peak_tflops[precision], f"TFLOP/s, {precision}", 1)
    outcome.add("copy_gb_per_s", device.bandwidth_gb_per_s, "GB/s")
    fit = stored(device, precision)
    for name in names:
        model = torchvision.models.get_model(name)
        network = count(model, batch=batch, training=True, name=name)
        images = torch.randn(batch, 3, 224, 224, device=place)
        with arithmetic(place, precision):
            measured_s = timing.total(model.to(place), images, rounds=1 if setting.toy else 5).step_s
        predicted_s = fit.step_s(network, device, precision)
        errors.append(abs(predicted_s / measured_s - 1))
        outcome.figures[name] = {"measured_s": measured_s, "predicted_s": predicted_s, "batch": batch}
        both = f"{1e3 * measured_s:,.1f} ms per step, {1e3 * predicted_s:,.1f} predicted"
        outcome.rows.append((f"  {name}, batch {batch}", f"{both}, {predicted_s / measured_s - 1:+.1%}"))
    outcome.add("mean_error_percent", 100 * statistics.mean(errors), "%", 1)
    return outcome


UNSEEN = ("resnet50", "vgg11", "mobilenet_v2", "densenet121", "vit_b_16")
"""Networks that the calibration does not measure."""
TOY_NETWORK = (
    *("--model.name", "resnet18", "--data.image-size", "64", "--data.batch-size", "4", "--max-steps", "18"),
    "--compute.no-compile",
)
PARTS = {
    "train": Part(run=training, limit_s=130),
    "plain": Part(run=plain_loop, limit_s=90),
    "nvml": Part(run=nvml, limit_s=30),
    "resident": Part(run=resident_input, limit_s=50),
    "jpeg": Part(run=jpeg_input, limit_s=70),
    "profiles": Part(run=fast_profiles, limit_s=70),
    "calibrate": Part(run=calibration, limit_s=80),
}
"""Parts in order of importance, since time may run out. The sum of their time limits is below the total limit."""
