#!/bin/sh
# Installs distdl into an image, as root, on Debian or Ubuntu. Dockerfile and distdl.def call it.
#
#     containers/install.sh build SOURCE     compilers, then a virtual environment at /opt/distdl with distdl, its extras,
#                                            and Horovod built for its PyTorch
#     containers/install.sh run              system packages of that environment, and an unprivileged user
#
# DISTDL_MORE names further packages, and HOROVOD_GPU_OPERATIONS=NCCL builds Horovod for GPUs, in an image that has the CUDA toolkit. If your network has its own
# certificate authority, set PIP_CERT and SSL_CERT_FILE.
set -eu

export DEBIAN_FRONTEND=noninteractive PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
packages() {
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends "$@" >/dev/null
    rm -rf /var/lib/apt/lists/*
}

# uv verifies the SHA-256 of each file of a version in constraints.txt. It reads the variables below instead of pip's.
pip_install() {
    [ -z "${PIP_INDEX_URL:-}" ] || export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
    [ -z "${PIP_EXTRA_INDEX_URL:-}" ] || export UV_INDEX="$PIP_EXTRA_INDEX_URL"
    [ -z "${PIP_CERT:-}" ] || export SSL_CERT_FILE="$PIP_CERT"
    /opt/distdl/bin/uv pip install --quiet --no-cache --python /opt/distdl/bin/python \
        --constraint "$source/constraints.txt" "$@"
}

case ${1:-} in
build)
    source=$2
    packages ca-certificates python3 python3-venv python3-dev g++ make patch libopenmpi-dev openmpi-bin
    python3 -m venv /opt/distdl
    /opt/distdl/bin/pip install --quiet --require-hashes --requirement "$source/containers/uv.txt"
    pip_install --build-constraint "$source/constraints.txt" "$source${DISTDL_EXTRAS-[deepspeed,large-batch,tensorboard]}"
    export XDG_CACHE_HOME="${XDG_CACHE_HOME:-/tmp/cache}"
    wheel=$("$source/containers/horovod/build.sh" /opt/distdl/bin/python | tail -n 1)
    pip_install "$wheel" ${DISTDL_MORE:-}
    cp -r "$source/benchmarks" "$source/launch" /opt/distdl/
    rm -rf /tmp/cache
    ;;
run)
    # g++, make and ninja are needed at run time: torch.compile and DeepSpeed compile operators.
    packages ca-certificates python3 python3-dev g++ ninja-build openmpi-bin openssh-client libgomp1
    useradd --create-home --uid 1000 distdl
    mkdir -p /work && chown distdl /work
    ;;
*)
    echo "usage: $0 build SOURCE | run" >&2
    exit 2
    ;;
esac
