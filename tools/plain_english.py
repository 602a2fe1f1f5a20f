"""Find wording that is not plain technical English: in comments, docstrings, strings, names and Markdown files.

    python tools/plain_english.py [FILE or FOLDER ...]      without arguments, what git tracks in this repository

Each finding is one line, `FILE:LINE: "FOUND": use REPLACEMENT`, and the exit code is then 1. A line that ends in
`# plain: ok REASON` (in Markdown `<!-- plain: ok REASON -->`) is excepted; at most 20 lines may be.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_EXCEPTIONS = 20
SKIPPED = ("docs/gallery/", "benchmarks/results/", "tools/plain_english.py", "tests/tools/", "CHANGELOG.md", "LICENSE")
SUFFIXES = (".py", ".md", ".toml", ".sh", ".sbatch", ".def", ".cfg", ".yml", ".yaml")

PROSE = {
    r"\bfore(?:told|tell|tells|telling)\b": "predict",
    r"\btold\b(?! apart)|\btells?\b(?! .* apart)": "report, show, pass, receive",
    r"\b(?:is|are|was|be|been|has|have) said\b|\bsaid (?:that|to|once|nothing|why|so)\b": "state, documented",
    r"\bsays? (?:so|why|what|how|which|nothing|the same)\b": "states, documents",
    r"\bwords\b": "arguments, argv, overrides",
    r"\banew\b": "again",
    r"\bby way of\b": "through, via",
    r"\bbeforehand\b": "in advance, before",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bso many\b": "this many, N",
    r"\b(?:go|goes|going|went) on\b": "continue, resume",
    r"\b(?:comes?|came) to\b": "results in, resolves to, outcome",
    r"\b(?:nobody|whoever|whomever|whosoever)\b": "no one; the process that",
    r"\b(?:a|the) person\b": "user",
    r"\b(?:to be had|cannot be had)\b": "available, cannot be imported",
    r"\bbut for\b": "except",
    r"\b(?:of|by) (?:itself|themselves)\b": "alone, on its own",
    r"\bin place of\b": "instead of",
    r"\btaken for (?!granted)|\bheld against\b": "interpreted as; compared with",
    r"\bbeside (?:the|it|a|an|those|each|every|what|them|other|one)\b": "in addition to, next to",
    r"\bas (?:it|they) (?:lie|lies|stand|stands|come|comes|came)\b": "as is, unchanged",
    r"\b(?:lie|lies) (?:in|on|under|along|there|with|beside)\b": "is in, is stored in",
    r"\b(?:meet|meets|met|meeting)\b": "rendezvous, barrier, reach",
    r"\bthe field\b(?!')": "common practice",
    r"\b(?:at hand|under way|in one go|in passing|of no use|to ride out)\b": "available, in flight, together, unusable",
    r"\bleads? nowhere\b": "is broken",
    r"\bheed(?:s|ed)?\b": "react to, ignore",
    r"\bin (?:its|their) place\b": "instead",
    r"\bdocuments? 00[0-4]\b": "the experiment's name",
    r"\b(?:shall|lest|thus|hence|whence|thence|upon|ere|alike|likewise|whereof|thereof)\b": "a common word",
    r"\b(?:images|samples|steps|bytes|ranks|cores|threads|labels|seconds|ms|J|values?|processes|task) an?"
    r" (?:second|step|rank|host|node|image|worker|channel|unit|layer|epoch|kind|replica|server|device|side)\b": "per",
}
DOCSTRING = {
    r"(?:What|Which|Whose|Who|How|Where) (?!.*\?)": "a verb or a noun at the start",
    r"(?:Of|By|In|On|As|For) (?:a|an|the|its|those|each|every|all)\b": "a whole noun phrase at the start",
}
NAMES = (
    *("told", "said", "words", "mine", "theirs", "ours", "here", "there", "one", "own", "found", "kept", "left"),
    *("whole", "shown", "drawn", "before", "after", "since", "until"),
)
"""Pronouns, adverbs and participles that name no value."""


def _compiled(patterns: dict[str, str], start: str = "") -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(start + pattern, re.IGNORECASE), advice) for pattern, advice in patterns.items()]


_PROSE, _DOCSTRING = _compiled(PROSE), [(re.compile(p), advice) for p, advice in DOCSTRING.items()]


def findings(name: str, text: str) -> Iterator[tuple[int, str, str]]:
    """Line, what was found and what to use instead, in the order of the file."""
    excepted = {number for number, line in enumerate(text.splitlines(), 1) if "plain: ok" in line}
    found = set(_of_python(text)) if name.endswith(".py") else set(_in_prose(text, 1))
    yield from sorted(each for each in found if each[0] not in excepted)


def _in_prose(text: str, first_line: int) -> Iterator[tuple[int, str, str]]:
    for pattern, advice in _PROSE:
        for match in pattern.finditer(text):
            yield first_line + text.count("\n", 0, match.start()), " ".join(match[0].split()), advice


def _of_python(text: str) -> Iterator[tuple[int, str, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[token.type]
        if kind in ("COMMENT", "STRING", "FSTRING_MIDDLE"):
            yield from _in_prose(token.string, token.start[0])
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for pattern, advice in _DOCSTRING:
                if match := pattern.match(node.value.value):
                    yield node.lineno, match[0], advice
        yield from ((line, name, "a name that states what the value is") for line, name in _assigned(node))


def _assigned(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Names of `NAMES` that a node binds: variables, loop variables, parameters and keyword arguments of ours."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id.strip("_") in NAMES:
        yield node.lineno, node.id
    if isinstance(node, ast.arg) and node.arg.strip("_") in NAMES:
        yield node.lineno, node.arg
    if isinstance(node, ast.FunctionDef) and node.name.strip("_") in NAMES:
        yield node.lineno, node.name


def _files(paths: list[str]) -> list[Path]:
    if not paths:
        listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True)
        return [ROOT / name for name in listed.stdout.split("\0") if name and _checked(name)]
    given = [Path(path) for path in paths]
    inside = [file for path in given if path.is_dir() for file in sorted(path.rglob("*"))]
    return [file for file in [*(path for path in given if path.is_file()), *inside] if _checked(_name(file))]


def _name(file: Path) -> str:
    file = file.resolve()
    return str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else str(file)


def _checked(name: str) -> bool:
    return name.endswith(SUFFIXES) and not name.startswith(SKIPPED) and (ROOT / name).is_file()


def main(paths: list[str]) -> int:
    """Print the findings. Returns 1 if there are any, or too many exceptions."""
    number = exceptions = 0
    for file in _files(paths):
        text = file.read_text(encoding="utf-8")
        exceptions += text.count("plain: ok")
        for line, found_text, advice in findings(file.name, text):
            number += 1
            print(f'{_name(file)}:{line}: "{found_text}": use {advice}')
    if exceptions > MOST_EXCEPTIONS:
        print(f'{exceptions} lines have "plain: ok"; at most {MOST_EXCEPTIONS} may')
    return int(number > 0 or exceptions > MOST_EXCEPTIONS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
