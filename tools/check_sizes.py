#!/usr/bin/env python3
"""Reports files and functions that are longer than the project wants, and fails on hard limits.

A file should have at most 400 lines (600 at most), a function at most 60 (100 at most). Function
lengths are measured on clang-formatted sources: from a line at indent 0 or 2 that begins a
signature, which may go on over further lines, to the closing brace at the same indent.
"""
import pathlib
import re
import sys

FILE_WANTED, FILE_HARD = 400, 600
FUNCTION_WANTED, FUNCTION_HARD = 60, 100
NOT_FUNCTIONS = re.compile(r"^\s*(namespace|class|struct|enum|union|extern|template\s*<[^>]*>\s*(class|struct))\b|=\s*\{$|^\s*\}")


def functions(lines):
    """Yields (first line, length) of each function, signature included, by indentation."""
    first, indent, inside = None, 0, False
    for number, line in enumerate(lines, 1):
        code = re.sub(r"\s*//.*$", "", line).rstrip()
        if not code.strip():
            continue
        bare = len(code) - len(code.lstrip(" "))
        if inside:
            if bare == indent and code.lstrip().startswith("}"):
                yield first, number - first + 1
                first, inside = None, False
            continue
        if bare in (0, 2):
            first, indent = (None if NOT_FUNCTIONS.match(code) else number), bare
        if first is None:
            continue
        if code.endswith("{") and ")" in code:
            inside = True
        elif code.endswith((";", "{", "}", ":")):
            first = None


def main() -> int:
    root = pathlib.Path(__file__).resolve().parent.parent
    failed = 0
    for path in sorted((root / "src").rglob("*")) + sorted((root / "tests").rglob("*")):
        if path.suffix not in {".h", ".cc", ".inc", ".py"}:
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        name = path.relative_to(root)
        if len(lines) > FILE_WANTED:
            print(f"{name}: {len(lines)} lines (wanted {FILE_WANTED}, at most {FILE_HARD})")
            failed += len(lines) > FILE_HARD
        if path.suffix == ".py":
            continue
        for start, length in functions(lines):
            if length > FUNCTION_WANTED:
                print(f"{name}:{start}: function of {length} lines (wanted {FUNCTION_WANTED}, at most {FUNCTION_HARD})")
                failed += length > FUNCTION_HARD
    print(f"check_sizes: {failed} over a hard limit")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
