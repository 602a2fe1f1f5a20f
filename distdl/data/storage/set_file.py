"""set.json, the description of a packed data set, which `distdl data pack` writes and every reader checks."""

import hashlib
import json
import re
import unicodedata
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from distdl.core.config import Finite
from distdl.core.errors import UserError, reading
from distdl.core.files import write_json
from distdl.core.paths import is_inside
from distdl.core.regular import read_regular
from distdl.core.userfiles import parse_json

MANIFEST = "set.json"
LIMIT_BYTES = 256 * 2**20
"""Maximum size of set.json: a million class names, or a million shards."""
NAME_LENGTH = 1000
"""Maximum length of a class name in characters."""
SUFFIX = {"shards": ".tar", "records": ".rec"}

UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode categories of control characters, surrogates, and line and paragraph separators."""


def _in_folder(name: str) -> str:
    if not is_inside(name) or re.search(r"[/\\\x00-\x1f]", name):
        raise ValueError(f"{name!r} is not the name of a file in the folder of the set")
    return name


FileName = Annotated[str, StringConstraints(max_length=255), AfterValidator(_in_folder)]
PositiveCount = Annotated[int, Field(ge=1, lt=2**53)]
ClassName = Annotated[str, StringConstraints(min_length=1, max_length=NAME_LENGTH)]


def is_class_name(name: str) -> bool:
    """Whether a name is not empty and has no control characters, line breaks or bytes that are not UTF-8."""
    return 0 < len(name) <= NAME_LENGTH and not any(
        unicodedata.category(character) in UNPRINTABLE for character in name
    )


class Model(BaseModel):
    """Base of the immutable objects in set.json, without conversion of types."""

    model_config = ConfigDict(strict=True, frozen=True)


class Shard(Model):
    """One file of a packed data set."""

    file: FileName
    samples: PositiveCount
    bytes: PositiveCount
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class SetFile(Model):
    """The content of set.json. Files written by version 1 have no digest."""

    name: str = ""
    kind: Literal["shards", "records"]
    classes: Annotated[tuple[ClassName, ...], Field(min_length=1, max_length=10**6, strict=False)]
    channels: Literal[1, 3] = 3
    image_size: Annotated[int, Field(ge=1, le=16_384)] = 224
    central: Annotated[Finite, Field(gt=0, le=1)] = 0.875
    mean: Annotated[tuple[Finite, ...], Field(strict=False)] = ()
    std: Annotated[tuple[Annotated[Finite, Field(gt=0)], ...], Field(strict=False)] = ()
    parts: dict[Literal["train", "validation", "test"], Annotated[tuple[Shard, ...], Field(min_length=1, strict=False)]]
    digest: str = ""
    """SHA-256 of all other fields: it detects damage to class names or statistics."""

    @model_validator(mode="after")
    def _check(self) -> "SetFile":
        if "train" not in self.parts:
            raise ValueError("parts: there is no part train")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes: a name occurs twice")
        if name := next((name for name in self.classes if not is_class_name(name)), None):
            raise ValueError(f"classes: {name!r} has control characters")
        for field in ("mean", "std"):
            if len(getattr(self, field)) not in (0, 1, self.channels):
                raise ValueError(f"{field}: there are {len(getattr(self, field))} values for {self.channels} channels")
        if len(self.mean) != len(self.std):
            raise ValueError("std: mean and std must be given together")
        files = [shard.file for shards in self.parts.values() for shard in shards]
        if len(set(files)) < len(files):
            raise ValueError("parts: a file is listed twice")
        if file := next((file for file in files if not file.endswith(SUFFIX[self.kind])), None):
            raise ValueError(f"parts: {file!r} is not a {SUFFIX[self.kind]} file")
        return self

    def shards(self) -> list[Shard]:
        """Return the files of all splits."""
        return [shard for shards in self.parts.values() for shard in shards]


def read_set_file(folder: Path) -> SetFile | None:
    """Read the description of a packed data set; None if the folder has none.

    Raises:
        UserError: the file cannot be read, was changed, or a key is missing or out of range.
    """
    file = folder / MANIFEST
    if not file.is_file():
        return None
    with reading(file):
        content = read_regular(file, LIMIT_BYTES)
    described = validate(content, str(file))
    with reading(file, "JSON"):
        digest = _digest(parse_json(content))
    if described.digest and described.digest != digest:
        raise UserError(
            f'{file} was changed after packing: copy it again, or remove the line "digest" to accept the change'
        )
    return described


def write_set_file(folder: Path, described: SetFile) -> None:
    """Write set.json with its digest."""
    fields = described.model_dump(mode="json", exclude={"digest"})
    write_json(folder / MANIFEST, fields | {"digest": _digest(fields)})


def validate(content: bytes, source: str) -> SetFile:
    """Parse a description in JSON.

    Args:
        source: name of the file, for the message.
    Raises:
        UserError: a key is missing or out of range.
    """
    try:
        return SetFile.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        message = f"{key}: {reason}" if key else reason
        message = re.sub(r"[^ -~]+", "?", message)[:300]
        raise UserError(f"{source} does not describe a packed set: {message}; copy or pack the set again") from None


def _digest(fields: dict[str, object]) -> str:
    rest = {key: value for key, value in fields.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
