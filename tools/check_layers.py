#!/usr/bin/env python3
"""Fails when a source file includes a module that its own module may not include.

The table below is the architecture: one row a module, and the modules its files may include.
Also fails on includes that are not written from src/, on modules that are not in the table, and on sources and tests
that do not include the header of their name first: that a source of the program compiles, which has no precompiled
header, proves that its header stands alone.
"""
import pathlib
import re
import sys

ALLOWED = {
    "base": "",
    "report": "base",
    "model_config": "base",
    "policy": "base",
    "kv": "base",
    "interpreter": "base",
    "text": "base interpreter",
    "workload": "base",
    "loadgen": "base workload report",
    "tensor": "base",
    "kernels": "base tensor",
    "comm": "base tensor",
    "checkpoint": "base tensor model_config",
    "synthetic": "base tensor model_config checkpoint",
    "sched": "base policy kv",
    "model": "base tensor kernels comm checkpoint kv model_config",
    "cluster": "base policy kv sched",
    "engine": "base tensor kernels comm checkpoint kv model model_config policy sched cluster",
    "cost": "base policy kv sched model_config",
    "sim": "base policy kv sched cluster workload report model_config cost",
    "live": "base policy kv sched cluster workload cost sim",
    "server": "base text sched cluster",
    "gateway": "base sched cluster server",
    "python": "base interpreter policy workload report sched cluster sim",
}
THREADS_ALLOWED = {"base", "comm", "engine", "live", "server", "gateway", "loadgen", "apps"}
THREAD_HEADERS = {"thread", "mutex", "condition_variable", "shared_mutex", "future", "semaphore", "barrier", "latch"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')


def problems_of(path: pathlib.Path, source_root: pathlib.Path):
    module = path.relative_to(source_root).parts[0]
    allowed = None if module == "apps" else {module, *ALLOWED.get(module, "").split()}
    if module != "apps" and module not in ALLOWED:
        yield f"{path}: module '{module}' is not in the table of tools/check_layers.py"
        return
    is_test = path.stem.endswith("_test")
    own = path.with_name(path.stem.removesuffix("_test") + ".h")
    first = True
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quoted, system = match.groups()
        if first and path.suffix == ".cc" and own.is_file() and quoted != str(own.relative_to(source_root)):
            yield f"{path}:{number}: \"{own.relative_to(source_root)}\" is not the first include"
        first = False
        if system:
            if system in THREAD_HEADERS and module not in THREADS_ALLOWED and not is_test:
                yield f"{path}:{number}: <{system}>: threads are not allowed in module '{module}'"
            continue
        if not (source_root / quoted).is_file():
            yield f"{path}:{number}: \"{quoted}\" is not a path from src/"
            continue
        target = quoted.split("/")[0]
        if allowed is not None and target not in allowed:
            yield f"{path}:{number}: module '{module}' may not include '{target}' (\"{quoted}\")"


def main() -> int:
    root = pathlib.Path(__file__).resolve().parent.parent
    source_root = root / "src"
    files = sorted(p for p in source_root.rglob("*") if p.suffix in {".h", ".cc", ".cu", ".cuh", ".inc"})
    problems = [problem for path in files for problem in problems_of(path, source_root)]
    for problem in problems:
        print(problem)
    print(f"check_layers: {len(files)} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
