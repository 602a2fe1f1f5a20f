#!/bin/sh
# Tests the CPU image on a machine without a container engine or a registry, as root: creates a Debian base by debootstrap,
# builds containers/Dockerfile by buildah, and runs in the image the doctor, the digits profile on two processes under
# distdl launch and under horovodrun, and the benchmark of strategies.
#
#     apt-get install debootstrap buildah && containers/prove.sh
#
# Takes ten minutes and 25 GB under ${TMPDIR:-/var/tmp} the first time; the base and Horovod's wheel, built inside, are kept
# in ${XDG_CACHE_HOME:-~/.cache}/distdl. Processes are isolated by chroot only, so that it also runs inside a container.
#
# Passed on Debian 12 with buildah 1.28: benchmarks/results/container_cpu_2026-11-21.md.
set -eu
cd "$(dirname "$0")/.."

[ "$(id -u)" = 0 ] || { echo "prove.sh: debootstrap and chroot need root" >&2; exit 2; }
for tool in debootstrap buildah; do
    command -v $tool >/dev/null || { echo "prove.sh: $tool is not installed: apt-get install $tool" >&2; exit 2; }
done

cache=${XDG_CACHE_HOME:-$HOME/.cache}/distdl
suite=${SUITE:-bookworm}
base=$cache/debian-$suite.tar
wheels=$cache/image-wheels
mkdir -p "$wheels"
work=$(mktemp -d -p "${TMPDIR:-/var/tmp}" distdl-prove.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
say() { echo "=== $*"; }

buildah() {
    command=$1
    shift
    TMPDIR=$work command buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$command" "$@"
}

if [ ! -e "$base" ]; then
    say "base image: Debian $suite by debootstrap"
    debootstrap --force-check-gpg --variant=minbase "$suite" "$work/base" https://deb.debian.org/debian >"$work/debootstrap.log" ||
        { tail "$work/debootstrap.log" >&2; exit 1; }
    tar -C "$work/base" -cf "$base.part" . && mv "$base.part" "$base"
    rm -rf "$work/base"
fi
container=$(buildah from scratch)
buildah add --quiet "$container" "$base" / >/dev/null
buildah commit --quiet --rm "$container" "localhost/debian:$suite" >/dev/null

say "the image distdl:cpu by buildah"
set -- --volume "$wheels:/cache/distdl/wheels" --build-arg XDG_CACHE_HOME=/cache
if [ -n "${PIP_CERT:-}" ]; then # a network with its own certificate authority
    set -- "$@" --volume "$PIP_CERT:/run/ca.crt:ro" --build-arg PIP_CERT=/run/ca.crt
fi
buildah bud --isolation chroot --file containers/Dockerfile --target cpu --tag distdl:cpu \
    --build-arg BASE="localhost/debian:$suite" --build-arg MAKEFLAGS="-j$(nproc)" "$@" .

container=$(buildah from distdl:cpu)
# A host name that resolves: under chroot the container's host name is not in /etc/hosts.
inside() { buildah run --isolation chroot --hostname localhost "$container" -- "$@"; }

say "inside: user, entry point, doctor"
[ "$(inside id -un)" = distdl ]
buildah inspect --format '{{.OCIv1.Config.Entrypoint}}' "$container" | grep -x '\[distdl\]'
inside distdl doctor
inside python -c 'import torch, horovod.torch as hvd; assert hvd.gloo_built() and hvd.mpi_built()'

accuracy='import json, sys
result = json.load(open(sys.argv[1] + "/result.json"))
print(result["strategy"], result["world_size"], "ranks, accuracy", result["test"]["accuracy"])
assert result["world_size"] == 2 and result["strategy"] == sys.argv[2] and result["test"]["accuracy"] > 0.95'

say "inside: digits on two processes"
inside distdl launch --nproc 2 -- --profile digits --progress plain --out direct
inside python -c "$accuracy" direct ddp

say "inside: digits on two processes under horovodrun"
inside horovodrun -np 2 --gloo python -P -m distdl.train --profile digits --progress plain --out horovodrun
inside python -c "$accuracy" horovodrun horovod

say "inside: the benchmark of strategies"
inside python /opt/distdl/benchmarks/strategies.py --quick

say "passed"
