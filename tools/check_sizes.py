#!/usr/bin/env python3
"""Reports files and functions that are longer than the project wants, and fails on hard limits.

A file should have at most 400 lines (600 at most), a function at most 60 (100 at most). Function
lengths are measured on clang-formatted sources: from a line at indent 0 or 2 that opens a body to
the closing brace at the same indent.
"""
import pathlib
import re
import sys

FILE_WANTED, FILE_HARD = 400, 600
FUNCTION_WANTED, FUNCTION_HARD = 60, 100
NOT_FUNCTIONS = re.compile(r"^\s*(namespace|class|struct|enum|union|extern|template\s*<[^>]*>\s*(class|struct))\b|=\s*\{$|^\s*\}")


def functions(lines):
    """Yields (first line, length) of each function body, by indentation."""
    start, indent = None, None
    for number, line in enumerate(lines, 1):
        if start is None:
            bare = len(line) - len(line.lstrip(" "))
            if bare in (0, 2) and line.rstrip().endswith("{") and ")" in line and not NOT_FUNCTIONS.match(line):
                start, indent = number, bare
            elif line.rstrip().endswith("{") and ")" in line and bare >= 4 and not NOT_FUNCTIONS.match(line):
                continue
        elif line.startswith(" " * indent + "}") and len(line) - len(line.lstrip(" ")) == indent:
            yield start, number - start + 1
            start = None


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
