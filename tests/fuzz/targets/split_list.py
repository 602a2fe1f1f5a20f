"""Split lists: train.txt and test.txt of a folder of images."""

from pathlib import Path, PurePosixPath

from distdl.core.config import DataConfig
from distdl.data.sets.load import load
from fuzz.run import Target
from layouts import make

NAMES = [f"{label}/{number}.jpg" for label in ("ant", "bee", "a b", "é") for number in range(6)]
LISTS = {"train.txt": NAMES[::2], "test.txt": NAMES[1::2]}


def seeds(_folder: Path) -> dict[str, bytes]:
    """Both lists, with the line endings and separators of Unix and of Windows."""
    files = {}
    for name, lines in LISTS.items():
        files[name] = "\n".join(lines).encode()
        files[f"windows-{name}"] = "\r\n".join(["\ufeff", *(line.replace("/", "\\") for line in lines)]).encode()
    return files


def check(folder: Path, name: str, content: bytes) -> None:
    """Every line that is not blank is one sample of its split, and there are no others."""
    make(folder, [f"images/{path}" for path in NAMES])
    damaged = name.removeprefix("windows-")
    for file, lines in LISTS.items():
        (folder / file).write_bytes(content if file == damaged else "\n".join(lines).encode())
    dataset = load(DataConfig(name=str(folder), normalize="none"))
    text = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").decode()
    lines = [line.strip(" \t") for line in text.split("\n")]
    lines = [line if "/" in line else line.replace("\\", "/") for line in lines if line]
    expected = {PurePosixPath(line) for line in lines if not PurePosixPath(line).name.startswith(".")}
    split = {"train.txt": dataset.train, "test.txt": dataset.test}[damaged]
    read = [PurePosixPath(path.relative_to(folder)) for path in split.files]
    assert len(read) == len(expected), f"{len(read)} samples of {len(expected)} lines"
    assert {path.relative_to("images") for path in read} == {
        path.relative_to("images") if path.parts[0] == "images" else path for path in expected
    }
    for path, label in zip(read, split.labels.tolist(), strict=True):
        assert dataset.classes[label] == path.parent.name


TARGET = Target(seeds=seeds, check=check, share=5)
