#!/bin/sh
# Builds the image distdl:cpu or distdl:cuda from this checkout, by docker, podman or buildah, whichever is installed.
#
#     containers/build.sh [cpu|cuda] [OPTIONS OF THE BUILDER ...]
#     containers/build.sh cpu --build-arg BASE=ubuntu:24.04
set -eu
cd "$(dirname "$0")/.."

target=${1:-cpu}
[ $# -eq 0 ] || shift
case $target in
cpu | cuda) ;;
*) echo "build.sh: the image is cpu or cuda, not $target" >&2; exit 2 ;;
esac

for builder in ${BUILDER:-docker podman buildah}; do
    command -v "$builder" >/dev/null || continue
    echo "build.sh: distdl:$target by $builder" >&2
    exec "$builder" build --file containers/Dockerfile --target "$target" --tag "distdl:$target" "$@" .
done
echo "build.sh: none of docker, podman and buildah is installed" >&2
exit 2
