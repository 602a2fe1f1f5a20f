#!/bin/sh
# Builds Horovod 0.28.1 for the PyTorch of a Python environment. The last line of its output is the path of the wheel.
#
#     containers/horovod/build.sh [PYTHON]              PYTHON: that environment's python (default: python3)
#     pip install "$(containers/horovod/build.sh .venv/bin/python)"
#
# A wheel is built once per PyTorch, Python and set of transports, and kept in ${XDG_CACHE_HOME:-~/.cache}/distdl/wheels;
# two concurrent builds wait for each other. The environment is read, not changed. A build takes about three minutes on
# two cores. It needs a C++20 compiler, make and patch; it downloads everything else from PyPI.
#
# Transports: gloo always; MPI if mpicxx is installed; NCCL if PyTorch is a CUDA build and the CUDA toolkit (nvcc), NCCL's
# headers and an NVIDIA driver are installed. To override: HOROVOD_GPU_OPERATIONS=NCCL (for a login node or an image, which
# have no driver) or empty (none), HOROVOD_WITHOUT_MPI=1. HOROVOD_BUILD_CUDA_CC_LIST=90 builds the
# kernels for these compute capabilities only; MAKEFLAGS=-j2 limits the number of concurrent compilers.
#
# Tested on a machine without a GPU: all three transports build, load, and train on its CPU. Not tested on GPUs.
set -eu

VERSION=0.28.1
SHA256=92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0

here=$(cd "$(dirname "$0")" && pwd)
python=${1:-python3}
say() { echo "horovod: $*" >&2; }
fail() { say "$*"; exit 2; }

command -v "$python" >/dev/null || fail "no such python: $python"
python=$(command -v "$python")
facts=$("$python" -c '
import sys, sysconfig, torch
print(torch.__version__.replace("+", "."), torch.version.cuda or "-", "cp%d%d" % sys.version_info[:2], sysconfig.get_path("purelib"))
') || fail "$python cannot import torch: install PyTorch there first"
read -r torch cuda tag site <<END
$facts
END

# --- transports
cuda_home=${CUDA_HOME:-/usr/local/cuda}  # PyTorch would derive it from nvcc's path, which may be a wrapper's
PATH=$PATH:$cuda_home/bin
nccl=
for folder in "${HOROVOD_NCCL_HOME:-$cuda_home}" "$cuda_home" /usr/local /usr "$site/nvidia/nccl"; do
    [ -z "$nccl" ] && [ -e "$folder/include/nccl.h" ] && nccl=$folder
done
if [ -z "${HOROVOD_GPU_OPERATIONS+set}" ]; then
    HOROVOD_GPU_OPERATIONS=
    if [ "$cuda" != - ] && [ -n "$nccl" ] && [ -e /dev/nvidiactl ] && command -v nvcc >/dev/null; then
        HOROVOD_GPU_OPERATIONS=NCCL
    fi
elif [ -n "$HOROVOD_GPU_OPERATIONS" ]; then
    [ "$cuda" != - ] || fail "HOROVOD_GPU_OPERATIONS=$HOROVOD_GPU_OPERATIONS, but PyTorch $torch in $python is not a CUDA build"
    [ -n "$nccl" ] || fail "HOROVOD_GPU_OPERATIONS=$HOROVOD_GPU_OPERATIONS, but nccl.h was not found: set HOROVOD_NCCL_HOME"
    command -v nvcc >/dev/null || fail "HOROVOD_GPU_OPERATIONS=$HOROVOD_GPU_OPERATIONS, but nvcc was not found: set CUDA_HOME"
fi
mpi=
if [ "${HOROVOD_WITHOUT_MPI:-0}" != 1 ] && command -v mpicxx >/dev/null; then mpi=1; fi
transports=gloo${mpi:+.mpi}${HOROVOD_GPU_OPERATIONS:+.$(echo "$HOROVOD_GPU_OPERATIONS" | tr A-Z a-z)}

# --- already built?
recipe=p$(sha256sum "$here/horovod-$VERSION.patch" | cut -c1-7)
local_version=torch$torch.$transports.$recipe
cache=${XDG_CACHE_HOME:-$HOME/.cache}/distdl/wheels
mkdir -p "$cache"
kept() { find "$cache" -maxdepth 1 -name "horovod-$VERSION+$local_version-$tag-*.whl" | head -n 1; }
exec 9>"$cache/.lock-$local_version-$tag"
flock 9
wheel=$(kept)
if [ -n "$wheel" ]; then
    say "using the cached wheel"
    echo "$wheel"
    exit 0
fi

# --- build, in a temporary folder and environment
say "building $VERSION for PyTorch $torch, $tag, with $transports"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
log=$cache/build-$local_version-$tag.log
logged() { "$@" >>"$log" 2>&1 || { tail -n 40 "$log" >&2; fail "failed: $* (whole log: $log)"; }; }
: >"$log"

logged "$python" -m venv "$work/env"
build=$work/env/bin/python
logged "$build" -m pip install --no-deps --require-hashes --requirement "$here/tools.txt"
# PyTorch is imported from the target environment, after the tools in sys.path; it is added once pip has installed these.
echo "$site" >"$("$build" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/pytorch.pth"

echo "horovod==$VERSION --hash=sha256:$SHA256" >"$work/requirement.txt"
logged "$build" -m pip download --no-deps --no-binary horovod --no-build-isolation -d "$work" -r "$work/requirement.txt"
tar -xzf "$work/horovod-$VERSION.tar.gz" -C "$work"
logged patch -d "$work/horovod-$VERSION" -p1 -i "$here/horovod-$VERSION.patch"

if [ -n "$HOROVOD_GPU_OPERATIONS" ]; then
    # PyPI's NCCL has libnccl.so.2 but no libnccl.so to link against. At run time PyTorch has loaded it already.
    mkdir "$work/nccl"
    find "$nccl/lib" "$nccl/lib64" -name 'libnccl.so*' -exec ln -sf {} "$work/nccl/libnccl.so" \; 2>/dev/null || true
    export HOROVOD_NCCL_INCLUDE="$nccl/include" HOROVOD_NCCL_LIB="$work/nccl" HOROVOD_NCCL_LINK=SHARED
    export CUDA_HOME="$cuda_home" HOROVOD_CUDA_HOME="$cuda_home" HOROVOD_GPU_OPERATIONS
else
    unset HOROVOD_GPU_OPERATIONS
fi
if [ -n "$mpi" ]; then export HOROVOD_WITH_MPI=1; else export HOROVOD_WITHOUT_MPI=1; fi
export HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITH_GLOO=1
export HOROVOD_LOCAL_VERSION="$local_version" CMAKE_POLICY_VERSION_MINIMUM=3.5
export PATH="$work/env/bin:$PATH" MAKEFLAGS="${MAKEFLAGS:--j$(nproc)}"
logged "$build" -m pip wheel --no-deps --no-build-isolation -w "$work/out" "$work/horovod-$VERSION"

# --- keep the wheel only if it loads
logged "$build" -m pip install --no-deps "$work"/out/horovod-*.whl
(cd "$work" && logged "$build" -c 'import horovod.torch as hvd; assert hvd.gloo_built()')
mv "$work"/out/horovod-*.whl "$cache/"
wheel=$(kept)
[ -n "$wheel" ] || fail "built under an unexpected name: see $cache"
rm -f "$log"
echo "$wheel"
