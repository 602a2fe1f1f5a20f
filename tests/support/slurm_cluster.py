"""A Slurm cluster of two nodes: munged, slurmctld and slurmd on emulated hosts with links of 1 Gbit/s."""

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

from distdl.launchers.netns import Hosts
from jobs import wait_for

CONFIGURATION = """\
ClusterName=distdl-tests
SlurmctldHost=h0
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits for the lifetime of a credential, which is two minutes by default.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=1,sched_min_interval=1000,bf_interval=1
# Enough cores and (nominal) GPUs for the jobs of launch/, regardless of this machine.
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
NodeName=h[0-1] CPUs=32 RealMemory=8000 Gres=gpu:4
PartitionName=batch Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""


class Cluster:
    """Daemons on separate hosts with all files in one folder. They end with the hosts."""

    def __init__(self, folder: Path, hosts: Hosts) -> None:
        self.folder, self.hosts = folder, hosts
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}

    def start(self) -> None:
        """Start the daemons and wait until both nodes are ready for jobs."""
        folder, munge = self.folder, pwd.getpwnam("munge")
        (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder), encoding="utf-8")
        for gpu in range(4):
            (folder / f"gpu{gpu}").touch()
        (folder / "gres.conf").write_text(f"NodeName=h[0-1] Name=gpu File={folder}/gpu[0-3]\n", encoding="utf-8")
        # Named, because slurmd cannot detect the version: the /sys of a host of `ip netns` has no cgroups.
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n", encoding="utf-8")
        (folder / "state").mkdir()
        secret = folder / "munge"  # only user munge may enter it, so the socket must be outside
        secret.mkdir(mode=0o700)
        (secret / "key").write_bytes(os.urandom(128))
        (secret / "key").chmod(0o400)
        for path in (folder, secret, secret / "key"):
            os.chown(path, munge.pw_uid, munge.pw_gid)
        folder.chmod(0o755)
        files = {"key-file": "munge/key", "log-file": "munge/log", "pid-file": "munge/pid", "seed-file": "munge/seed"}
        options = [f"--{option}={folder / file}" for option, file in files.items()]
        identity = ["--reuid=munge", "--regid=munge", "--clear-groups"]
        self._daemon(["munged", "--foreground", *options, f"--socket={folder / 'munge.socket'}"], identity=identity)
        wait_for((folder / "munge.socket").exists, 10, "munged's socket")
        self._daemon(["slurmctld", "-D", "-c"])
        for host in range(2):
            self._daemon(["slurmd", "-D"], on=host)
        wait_for(lambda: self("sinfo", "-h", "-o", "%T %D").strip() == "idle 2", 30, "two idle nodes")

    def _daemon(self, command: list[str], *, on: int = 0, identity: list[str] | None = None) -> None:
        path = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin")
        log = (self.folder / f"{command[0]}.{on}.out").open("wb")
        with log:  # --pdeathsig ends the daemons if the tests are killed
            bound = ["setpriv", "--pdeathsig=KILL", *(identity or []), path, *command[1:]]
            self.hosts.start(bound, on, self.environment, stdout=log, stderr=log, start_new_session=True)

    def __call__(self, *command: str) -> str:
        """Run a Slurm command and return its output."""
        return self.run(*command).stdout

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the first node, which is also the login node."""
        return self.hosts.run(command, 0, self.environment, timeout=60)

    def distdl(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run `distdl ARGV` on the login node."""
        return self.run(sys.executable, "-m", "distdl.cli", *argv)

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, ... of a job; empty when Slurm no longer lists it."""
        output = self("scontrol", "show", "job", "-o", job).split()
        return next((field.split("=")[1] for field in output if field.startswith("JobState=")), "")

    def empty(self) -> bool:
        """Whether no job is queued, running or completing."""
        done = self.run("squeue", "-h")
        return done.returncode == 0 and not done.stdout.strip()
