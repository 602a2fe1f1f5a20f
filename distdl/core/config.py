"""Training configuration as frozen dataclasses. Each field is documented where it is defined.

`distdl.core.profiles` fills them from profiles and the command line; the resolved configuration is written into the run
folder and is itself a profile. Ranges are declared in the types, combinations are checked in `Config.__post_init__`,
and `distdl.core.conditions` names the fields that have no effect, so that nothing is silently ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from distdl.core.names import Name
from distdl.core.patterns import Pattern
from distdl.core.registry import known_in
from distdl.core.validation import not_empty

Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[int, Field(gt=0, lt=2**63)]
Rate = Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False)]
Factor = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
"""A rate times a factor stays within the range of float32."""
Decay = Annotated[float, Field(ge=0, lt=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
AboveZero = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
LearningRate = Annotated[float, Field(gt=0, le=1e30)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
Timeout = Annotated[float, Field(gt=0, le=1e9)]
Text = Annotated[str, Field(min_length=1)]
FilePath = Annotated[Path, BeforeValidator(not_empty)]
"""A path. Python reads an empty one, such as that of an unset shell variable, as the current folder."""


def _options(value: Any) -> Any:
    """KEY.NAME=VALUE texts of a command line as a table of tables."""
    if not isinstance(value, list | tuple):
        return value
    if not value:
        raise ValueError("options needs a value: --options KEY.NAME=VALUE, such as model.depth=3")
    table: dict[str, dict[str, str]] = {}
    for text in value:
        path, equals, setting = str(text).partition("=")
        key, dot, name = path.rpartition(".")
        if not (equals and dot and key and name):
            raise ValueError(f"options: {text!r} is not KEY.NAME=VALUE, such as model.depth=3")
        table.setdefault(key, {})[name] = setting
    return table


AugmentationName = Annotated[str, known_in("augmentations")]
LoaderName = Annotated[str, known_in("loaders")]
LossName = Annotated[str, known_in("losses")]
MetricName = Annotated[str, known_in("metrics")]
OptimizerName = Annotated[str, known_in("optimizers")]
ScheduleName = Annotated[str, known_in("schedules")]
StrategyName = Annotated[str, known_in("strategies")]
TrackerName = Annotated[str, known_in("trackers")]
ComponentOptions = Annotated[Mapping[str, Mapping[str, Any]], BeforeValidator(_options)]

DEFAULT_BATCH = 64
"""Samples per step of each rank if a configuration gives no batch size."""

MAX_PIXELS = 178_956_970
"""Number of pixels above which Pillow refuses an image as a decompression bomb: half a GiB as RGB."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random augmentation of training images, drawn for each sample from (seed, epoch, index). Off by default."""

    flip: Share = 0.0
    """Probability of a horizontal flip."""
    crop: Count = 0
    """Pad by this many pixels on each side and crop a window of the original size at a random position."""
    random_resized_crop: bool = False
    """Crop a window of 8 to 100 % of the area with aspect ratio 3/4 to 4/3, and resize it to the image size."""
    color_jitter: Share = 0.0
    """Probability of changing brightness, contrast and saturation by up to 40 % and hue by up to 0.1."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Rotate by up to this many degrees in either direction."""
    rotation_probability: Share = 0.5
    """Probability of a rotation."""
    mixup: Rate = 0.0
    """mixup: alpha of the Beta distribution (Zhang et al. 2018); pairs are adjacent samples of a rank's batch."""
    cutmix: Rate = 0.0
    """CutMix: alpha of the Beta distribution (Yun et al. 2019). With mixup, each sample gets one of them at random."""
    extra: tuple[AugmentationName, ...] = ()
    """Augmentations of other packages, by name or as package.module:callable."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Data set, loading and preprocessing."""

    name: Text = "digits"
    """A data set by name (`distdl data list`), the path of an image folder, of tar shards or of an archive, or
    package.module:callable."""
    root: FilePath | None = None
    """Folder that is searched for data sets; default: $DISTDL_DATA, else distdl's cache folder."""
    loader: LoaderName = "auto"
    """resident keeps the whole set on the device; torch decodes in worker processes; dali decodes with NVIDIA DALI;
    synthetic generates noise, to measure everything except the input; auto selects one and reports the reason."""
    batch_size: Positive | None = None
    """Samples per step of each rank: the global batch grows with the number of ranks. Default: 64 without
    `global_batch`."""
    global_batch: Count = 0
    """Samples per step over all ranks. The training is the same on any number of ranks that leaves each micro-batch at
    least 8 samples. 0: `batch_size` per rank."""
    eval_batch_size: Count = 0
    """Samples per step of each rank in evaluation; 0: twice the batch size."""
    workers: Annotated[int, Field(ge=-1, lt=2**63)] = -1
    """Decoding processes (torch) or threads (dali) per rank; -1: one per core of the rank."""
    image_size: Count = 0
    """Height and width of the network's input in pixels; 0: the data set's default."""
    validation: Share = 0.0
    """Share of each class that is moved from training to validation, drawn with `split_seed`."""
    split_seed: Seed = 0
    """Seed of the split into training and validation; not `seed`, so that runs with other seeds share a split."""
    limit: Count = 0
    """Number of training samples, balanced over the classes and drawn with `split_seed`; 0: all."""
    labels: FilePath | None = None
    """A .npz file with the training samples and their labels: `indices` [m]; `labels` [m], or [m, k] for up to k labels
    per image with equal weight, -1 for none; optionally `classes`, if there are more than the data set has."""
    normalize: Literal["set", "imagenet", "none"] = "set"
    """Mean and standard deviation for normalization: those of the set, of ImageNet, or none (pixels in 0 to 1)."""
    mean: tuple[Finite, ...] = ()
    """Mean per channel, in 0 to 1; replaces `normalize`."""
    std: tuple[AboveZero, ...] = ()
    """Standard deviation per channel, in 0 to 1; replaces `normalize`."""
    augment: AugmentConfig = AugmentConfig()
    ten_crop: bool = False
    """Test on ten crops per image (four corners, the center, and their mirror images) and average the outputs."""
    drop_last: bool = False
    """Drop the last samples of an epoch if they do not fill a global batch."""
    on_error: Literal["raise", "skip"] = "raise"
    """An unreadable image ends the run (raise), or is listed in the run folder (skip): training then replaces it by
    another sample, evaluation leaves it out."""
    max_pixels: Annotated[int, Field(gt=0, le=MAX_PIXELS)] = MAX_PIXELS
    """Largest width times height of an image. Checked before any pixel is decoded; larger images are unreadable."""

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.global_batch:
            raise ValueError(
                "data.batch_size is per rank and data.global_batch is over all ranks: give one of the two, not both"
            )
        if bool(self.mean) != bool(self.std) or len(self.mean) != len(self.std):
            raise ValueError("data.mean and data.std must be given together, with one value per channel")
        if self.labels and (self.limit or self.validation):
            raise ValueError("data.labels selects the training samples: remove data.limit and data.validation")

    def step_samples(self, ranks: int) -> int:
        """Samples of a full training step over all ranks."""
        return self.global_batch or (self.batch_size or DEFAULT_BATCH) * ranks

    def rank_samples(self, ranks: int) -> int:
        """Largest number of samples of one rank in a training step."""
        return -(-self.step_samples(ranks) // ranks)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Network, initial weights, and trainable parts."""

    name: Text = "digits-cnn"
    """A network by name (`distdl models list`): any torchvision classifier, resnet20 to resnet110 for CIFAR, softmax,
    mnist-cnn, ..., or package.module:callable."""
    weights: Text = "none"
    """none; torchvision (downloaded, or from torch's cache); a .pth, .th, .pt or .safetensors file, also by name in the
    folder weights of the data root; or a run folder, whose newest checkpoint is used."""
    weights_part: Literal["all", "features", "classifier"] = "all"
    """Part of the network that gets the weights; the rest is initialized randomly."""
    trainable_features: tuple[bool, ...] = ()
    """Whether each block of the feature extractor trains; the last value applies to the rest; empty: all train."""
    trainable_classifier: tuple[bool, ...] = ()
    """Whether each block of the classifier trains; the last value applies to the rest; empty: all train."""
    freeze: tuple[Pattern, ...] = ()
    """Shell patterns (`layer1.*`) of parameters that do not train. Frozen BatchNorm keeps its statistics."""
    train_only: tuple[Pattern, ...] = ()
    """Shell patterns of the only parameters that train."""
    dropout: Annotated[float, Field(ge=-1, lt=1)] = -1.0
    """Dropout rate; -1: the network's default."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimizer and gradient processing."""

    name: OptimizerName = "sgd"
    """sgd, adam, adamw, adagrad, rmsprop, lars, lamb (`distdl list optimizers`), or package.module:callable."""
    lr: Rate = 0.1
    """Peak learning rate of the schedule."""
    lr_reference_batch: Count = 0
    """Linear scaling (Goyal et al. 2017): global batch size that `lr` is meant for; 0: no scaling."""
    lr_factors: tuple[tuple[Pattern, Factor], ...] = ()
    """Factors on the learning rate of parts: pairs of a shell pattern and a factor; the first matching pattern wins."""
    momentum: Share = 0.0
    """sgd, rmsprop, lars: momentum."""
    nesterov: bool = False
    """sgd: Nesterov momentum."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """adam, adamw, lamb: decay rates of the first and second moment."""
    alpha: Share = 0.99
    """rmsprop: decay rate of the mean square."""
    eps: AboveZero = 1e-8
    """adam, adamw, adagrad, rmsprop, lamb: constant in the denominator, for numerical stability."""
    weight_decay: Rate = 0.0
    """Weight decay: L2 penalty; decoupled in adamw and lamb, part of the layer norm in lars and lamb."""
    decay_norm_and_bias: bool = True
    """Apply weight decay, and the layer-wise rate of lars and lamb, to biases and normalization layers too."""
    label_smoothing: Share = 0.0
    """Label smoothing: share of the target that is spread over all classes."""
    clip_norm: Rate = 0.0
    """Clip the norm of the gradient, averaged over ranks, to this value; 0: no clipping."""
    accumulate: Positive = 1
    """Micro batches per step of a rank, to save memory; gradients are exchanged once per step."""
    ema: Decay = 0.0
    """Decay of an exponential moving average of the weights, which is then evaluated instead; 0: no average."""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Learning-rate schedule. Lengths are in epochs; the rate changes at every step."""

    name: ScheduleName = "constant"
    """constant, step, multistep, cosine, onecycle, or package.module:callable. onecycle rises from lr / 25 to lr
    over `warmup_fraction` of the run and then falls to nearly zero."""
    warmup_epochs: Rate = 0.0
    """Linear warmup from lr / 100 over this many epochs."""
    step_epochs: Positive = 30
    """step: epochs between drops."""
    milestones: tuple[Rate, ...] = ()
    """multistep: epochs at which the rate drops."""
    gamma: Share = 0.1
    """step, multistep: factor of each drop."""
    final_lr: Share = 0.0
    """cosine: final rate as a share of lr."""
    warmup_fraction: Share = 0.3
    """onecycle: share of the run during which the rate rises."""


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """Device and precision."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if the host has a GPU for each of its ranks, else the CPU."""
    precision: Precision = "fp32"
    """bf16 and fp16 use autocast with fp32 weights; fp16 also scales the loss."""
    channels_last: bool = False
    """Use the memory format NHWC for images and convolutions."""
    compile: bool = False
    """Compile the network with torch.compile."""
    cuda_graphs: bool = False
    """Replay forward and backward as a CUDA graph; every step must have the same shape."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """CPU threads per rank; 0: divide the host's cores among its ranks and pin each rank to its share."""


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When checkpoints are written, and how many are kept."""

    every_epochs: Count = 1
    """Epochs between checkpoints; 0: only when the training stops or ends."""
    every_steps: Count = 0
    """Steps between further checkpoints; 0: none."""
    keep: Positive = 2
    """Number of newest checkpoints that are kept, in addition to the best."""
    best: Literal["accuracy", "loss"] = "accuracy"
    """Validation metric that selects the best checkpoint (test metric if there is no validation split)."""


@dataclass(frozen=True, kw_only=True)
class DDPConfig:
    """PyTorch DistributedDataParallel."""

    bucket_mb: AboveZero = 25.0
    """Size of the gradient buckets in MiB. A bucket is exchanged as soon as backward has filled it."""
    compress: Literal["none", "fp16", "bf16", "powersgd"] = "none"
    """Compression of the exchanged gradients."""
    powersgd_rank: Positive = 2
    """powersgd: rank of the approximation (Vogels et al. 2019)."""
    timeout_s: Timeout = 600.0
    """Timeout of a collective in seconds; the job then fails."""


@dataclass(frozen=True, kw_only=True)
class HorovodConfig:
    """Horovod all-reduce."""

    fusion_mb: Rate = 128.0
    """Fusion buffer in MiB: small tensors are combined up to this size; 0: no fusion."""
    cycle_ms: AboveZero = 1.0
    """Cycle time: interval in milliseconds between checks for pending tensors."""
    compress: Literal["none", "fp16"] = "none"
    """Compression of the exchanged gradients."""
    adasum: bool = False
    """Combine gradients with Adasum (Maleki et al. 2020) instead of averaging."""
    backward_passes_per_step: Positive = 1
    """Local gradient aggregation: number of steps between exchanges."""
    hierarchical: bool = False
    """All-reduce within each host first, then between hosts (NCCL and MPI builds)."""
    autotune: bool = False
    """Let Horovod tune fusion buffer and cycle time; its log is in the run folder."""
    timeline: bool = False
    """Write Horovod's timeline into the run folder."""


@dataclass(frozen=True, kw_only=True)
class DeepSpeedConfig:
    """DeepSpeed ZeRO."""

    stage: Annotated[int, Field(ge=0, le=3)] = 1
    """ZeRO stage: 0 shards nothing, 1 the optimizer state, 2 also gradients, 3 also parameters."""
    offload: bool = False
    """Keep the optimizer state in host memory."""
    config: FilePath | None = None
    """A DeepSpeed configuration file that is merged with distdl's settings; contradictions are an error."""


@dataclass(frozen=True, kw_only=True)
class PSConfig:
    """Parameter server: some ranks hold the parameters, the others train."""

    servers: Positive = 1
    """Number of server ranks. They are the last ranks of the world, so rank 0 always trains."""
    mode: Literal["sync", "async", "ssp"] = "sync"
    """When a server applies gradients: after all workers (sync), on arrival (async), or within a staleness bound
    (ssp)."""
    staleness: Count = 4
    """ssp: maximum staleness, in steps, between the fastest and the slowest worker."""
    assign: Literal["round-robin", "size-threshold", "balanced"] = "balanced"
    """Assignment of tensors to servers. balanced (Optimus): slice large tensors, then assign the largest first to the
    least loaded server."""
    wire: Literal["fp32", "bf16"] = "fp32"
    """Precision of transferred gradients and parameters."""
    overlap: bool = False
    """Send the gradients of a server as soon as backward has computed them."""
    compute: Text = "real"
    """real, or replay:FILE: sleep for the compute times of a recorded run while all bytes are still transferred."""
    tolerate_worker_loss: bool = False
    """async: continue without a worker that died."""
    timeout_s: Timeout = 20.0
    """Timeout in seconds; the job then fails and names the peer that did not respond."""


@dataclass(frozen=True, kw_only=True)
class TelemetryConfig:
    """Device and host telemetry."""

    hz: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Samples per second of NVML and the host; 0: none."""
    price_per_hour: Rate = 0.0
    """Price per device and hour, for the cost of the run; 0: no cost."""
    tensorboard: bool = False
    """Write TensorBoard event files."""
    profile_steps: Count = 0
    """Record a torch.profiler trace of this many steps, after the tenth."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Predictions shown during training."""

    target: Share = 0.0
    """Target accuracy: the progress display predicts when it is reached; 0: no prediction."""


@dataclass(frozen=True, kw_only=True)
class SlurmConfig:
    """A training divided into time slices: a Slurm job that requeues itself."""

    total_lifetime_s: Seconds = 259200.0
    """Maximum compute time in seconds over all slices."""
    slice_s: Seconds = 2400.0
    """Length of a slice in seconds."""
    max_restarts: Count = 3
    """Number of consecutive failures without a new checkpoint after which the job is not requeued."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """A training."""

    name: Name = "digits"
    """Name of the run, part of the default run folder: letters, digits and . _ + - =."""
    epochs: Positive = 10
    """Number of passes over the training set."""
    max_steps: Count = 0
    """Stop after this many steps; 0: no limit."""
    max_time: Seconds = 0.0
    """Save a checkpoint and stop with exit code 75 after this many seconds; 0: no limit."""
    seed: Seed = 0
    """Seed of initial weights, sample order, augmentation and dropout."""
    deterministic: bool = False
    """Use deterministic operators only; an operator without a deterministic version is an error."""
    strategy: StrategyName = "auto"
    """Gradient synchronization across ranks: single, ddp, horovod, deepspeed, ps, or package.module:callable.
    auto: horovod under Horovod's launcher, ddp under torchrun, else single."""
    loss: LossName = "cross-entropy"
    """Training loss: cross-entropy, or package.module:callable."""
    metrics: tuple[MetricName, ...] = ()
    """Metrics in addition to accuracy and loss, by name or as package.module:callable."""
    trackers: tuple[TrackerName, ...] = ()
    """Experiment trackers that receive the metrics: tensorboard, or package.module:callable."""
    options: ComponentOptions = field(default_factory=dict)
    """Settings of components, KEY.NAME=VALUE: KEY is model, dataset, loss, strategy, loader,
    optimizer or schedule, or the name of a metric, tracker or augmentation. In a profile: [options.KEY]."""
    evaluate_every: Positive = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    progress: Literal["auto", "live", "plain", "none"] = "auto"
    """Progress display: live, plain lines, or none; auto: live on a terminal."""
    log_every_s: Seconds = 0.5
    """Interval in seconds between rows of metrics.jsonl and updates of the display."""
    out: FilePath | None = None
    """Run folder; default: runs/NAME-TIME. A folder that contains a run needs --resume."""
    resume: str = ""
    """auto: continue from the newest whole checkpoint in --out, if there is one. Or the path of a run folder or
    checkpoint."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    compute: ComputeConfig = ComputeConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    ddp: DDPConfig = DDPConfig()
    horovod: HorovodConfig = HorovodConfig()
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()
    ps: PSConfig = PSConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    predict: PredictConfig = PredictConfig()
    slurm: SlurmConfig = SlurmConfig()

    def __post_init__(self) -> None:
        if (self.data.batch_size or 0) % self.optim.accumulate:
            raise ValueError(
                f"data.batch_size {self.data.batch_size} cannot be divided into {self.optim.accumulate} equal "
                "micro-batches: make it a multiple of optim.accumulate"
            )
        if self.optim.nesterov and not self.optim.momentum:
            raise ValueError("optim.nesterov needs optim.momentum above 0")
        if self.schedule.name == "multistep" and not self.schedule.milestones:
            raise ValueError("schedule.name multistep needs schedule.milestones, the epochs of the drops")
        if self.resume == "auto" and self.out is None:
            raise ValueError("--resume auto needs the run folder: add --out DIR")
        if self.schedule.warmup_epochs >= self.epochs:
            raise ValueError(
                f"schedule.warmup_epochs {self.schedule.warmup_epochs:g} is not less than epochs = {self.epochs}"
            )
        if self.compute.precision == "fp16" and self.ddp.compress == "powersgd":
            raise ValueError(
                "ddp.compress powersgd cannot be used with compute.precision fp16: its error feedback would keep an "
                "overflowed gradient, and every later step would be skipped: use compute.precision "
                "bf16 or ddp.compress bf16"
            )
        if self.compute.precision == "fp16" and "fp16" in (self.ddp.compress, self.horovod.compress):
            raise ValueError(
                "compute.precision fp16 scales gradients, which then overflow if they are sent as fp16: use "
                "compute.precision bf16, or another ddp.compress or horovod.compress"
            )
        if self.compute.cuda_graphs and not self.data.drop_last:
            raise ValueError("compute.cuda_graphs needs steps of equal shape: add --data.drop-last")
