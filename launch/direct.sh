#!/bin/sh
# Train on one machine, or on several that share a file system.
#
#   one machine:       sh direct.sh --profile digits
#   several machines:  the same command on each, with HOSTS=NUMBER and FIRST=NAME OF ONE OF THEM:
#                      HOSTS=2 FIRST=node01 sh direct.sh --profile digits --out runs/digits
#
# All arguments are passed to distdl.train; `distdl train --list` shows the profiles. One rank per GPU is
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
    exec python -P -m distdl.launchers.agent --nproc-per-node="$ranks" -m distdl.train "$@"
fi
# The ranks connect to a port of the host FIRST, which follows from the key and the command line: hosts with another
# command do not join. The first host creates the file with the key, which only you can read; KEY=FILE selects another
# one, for two equal commands on the same hosts.
: "${FIRST:?name one of the hosts: FIRST=node01}"
exec python -P -m distdl.launchers.agent --nnodes="$hosts" --master-addr="$FIRST" \
    --key-file="${KEY:-$HOME/.distdl-key}" --nproc-per-node="$ranks" -m distdl.train "$@"
