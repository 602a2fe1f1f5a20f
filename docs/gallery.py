"""Build the gallery: report pages of a run, of two runs and of each study's quick version, with an index.

    python docs/gallery.py FOLDER [STUDY ...]      without names, all studies of `distdl study list`

Trials that are complete under runs/ are not run again. A study whose data or programs are missing is omitted: the exit
code is then 1, and the index states the reason.
"""

import html
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

DISTDL = [sys.executable, "-m", "distdl.cli"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
INDEX = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>distdl: gallery</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto }}</style>
<h1>Gallery</h1>
<p>Pages of <code>distdl report</code>. Next to each page is a folder with its figures as SVG and PNG and its data as
CSV.</p>
<ul>
{rows}
</ul>
"""


def main(folder: Path, studies: list[str]) -> int:
    """Write all pages and index.html into `folder`. Returns 0 if no page is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"run": "one run", "runs": "comparison of two runs"}
    single, double = Path("runs/gallery/1-process"), Path("runs/gallery/2-processes")
    train(single, ranks=1)
    train(double, ranks=2)
    report([double], folder / "run.html")
    report([single, double], folder / "runs.html")
    missing = {}
    for study in studies:
        print(f"{study} ...", flush=True)
        done = run([*DISTDL, "study", "run", study, "--quick"])
        if done.returncode:
            missing[study] = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1]
            print(f"{study}: omitted: {missing[study]}", flush=True)
        else:
            report([Path(f"runs/studies/{study}-quick")], folder / f"{study}.html")
            pages[study] = f"study {study}"
    rows = [f'<li><a href="{name}.html">{title}</a></li>' for name, title in pages.items()]
    rows += [f"<li>{study}: omitted: {html.escape(reason)}</li>" for study, reason in missing.items()]
    (folder / "index.html").write_text(INDEX.format(rows="\n".join(rows)), encoding="utf-8")
    return int(bool(missing))


def train(out: Path, *, ranks: int) -> None:
    """Train the digits on this many processes, unless `out` holds the complete run."""
    if not (out / "result.json").is_file():
        argv = ["-m", "distdl.train", "--profile", "digits", "--progress", "none", "--out", str(out)]
        checked([*TORCHRUN, f"--nproc_per_node={ranks}", *argv])


def report(paths: list[Path], page: Path) -> None:
    """Write a page, and refuse one that names a folder of this machine: the gallery is published."""
    checked([*DISTDL, "report", *map(str, paths), "--out", str(page)])
    text = page.read_text(encoding="utf-8")
    for private in (str(Path.cwd()), str(Path.home())):
        if private in text:
            sys.exit(f"{page} names a folder of this machine: {private}")


def run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command and capture its output."""
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def checked(argv: list[str]) -> None:
    """Run a command that must succeed."""
    done = run(argv)
    if done.returncode:
        sys.exit(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    registered = sorted({entry.name for entry in entry_points(group="distdl.studies")})
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:] or registered))
