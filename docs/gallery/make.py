"""Make the gallery again: the page of each study under runs/studies/NAME-quick that has ended, and the index.

distdl study run NAME --quick        # for each NAME of `distdl study list`
python docs/gallery/make.py
"""

import io
import sys
from pathlib import Path

from distdl.report.study import page
from PIL import Image

from distdl.report.page import Page, write

HERE = Path(__file__).parent
STUDIES = Path("runs/studies")
PRIVATE = (str(Path.cwd()), str(Path.home()), "/tmp/")
HEAD = """# Gallery

Pages of `distdl report` as they come out, of the quick version of each study on two CPU cores. Each is one file: open
it in a browser from a clone, or download it. Beside each lies a folder with its figures as SVG and PNG and all its data
as CSV. `docs/gallery/make.py` makes them again.

![the page of a run: headline, accuracy, loss](report.png)

- [A run](run.html): handwritten digits, trained by two processes.
- [Two runs side by side](runs.html): the same by one process and by two.

| study | what it is | trials | found as expected |
| --- | --- | --- | --- |
"""


def main() -> None:
    rows = []
    for folder in sorted(STUDIES.glob("*-quick")):
        if not (folder / "findings.json").is_file():
            print(f"{folder} has not ended: left out")
            continue
        name = folder.name.removesuffix("-quick")
        shown = page(folder)
        if any(note.endswith(": running") for note in shown.notes):
            print(f"{folder} is running: left out")
            continue
        write(HERE / f"{name}.html", shown)
        text = (HERE / f"{name}.html").read_text(encoding="utf-8")
        if found := [word for word in PRIVATE if word in text]:
            sys.exit(f"{name}.html names a place of this machine ({found[0]}): nothing is published")
        for picture in (HERE / name).glob("*.png"):
            shrink(picture)
        facts = {fact.label: fact.value for fact in shown.facts}
        rows.append(row(name, shown, facts))
    (HERE / "README.md").write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")


def row(name: str, shown: Page, facts: dict[str, str]) -> str:
    """A line of the index."""
    expected = facts.get("found as expected", "nothing was expected")
    return f"| [{name}]({name}.html) | {shown.subtitle} | {facts.get('trials completed', '')} | {expected} |"


def shrink(picture: Path) -> None:
    """256 colours: a repository holds it for ever."""
    if picture.stat().st_size > 200_000:
        sink = io.BytesIO()
        Image.open(picture).convert("RGB").quantize(256).save(sink, "PNG", optimize=True)
        picture.write_bytes(sink.getvalue())


if __name__ == "__main__":
    main()
