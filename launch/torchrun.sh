#!/bin/sh
# Train on one machine, or on several that share a file system.
#
#   one machine:       sh torchrun.sh --profile digits
#   several machines:  the same on each of them, with HOSTS=NUMBER and FIRST=NAME OF ONE OF THEM:
#                      HOSTS=2 FIRST=node01 sh torchrun.sh --profile digits --out runs/digits
#
# All words go to distdl.train; `python -m distdl.train --list` shows the profiles. One rank is started for each GPU, or
# as many as RANKS says. Ctrl-C saves and stops; the same words with --resume auto --out FOLDER go on.
set -eu

# The environment that distdl is installed in, unless it is active already:
# . /path/to/venv/bin/activate

gpus=$(nvidia-smi --list-gpus 2>/dev/null | wc -l)
ranks=${RANKS:-$((gpus > 0 ? gpus : 1))}
hosts=${HOSTS:-1}

# On a machine with several networks, name the one that the hosts share (see `ip -brief address`):
# export GLOO_SOCKET_IFNAME=ib0 NCCL_SOCKET_IFNAME=ib0

if [ "$hosts" -eq 1 ]; then
    exec torchrun --standalone --nproc_per_node="$ranks" -m distdl.train "$@"
fi
# The hosts meet at a port of the first one; which of them starts first does not matter. Port and id follow from the
# command line, so that hosts with another command, or another training on the same hosts, do not join. ID=TEXT, equal
# on all hosts, tells two equal commands apart.
: "${FIRST:?name one of the hosts: FIRST=node01}"
key=$(printf '%s\n' "${ID:-${SLURM_JOB_ID:-}}" "$hosts" "$FIRST" "$@" | cksum | cut -d ' ' -f 1)
exec torchrun --nnodes="$hosts" --nproc_per_node="$ranks" \
    --rdzv_backend=c10d --rdzv_id="distdl-$key" --rdzv_endpoint="$FIRST:$((20000 + key % 12000))" \
    -m distdl.train "$@"
