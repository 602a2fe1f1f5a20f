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

from distdl.core.registry import known_in

Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[int, Field(gt=0, lt=2**63)]
Rate = Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False)]
Factor = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
"""A rate times a factor stays a number of 32 bits."""
Decay = Annotated[float, Field(ge=0, lt=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
AboveZero = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
Timeout = Annotated[float, Field(gt=0, le=1e9)]


def _options(value: Any) -> Any:
    """KEY.NAME=VALUE texts of a command line as a table of tables."""
    if not isinstance(value, list | tuple):
        return value
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
Options = Annotated[Mapping[str, Mapping[str, Any]], BeforeValidator(_options)]

DEFAULT_BATCH = 64
"""Samples per step of a rank where a configuration gives no batch size."""

MAX_PIXELS = 178_956_970
"""Pixels from which Pillow refuses an image as a decompression bomb: decoded to RGB it takes half a GiB."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of a training image, drawn for each sample from (seed, epoch, index). Each is off by default."""

    flip: Share = 0.0
    """Probability of a horizontal flip."""
    crop: Count = 0
    """Pad by so many pixels on each side and cut a window of the original size at a random place."""
    random_resized_crop: bool = False
    """Cut a window of 8 to 100 % of the area, aspect 3/4 to 4/3, and resize it to the image size."""
    color_jitter: Share = 0.0
    """Probability of changing brightness, contrast and saturation by up to 40 % and hue by up to 0.1."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Rotate by up to so many degrees either way..."""
    rotation_probability: Share = 0.5
    """...with this probability."""
    mixup: Rate = 0.0
    """alpha of mixup's Beta distribution (Zhang et al. 2018); pairs are neighbours in a rank's batch."""
    cutmix: Rate = 0.0
    """alpha of CutMix's Beta distribution (Yun et al. 2019); with mixup too, each sample takes one at random."""
    extra: tuple[AugmentationName, ...] = ()
    """Augmentations of other packages, by name or as package.module:callable."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which samples, how they are read, and what happens to them before the network."""

    name: str = "digits"
    """A data set by name (`distdl data list`), or a path to an image folder or a folder of tar shards."""
    root: Path | None = None
    """Folder in which data sets are looked for; without it $DISTDL_DATA, else distdl's cache folder."""
    loader: LoaderName = "auto"
    """resident keeps the whole set on the device; torch decodes in worker processes; dali decodes by NVIDIA DALI;
    synthetic measures everything but the input; auto chooses, and says why."""
    batch_size: Positive | None = None
    """Samples per step of each rank, so that the global batch grows with the number of ranks; 64 if neither this nor
    `global_batch` is given."""
    global_batch: Count = 0
    """Samples per step over all ranks, divided among any number of them: the same training on any number of ranks that
    leaves each micro batch 8 samples. 0 takes `batch_size` per rank."""
    eval_batch_size: Count = 0
    """Samples a step of each rank in evaluation; 0 takes twice the batch size."""
    workers: Annotated[int, Field(ge=-1, lt=2**63)] = -1
    """torch: processes that decode, a rank; dali: threads. -1 takes the cores that the rank has."""
    image_size: Count = 0
    """Height and width in pixels that the network sees; 0 takes the set's own."""
    validation: Share = 0.0
    """Share of each class that is taken from the training list for validation, drawn by `split_seed`."""
    split_seed: Seed = 0
    """Seed of the division into training and validation, apart from the run's, so that seeds share one division."""
    limit: Count = 0
    """Train on so many samples only, balanced over the classes and drawn by `split_seed`; 0 takes all."""
    labels: Path | None = None
    """A .npz file that says which training samples to take and for what: `indices` [m] and `labels` [m] or [m, k], k
    labels an image with equal shares, -1 for none; `classes` too, where there are more than the set's own."""
    normalize: Literal["set", "imagenet", "none"] = "set"
    """Whose mean and standard deviation the pixels are normalised with; "none" leaves them in 0 to 1."""
    mean: tuple[Finite, ...] = ()
    """Mean by channel, in 0 to 1, in place of `normalize`'s."""
    std: tuple[AboveZero, ...] = ()
    """Standard deviation by channel, in 0 to 1, in place of `normalize`'s."""
    augment: AugmentConfig = AugmentConfig()
    ten_crop: bool = False
    """In the test, average the network's outputs over four corners, the centre, and their mirror images."""
    drop_last: bool = False
    """Leave out an epoch's last samples where they do not fill a global batch; else each is seen once."""
    on_error: Literal["raise", "skip"] = "raise"
    """On an unreadable image: end the run, or list it in the run folder and continue. Training replaces it by its
    neighbour; evaluation leaves it out."""
    max_pixels: Annotated[int, Field(gt=0, le=MAX_PIXELS)] = MAX_PIXELS
    """Width times height from which an image file is unreadable. It is checked before any pixel is decoded."""

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.global_batch:
            raise ValueError(
                "data.batch_size is per rank and data.global_batch is over all ranks: give one of the two, not both"
            )
        if bool(self.mean) != bool(self.std) or len(self.mean) != len(self.std):
            raise ValueError("data.mean and data.std belong together, one value a channel")
        if self.labels and (self.limit or self.validation):
            raise ValueError("data.labels says which samples to train on: leave data.limit and data.validation out")

    def step_samples(self, ranks: int) -> int:
        """Samples of a full training step over all ranks."""
        return self.global_batch or (self.batch_size or DEFAULT_BATCH) * ranks

    def rank_samples(self, ranks: int) -> int:
        """Most samples of one rank in a training step."""
        return -(-self.step_samples(ranks) // ranks)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network, where its weights come from, and which of its parts train."""

    name: str = "digits-cnn"
    """A network by name: any torchvision classifier, resnet20 to resnet110 for CIFAR, softmax, mnist-cnn, ..."""
    weights: str = "none"
    """none, torchvision (downloaded, or from torch's cache), a local .pth, .th, .pt or .safetensors file, the name of
    one in the data root's folder weights, or a run folder, whose newest checkpoint is taken."""
    weights_part: Literal["all", "features", "classifier"] = "all"
    """What the weights are taken for; the other part starts from scratch."""
    trainable_features: tuple[bool, ...] = ()
    """Block by block, whether the feature extractor trains; the last value goes for the rest; empty trains all."""
    trainable_classifier: tuple[bool, ...] = ()
    """Block by block, whether the classifier trains; the last value goes for the rest; empty trains all."""
    freeze: tuple[str, ...] = ()
    """Name patterns (as in a shell: `layer1.*`) of what does not train. Frozen BatchNorm keeps its statistics."""
    train_only: tuple[str, ...] = ()
    """Name patterns of the only parameters that train."""
    dropout: Annotated[float, Field(ge=-1, lt=1)] = -1.0
    """Dropout rate in place of the network's own; -1 leaves it."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How gradients change the weights."""

    name: OptimizerName = "sgd"
    """sgd, adam, adamw, adagrad, rmsprop, lars, lamb (`distdl list optimizers`), or package.module:callable."""
    lr: Rate = 0.1
    """Learning rate at the top of the schedule."""
    lr_batch: Count = 0
    """Linear scaling (Goyal et al. 2017): the global batch that `lr` is meant for; 0 takes `lr` as it is."""
    lr_factors: tuple[tuple[str, Factor], ...] = ()
    """Factor on the rate by part: pairs of a name pattern (as in a shell) and a factor; the first that matches goes."""
    momentum: Share = 0.0
    """sgd, rmsprop, lars."""
    nesterov: bool = False
    """sgd: Nesterov's momentum."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """adam, adamw, lamb: decay of the first and second moment."""
    alpha: Share = 0.99
    """rmsprop: decay of the mean square."""
    eps: AboveZero = 1e-8
    """adam, adamw, adagrad, rmsprop, lamb: what keeps the division finite."""
    weight_decay: Rate = 0.0
    """L2 penalty; decoupled from the moments in adamw and lamb, part of the layer's norm in lars and lamb."""
    decay_norm_and_bias: bool = True
    """Whether the penalty, and lars' and lamb's layer-wise rate, hold for biases and normalisation too."""
    label_smoothing: Share = 0.0
    """Share of the target that is spread over all classes."""
    clip_norm: Rate = 0.0
    """Largest norm of the whole gradient, after averaging over ranks; 0 does not clip."""
    accumulate: Positive = 1
    """Micro batches into which a rank's batch is cut to fit in memory; gradients are exchanged once a step."""
    ema: Decay = 0.0
    """Decay of an exponential moving average of the weights, which is then what is evaluated; 0 keeps none."""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate moves. Lengths are in epochs, and the rate moves at every step."""

    name: ScheduleName = "constant"
    """constant, step, multistep, cosine, onecycle, or package.module:callable. onecycle rises from lr / 25 to lr over
    `rise` of the run and falls to nearly nothing."""
    warmup_epochs: Rate = 0.0
    """Rise linearly from lr / 100 over so many epochs first."""
    step_epochs: Positive = 30
    """step: epochs between drops."""
    milestones: tuple[Rate, ...] = ()
    """multistep: the epochs at which the rate drops."""
    gamma: Share = 0.1
    """step, multistep: factor of a drop."""
    final_lr: Share = 0.0
    """cosine: the rate at the end, as a share of lr."""
    rise: Share = 0.3
    """onecycle: share of the run in which the rate rises."""


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """On what, and in which precision."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes CUDA where there is a GPU for each rank of the host."""
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """bf16 and fp16 are autocast over fp32 weights; fp16 with a gradient scaler."""
    channels_last: bool = False
    """Keep images and convolutions as NHWC in memory."""
    compile: bool = False
    """torch.compile the network."""
    cuda_graphs: bool = False
    """Replay forward and backward as a CUDA graph, where every step has the same shape."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """CPU threads a rank; 0 shares the host's cores among its ranks, and pins each rank to its share."""


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When the complete state is saved, and how many are kept."""

    every_epochs: Count = 1
    """0 saves only when stopped and at the end."""
    every_steps: Count = 0
    """Steps between checkpoints, beside those of epochs; 0 has none."""
    keep: Positive = 2
    """Newest checkpoints that are kept, beside the best."""
    best: Literal["accuracy", "loss"] = "accuracy"
    """What of the validation (the test, where there is no validation) makes a checkpoint the best."""


@dataclass(frozen=True, kw_only=True)
class DDPConfig:
    """torch's DistributedDataParallel."""

    bucket_mb: AboveZero = 25.0
    """Gradients are exchanged in buckets of this size, in MiB, as backward fills them."""
    compress: Literal["none", "fp16", "bf16", "powersgd"] = "none"
    """What is sent in place of fp32 gradients."""
    powersgd_rank: Positive = 2
    """powersgd: rank of the approximation (Vogels et al. 2019)."""
    timeout_s: Timeout = 600.0
    """How long a collective may wait for a rank before the job is taken down."""


@dataclass(frozen=True, kw_only=True)
class HorovodConfig:
    """Horovod's ring all-reduce."""

    fusion_mb: Rate = 128.0
    """Small tensors are fused up to this size, in MiB; 0 fuses none."""
    cycle_ms: AboveZero = 1.0
    """Time between Horovod's looks for tensors to send."""
    compress: Literal["none", "fp16"] = "none"
    """What is sent in place of fp32 gradients."""
    adasum: bool = False
    """Combine gradients by Adasum (Maleki et al. 2020) in place of the average."""
    backward_passes_per_step: Positive = 1
    """Local gradient aggregation: exchange every so many steps."""
    hierarchical: bool = False
    """All-reduce within a host first, then between hosts (NCCL and MPI builds)."""
    autotune: bool = False
    """Let Horovod search fusion and cycle; its log goes into the run folder."""
    timeline: bool = False
    """Write Horovod's timeline into the run folder."""


@dataclass(frozen=True, kw_only=True)
class DeepSpeedConfig:
    """DeepSpeed's ZeRO."""

    stage: Annotated[int, Field(ge=0, le=3)] = 1
    """What is sharded over ranks: 0 nothing, 1 optimizer state, 2 gradients too, 3 parameters too."""
    offload: bool = False
    """Keep the optimizer state in the host's memory."""
    config: Path | None = None
    """A DeepSpeed configuration that is added to ours; where the two contradict, the run is refused."""


@dataclass(frozen=True, kw_only=True)
class PSConfig:
    """Parameter server: some ranks keep the parameters, the others train."""

    servers: Positive = 1
    """Ranks that serve. They are the last ranks of the world, so rank 0 always trains."""
    mode: Literal["sync", "async", "ssp"] = "sync"
    """When a server applies gradients: from all workers at once, as each comes, or within a bound."""
    staleness: Count = 4
    """ssp: the most steps that the fastest worker may be ahead of the slowest."""
    assign: Literal["round-robin", "size-threshold", "balanced"] = "balanced"
    """How tensors are laid on servers; balanced is Optimus' own: slice the large, largest first to the least loaded."""
    wire: Literal["fp32", "bf16"] = "fp32"
    """Precision of gradients and parameters on the network."""
    overlap: bool = False
    """Push a server's part as soon as backward has filled it."""
    compute: str = "real"
    """real, or replay:FILE to wait for compute times of a recorded run while every byte still moves."""
    survive: bool = False
    """async: go on without a worker that died."""
    timeout_s: Timeout = 20.0
    """How long a silent peer is waited for before the job ends with its name."""


@dataclass(frozen=True, kw_only=True)
class TelemetryConfig:
    """What is sampled beside the training."""

    hz: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Samples a second of NVML and of the host; 0 takes none."""
    price_per_hour: Rate = 0.0
    """Price of one device for an hour, to account for the run's cost; 0 gives none."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too."""
    profile_steps: Count = 0
    """Record a torch.profiler trace of so many steps, after the tenth."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """What is foretold while the run goes on."""

    target: Share = 0.0
    """Accuracy whose time of arrival the progress display predicts; 0 predicts none."""


@dataclass(frozen=True, kw_only=True)
class SlurmConfig:
    """One effort in many slices, each a Slurm job that queues itself again (document 000)."""

    total_lifetime_s: Seconds = 259200.0
    """Compute time of all slices together after which the effort ends."""
    slice_s: Seconds = 2400.0
    """Length of one slice."""
    max_restarts: Count = 3
    """Failures in a row without a new checkpoint after which the effort is given up."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """One training."""

    name: str = "digits"
    """Names the run folder."""
    epochs: Positive = 10
    """Passes over the training set."""
    max_steps: Count = 0
    """End after so many steps, as if the epochs were over; 0 has no such end."""
    max_time: Seconds = 0.0
    """Save and stop in order (exit code 75) after so many seconds; 0 has no such end."""
    seed: Seed = 0
    """Seed of the initial weights, the order, the augmentation and dropout."""
    deterministic: bool = False
    """Refuse operators that do not give the same bits each time."""
    strategy: StrategyName = "auto"
    """How gradients are synchronized across ranks: single, ddp, horovod, deepspeed, ps, or package.module:callable.
    auto: horovod under Horovod's launcher, ddp under torchrun, else single."""
    loss: LossName = "cross-entropy"
    """Training loss: cross-entropy, or package.module:callable."""
    metrics: tuple[MetricName, ...] = ()
    """Metrics in addition to accuracy and loss, by name or as package.module:callable."""
    trackers: tuple[TrackerName, ...] = ()
    """Experiment trackers that receive the metrics: tensorboard, or package.module:callable."""
    options: Options = field(default_factory=dict)
    """Settings of components from other packages, KEY.NAME=VALUE: KEY is model, dataset, loss, strategy, loader,
    optimizer or schedule, or the name of a metric, tracker or augmentation. In a profile: [options.KEY]."""
    evaluate_every: Positive = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    progress: Literal["auto", "live", "plain", "none"] = "auto"
    """live display, plain lines, or nothing; auto is live on a terminal."""
    log_every_s: Seconds = 0.5
    """Seconds between lines of metrics.jsonl and looks of the display."""
    out: Path | None = None
    """The run folder; without it runs/NAME-TIME. One that holds a run is refused without --resume."""
    resume: str = ""
    """auto: go on from the newest good checkpoint of --out, or begin; or the path of a run folder or a checkpoint."""
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
                f"data.batch_size {self.data.batch_size} cannot be cut into {self.optim.accumulate} equal micro "
                "batches: make it a multiple of optim.accumulate"
            )
        if self.optim.nesterov and not self.optim.momentum:
            raise ValueError("optim.nesterov needs optim.momentum above 0")
        if self.schedule.name == "multistep" and not self.schedule.milestones:
            raise ValueError("schedule.name multistep needs schedule.milestones, the epochs of the drops")
        if self.resume == "auto" and self.out is None:
            raise ValueError("--resume auto looks in the run folder: name it with --out DIR")
        if self.schedule.warmup_epochs >= self.epochs:
            raise ValueError(
                f"schedule.warmup_epochs {self.schedule.warmup_epochs:g} leaves nothing of {self.epochs} epochs: "
                "warm up for less"
            )
        if self.compute.precision == "fp16" and self.ddp.compress == "powersgd":
            raise ValueError(
                "ddp.compress powersgd cannot be used with compute.precision fp16: its error feedback keeps a gradient "
                "that overflowed, and every later step is skipped: use compute.precision bf16, or ddp.compress bf16"
            )
        if self.compute.precision == "fp16" and "fp16" in (self.ddp.compress, self.horovod.compress):
            raise ValueError(
                "gradients that compute.precision fp16 has scaled up overflow when they are sent as fp16: use "
                "compute.precision bf16, or another ddp.compress or horovod.compress"
            )
        if self.compute.cuda_graphs and not self.data.drop_last:
            raise ValueError("compute.cuda_graphs needs steps of one shape: add --data.drop-last")
