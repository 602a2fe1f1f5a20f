#!/bin/sh
# Train with Open MPI's mpirun on the hosts of a hostfile. Run it on one of them:
#
#   HOSTFILE=hostfile sh mpirun.sh --profile digits --out runs/digits
#
# mpirun only starts the ranks; they communicate over NCCL (GPUs) or gloo. It needs ssh from this host to all others
# without a password, and the same paths on all of them.
set -eu

# The environment with distdl, unless it is active:
# . /path/to/venv/bin/activate

hostfile=${HOSTFILE:-hostfile}
first=$(awk '{ sub(/#.*/, ""); sub(/\r$/, "") } NF { print $1; exit }' "$hostfile")
[ -n "$first" ] || { echo "$hostfile: no host" >&2; exit 2; }

# MASTER_ADDR: the host of the ranks' rendezvous. Ranks accept only processes with this training's key, from which its
# port follows. distdl pins ranks to cores.
# Python's full path is needed, because no environment is active on the other hosts.
# On a machine with several networks: --mca oob_tcp_if_include ib0 -x GLOO_SOCKET_IFNAME=ib0 -x NCCL_SOCKET_IFNAME=ib0
DISTDL_KEY=$(od -A n -N 32 -t x1 -v /dev/urandom | tr -d ' \n')
export DISTDL_KEY
exec mpirun --hostfile "$hostfile" --bind-to none \
    -x MASTER_ADDR="$first" -x DISTDL_KEY "$(command -v python)" -P -m distdl.train "$@"
