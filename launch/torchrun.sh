#!/bin/sh
# Train on one machine, or on several that share a file system.
#
#   one machine:       sh torchrun.sh --profile digits
#   several machines:  the same command on each, with HOSTS=NUMBER and FIRST=NAME OF ONE OF THEM:
#                      HOSTS=2 FIRST=node01 sh torchrun.sh --profile digits --out runs/digits
#
# All arguments are passed to distdl.train; `python -m distdl.train --list` shows the profiles. One rank per GPU is
# started, or RANKS ranks. Ctrl-C saves and stops; the same arguments with --resume auto --out FOLDER resume.
set -eu

# The environment with distdl, unless it is active:
# . /path/to/venv/bin/activate

gpus=$(nvidia-smi --list-gpus 2>/dev/null | wc -l)
ranks=${RANKS:-$((gpus > 0 ? gpus : 1))}
hosts=${HOSTS:-1}

# On a machine with several networks, select the shared one (see `ip -brief address`):
# export GLOO_SOCKET_IFNAME=ib0 NCCL_SOCKET_IFNAME=ib0

if [ "$hosts" -eq 1 ]; then
    exec torchrun --standalone --nproc_per_node="$ranks" -m distdl.train "$@"
fi
# The rendezvous uses a port of the host FIRST; hosts may start in any order. Port and id are derived from the command
# line, so that hosts with another command, or another training on the same hosts, do not join. ID=TEXT, equal on all
# hosts, distinguishes two equal commands.
: "${FIRST:?name one of the hosts: FIRST=node01}"
key=$(printf '%s\n' "${ID:-${SLURM_JOB_ID:-}}" "$hosts" "$FIRST" "$@" | cksum | cut -d ' ' -f 1)
exec torchrun --nnodes="$hosts" --nproc_per_node="$ranks" \
    --rdzv_backend=c10d --rdzv_id="distdl-$key" --rdzv_endpoint="$FIRST:$((20000 + key % 12000))" \
    -m distdl.train "$@"
