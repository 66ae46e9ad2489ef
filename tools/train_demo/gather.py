#!/usr/bin/env python3
"""Gathers the demo model's text: downloads Debian packages by name, unpacks them into a folder of their own and
writes one cleaned text file a topic.

    tools/train_demo/gather.py WORK_DIR

Needs apt-get and dpkg of a Debian 12 machine (`apt-get update` first) and about 2 GB in WORK_DIR; installs nothing.
Writes WORK_DIR/text/TOPIC.train and TOPIC.valid (documents separated by the character U+001E) and
WORK_DIR/sources.json: package, version, topic, licence and bytes of text of each source.
"""
import argparse
import hashlib
import json
import multiprocessing
import pathlib
import random
import re
import subprocess

import text_readers
from sources import SOURCES, TOPICS

SEPARATOR = "\x1e"
TOOL_PACKAGE = "mandoc"  # formats manual pages
VALIDATION_SHARE = 0.015
REPEATED_PARAGRAPH = 60  # shorter ones may repeat


def download(packages, folder):
    """Fetches those packages that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [p for p in packages if not list(folder.glob(f"{p}_*.deb"))]
    if missing:
        subprocess.run(["apt-get", "download", *missing], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def unpack(package, downloads, folder):
    """The folder with the package's files; its version."""
    archive = next(downloads.glob(f"{package}_*.deb"))
    target = folder / package
    if not target.exists():
        subprocess.run(["dpkg-deb", "-x", archive, target], check=True)
    version = subprocess.run(["dpkg-deb", "-f", archive, "Version"], check=True, capture_output=True, text=True)
    return target, version.stdout.strip()


def documents_of(job):
    """(source, its version, its documents): cut to the source's limit by a seeded choice of documents."""
    source, downloads, unpacked, mandoc = job
    target, version = unpack(source.package, downloads, unpacked)
    paths = sorted(target.glob(source.files))
    if source.files.endswith("*.html"):  # the default language, where a page is there in several
        paths = [p for p in paths if not re.search(r"\.[a-z]{2}(-[a-z]+)?\.html$", p.name)
                 or re.search(r"\*\.[a-z]{2}\.html$", source.files)]
    found = list(text_readers.readers(mandoc)[source.reader](paths))
    random.Random(source.package + source.topic).shuffle(found)
    kept, size = [], 0
    for name, text in found:
        if size > source.limit_mb * 1e6:
            break
        kept.append((name, text))
        size += len(text)
    kept.sort()
    return source, version, kept


def without_repeats(text, seen):
    """The text less the long paragraphs that came before anywhere."""
    kept = []
    for paragraph in text.split("\n\n"):
        if len(paragraph) >= REPEATED_PARAGRAPH:
            key = hashlib.blake2b(re.sub(r"\s+", " ", paragraph).encode(), digest_size=8).digest()
            if key in seen:
                continue
            seen.add(key)
        kept.append(paragraph)
    return "\n\n".join(kept)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    downloads, unpacked, texts = args.work / "debs", args.work / "unpacked", args.work / "text"
    download(sorted({s.package for s in SOURCES} | {TOOL_PACKAGE}), downloads)
    tool, _ = unpack(TOOL_PACKAGE, downloads, unpacked)
    jobs = [(source, downloads, unpacked, str(tool / "usr/bin/mandoc")) for source in SOURCES]
    for package in {s.package for s in SOURCES}:
        unpack(package, downloads, unpacked)
    texts.mkdir(exist_ok=True)
    parts = {(topic, part): [] for topic in TOPICS for part in ("train", "valid")}
    record, seen = [], set()
    with multiprocessing.Pool(args.processes) as pool:
        for source, version, found in pool.imap(documents_of, jobs):
            size = 0
            for name, text in found:
                text = without_repeats(text, seen).replace(SEPARATOR, "")
                if len(text) < 200:
                    continue
                size += len(text.encode())
                choice = hashlib.blake2b(f"{source.package}/{name}".encode(), digest_size=4).digest()
                held_out = int.from_bytes(choice, "little") < VALIDATION_SHARE * 2**32
                parts[source.topic, "valid" if held_out else "train"].append(text)
            record.append({"package": source.package, "version": version, "topic": source.topic,
                           "licence": source.licence, "documents": len(found), "bytes": size})
            print(f"{source.topic:11} {source.package:24} {len(found):6} documents {size / 1e6:7.2f} MB", flush=True)
    for (topic, part), documents in parts.items():
        (texts / f"{topic}.{part}").write_text(SEPARATOR.join(documents), encoding="utf-8")
        print(f"{topic}.{part}: {len(documents)} documents, {sum(map(len, documents)) / 1e6:.2f} M characters")
    (args.work / "sources.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
