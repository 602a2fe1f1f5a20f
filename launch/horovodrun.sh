#!/bin/sh
# Train with Horovod on the hosts of a hostfile. Run it on one of them:
#
#   HOSTFILE=hostfile sh horovodrun.sh --profile digits --out runs/digits
#
# All arguments are passed to distdl.train, which selects the strategy horovod. Requirements:
#   - Horovod in the environment: containers/horovod/build.sh builds it for the installed PyTorch;
#   - ssh from this host to all others without a password, and the same paths on all of them.
# In a Slurm allocation the script writes the hostfile itself.
set -eu

# The environment with distdl, unless it is active:
# . /path/to/venv/bin/activate

hostfile=${HOSTFILE:-hostfile}
if [ -n "${SLURM_JOB_NODELIST:-}" ]; then
    hostfile=hostfile-$SLURM_JOB_ID
    scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/\$/ slots=${SLURM_NTASKS_PER_NODE:-1}/" >"$hostfile"
fi
hosts=$(awk '{ sub(/#.*/, ""); sub(/\r$/, "") }
    NF == 1 { $2 = "slots=1" }
    NF == 0 { next }
    NF > 2 || $1 !~ /^[A-Za-z0-9][A-Za-z0-9.-]*$/ || $2 !~ /^slots=[0-9]+$/ {
        print FILENAME ": line " NR ": write HOST slots=RANKS" >"/dev/stderr"
        exit 2
    }
    { sub(/slots=/, "", $2); printf "%s%s:%s", comma, $1, $2; comma = "," }' "$hostfile")
[ -n "$hosts" ] || { echo "$hostfile: no host" >&2; exit 2; }
ranks=$(echo "$hosts" | tr , '\n' | awk -F : '{ ranks += $2 } END { print ranks }')

# --gloo: if Horovod was also built with MPI, it would use MPI, which must first be configured for the network.
# On a machine with several networks, select the shared one: add --network-interfaces ib0
# Python's full path is needed, because no environment is active on the other hosts.
exec horovodrun --gloo -np "$ranks" -H "$hosts" "$(command -v python)" -P -m distdl.train "$@"
