"""The components that ship with distdl, one row each. `core.factories` imports a component when it is used."""

from distdl.core.kinds import Row


def _studies(**summaries: str) -> dict[str, Row]:
    return {name: Row(factory=f"distdl.studies.{name}:STUDY", summary=summary) for name, summary in summaries.items()}


COMPONENTS: dict[str, dict[str, Row]] = {
    "models": {
        "digits-cnn": Row(
            factory="distdl.models.small:digits_cnn", summary="two convolutions and two linear layers, for digits"
        ),
        "mnist-cnn": Row(
            factory="distdl.models.small:mnist_cnn", summary="the CNN of TensorFlow's Deep MNIST tutorial, with dropout"
        ),
        "mnist-fast": Row(factory="distdl.models.small:mnist_fast", summary="LeNet's layout with BatchNorm"),
        "softmax": Row(factory="distdl.models.small:softmax", summary="softmax regression, from zeros"),
        "linear": Row(factory="distdl.models.small:linear", summary="one linear layer"),
        "darknet-tiny": Row(
            factory="distdl.models.darknet:darknet_tiny", summary="Darknet's tiny ImageNet classifier (Redmon)"
        ),
        **{
            f"resnet{depth}": Row(
                factory="distdl.models.cifar_resnet:cifar_resnet",
                summary=f"ResNet of {depth} layers for CIFAR (He et al. 2015)",
                traits={"arguments": {"depth": depth}},
            )
            for depth in (20, 32, 44, 56, 110)
        },
    },
    "datasets": {},
    "losses": {
        "cross-entropy": Row(
            factory="distdl.optim.losses:cross_entropy",
            summary="softmax cross-entropy, with label smoothing",
            uses=("optim.label_smoothing",),
        ),
    },
    "metrics": {
        "top-k": Row(factory="distdl.training.metrics:TopK", summary="share of labels among the k largest logits"),
    },
    "strategies": {
        "single": Row(factory="distdl.strategies.single:Single", summary="one process"),
        "ddp": Row(
            factory="distdl.strategies.ddp:DDP",
            summary="torch's DistributedDataParallel over gloo or NCCL",
            uses=("ddp",),
        ),
        "horovod": Row(
            factory="distdl.strategies.horovod:Horovod",
            summary="Horovod's ring all-reduce",
            uses=("horovod",),
            requires="horovod",
            install="pip install $(containers/horovod/build.sh .venv/bin/python | tail -n 1)",
        ),
        "deepspeed": Row(
            factory="distdl.strategies.deepspeed:DeepSpeed",
            summary="DeepSpeed's ZeRO, stages 0 to 3",
            uses=("deepspeed", "ddp.timeout_s"),
            requires="deepspeed",
            install="pip install 'distdl[deepspeed]'",
        ),
        "ps": Row(
            factory="distdl.strategies.paramserver.worker:Worker",
            summary="parameter servers: synchronous, asynchronous, stale-synchronous",
            uses=("ps",),
        ),
    },
    "loaders": {
        "resident": Row(
            factory="distdl.data.loaders.resident:ResidentLoader", summary="the whole set in the device's memory"
        ),
        "torch": Row(factory="distdl.data.loaders.workers:TorchLoader", summary="files decoded by worker processes"),
        "dali": Row(
            factory="distdl.data.loaders.dali:DaliLoader",
            summary="files decoded by NVIDIA DALI",
            requires="nvidia.dali",
            install="pip install 'distdl[dali]'",
        ),
        "synthetic": Row(
            factory="distdl.data.loaders.synthetic:SyntheticLoader", summary="noise, to measure all but the input"
        ),
    },
    "optimizers": {
        "sgd": Row(
            factory="distdl.optim.optimizers:sgd",
            summary="stochastic gradient descent, with momentum",
            uses=("optim.momentum", "optim.nesterov"),
        ),
        "adam": Row(
            factory="distdl.optim.optimizers:adam",
            summary="Adam (Kingma and Ba 2015)",
            uses=("optim.betas", "optim.eps"),
        ),
        "adamw": Row(
            factory="distdl.optim.optimizers:adamw",
            summary="Adam with decoupled weight decay (Loshchilov and Hutter 2019)",
            uses=("optim.betas", "optim.eps"),
        ),
        "adagrad": Row(
            factory="distdl.optim.optimizers:adagrad", summary="Adagrad (Duchi et al. 2011)", uses=("optim.eps",)
        ),
        "rmsprop": Row(
            factory="distdl.optim.optimizers:rmsprop",
            summary="RMSprop (Hinton 2012)",
            uses=("optim.momentum", "optim.alpha", "optim.eps"),
        ),
        "lars": Row(
            factory="distdl.optim.optimizers:lars",
            summary="LARS for large batches (You et al. 2017)",
            uses=("optim.momentum",),
            requires="timm",
            install="pip install 'distdl[large-batch]'",
        ),
        "lamb": Row(
            factory="distdl.optim.optimizers:lamb",
            summary="LAMB for large batches (You et al. 2020)",
            uses=("optim.betas", "optim.eps"),
            requires="timm",
            install="pip install 'distdl[large-batch]'",
        ),
    },
    "schedules": {
        "constant": Row(factory="distdl.optim.schedules:constant", summary="the same rate at every step"),
        "step": Row(
            factory="distdl.optim.schedules:step",
            summary="drop by a factor at equal intervals",
            uses=("schedule.step_epochs", "schedule.gamma"),
        ),
        "multistep": Row(
            factory="distdl.optim.schedules:multistep",
            summary="drop by a factor at given epochs",
            uses=("schedule.milestones", "schedule.gamma"),
        ),
        "cosine": Row(
            factory="distdl.optim.schedules:cosine",
            summary="half a cosine (Loshchilov and Hutter 2017)",
            uses=("schedule.final_lr",),
        ),
        "onecycle": Row(
            factory="distdl.optim.schedules:onecycle",
            summary="rise, then fall to nearly zero (Smith and Topin 2018)",
            uses=("schedule.warmup_fraction",),
        ),
    },
    "augmentations": {
        "flip": Row(
            factory="distdl.data.augment.random_params:cut",
            summary="mirror an image horizontally: data.augment.flip",
            traits={"field": "data.augment.flip"},
        ),
        "crop": Row(
            factory="distdl.data.augment.random_params:cut",
            summary="crop the padded image at random: data.augment.crop",
            traits={"field": "data.augment.crop"},
        ),
        "random_resized_crop": Row(
            factory="distdl.data.augment.crops:random_window",
            summary="crop a random area: data.augment.random_resized_crop",
            traits={"field": "data.augment.random_resized_crop"},
        ),
        "color_jitter": Row(
            factory="distdl.data.augment.color:jitter",
            summary="change brightness and color: data.augment.color_jitter",
            traits={"field": "data.augment.color_jitter"},
        ),
        "rotation": Row(
            factory="distdl.data.augment.random_params:rotate",
            summary="rotate by a random angle: data.augment.rotation",
            traits={"field": "data.augment.rotation"},
        ),
        "mixup": Row(
            factory="distdl.data.augment.random_params:mix",
            summary="average two images: data.augment.mixup",
            traits={"field": "data.augment.mixup"},
        ),
        "cutmix": Row(
            factory="distdl.data.augment.random_params:mix",
            summary="paste a box of another image: data.augment.cutmix",
            traits={"field": "data.augment.cutmix"},
        ),
    },
    "trackers": {
        "tensorboard": Row(
            factory="distdl.training.trackers.tensorboard:TensorBoard",
            summary="event files for TensorBoard, in RUN/tensorboard",
            requires="tensorboard",
            install="pip install 'distdl[tensorboard]'",
        ),
    },
    "launchers": {
        "direct": Row(factory="distdl.launchers.commands:direct", summary="distdl itself, by ssh on other hosts"),
        "horovodrun": Row(
            factory="distdl.launchers.commands:horovodrun",
            summary="Horovod's launcher",
            traits={"strategy": "horovod"},
        ),
        "mpirun": Row(factory="distdl.launchers.commands:mpirun", summary="Open MPI"),
        "srun": Row(factory="distdl.launchers.commands:srun", summary="a step of a Slurm job"),
        "deepspeed": Row(
            factory="distdl.launchers.commands:deepspeed",
            summary="DeepSpeed's launcher",
            traits={"strategy": "deepspeed"},
        ),
        "netns": Row(
            factory="distdl.launchers.commands:netns",
            summary="several hosts on this machine, by network namespaces; needs root",
        ),
    },
    "studies": _studies(
        decathlon="the ten data sets of the Visual Decathlon, with its score",
        leaderboard="AlexNet variants searched by processes that share a leaderboard",
        optimizers="SGD, momentum, Adagrad and Adam on a line, a linear layer, a CNN",
        optimus="time and cost to a target accuracy by servers and workers",
        paleo="step times by layer, predicted from data sheets and measured",
        scaling="speed, efficiency and accuracy on 1, 2, 4, ... workers",
        semisupervised="a student learns from a teacher's labels of unlabeled images",
        transfer="training from scratch, frozen features and fine-tuning",
        weak="pre-training on noisy tags, then transfer to a clean task",
    ),
}
