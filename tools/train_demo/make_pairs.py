#!/usr/bin/env python3
"""Makes question-answer pairs by rule from the gathered packages.

    tools/train_demo/make_pairs.py WORK_DIR        (after gather.py)

Writes WORK_DIR/pairs.train.jsonl and pairs.heldout.jsonl; a line is {"topic", "name", "kind", "question",
"answer"}. All questions about a held-out name are held out, in every language; what the plain text says about it
stays. Words that are common in the text are asked for more often.
"""
import argparse
import collections
import hashlib
import json
import pathlib
import random
import re

import questions as q
import text_readers as readers
from sources import SOURCES, TOPICS

HELD_OUT_SHARE = 0.03
LONGEST_ANSWER = 260
rng = random.Random(20)


def held_out(name):
    digest = hashlib.blake2b(f"held out {name.lower()}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") < HELD_OUT_SHARE * 2**32


def word_counts(work):
    counts = collections.Counter()
    for topic in TOPICS:
        text = (work / "text" / f"{topic}.train").read_text(encoding="utf-8")
        counts.update(re.findall(r"\w+", text.lower()))
    return counts


def first_sentence(text, longest=LONGEST_ANSWER):
    text = re.sub(r"\s+", " ", text).strip()
    match = re.match(r"(.+?[^.A-Z)])\.(\s+[A-ZÄÖÜÉÀ(¿]|\s*$)", text)
    text = match.group(1) if match else text.rstrip(".")
    return text if 8 <= len(text) <= longest else ""


# ---- each source: (topic, kind, name, question templates, answer, how often) --------------------------

def sense_counts(folder):
    """Tags in the sense-tagged texts by (lemma, part of speech)."""
    parts = {"1": "noun", "2": "verb", "3": "adjective", "4": "adverb", "5": "adjective"}
    counts = collections.Counter()
    for line in (folder / "cntlist.rev").read_text().split("\n"):
        if line:
            key, _, tags = line.split()
            lemma, rest = key.split("%")
            counts[lemma.replace("_", " "), parts[rest[0]]] += int(tags)
    return counts


def wordnet(work, counts):
    folder = work / "unpacked/wordnet-base/usr/share/wordnet"
    tags = sense_counts(folder)
    greetings = {asked.lower().strip("!?.") for questions, _ in q.TALK for asked in questions}
    words = {}  # lemma in lower case -> {part: (lemma, first sense's gloss)}
    for part, file in (("noun", "noun"), ("verb", "verb"), ("adjective", "adj"), ("adverb", "adv")):
        data = (folder / f"data.{file}").read_bytes()
        for line in (folder / f"index.{file}").read_text().split("\n"):
            if not line or line.startswith("  "):
                continue
            fields = line.split()
            lemma, offset = fields[0].replace("_", " "), int(fields[-int(fields[2])])
            entry = data[offset:data.index(b"\n", offset)].decode()
            gloss = re.split(r'; "|"', entry.split(" | ", 1)[1])[0].strip(" ;:")
            own = re.search(rf" ({re.escape(fields[0])})(\([a-z]+\))? ", entry, re.I)
            words.setdefault(lemma, {})[part] = (own.group(1).replace("_", " ") if own else lemma, gloss)
    for lemma, parts in words.items():
        seen = min(counts[w] for w in re.findall(r"\w+", lemma) or [""])
        if seen < (3 if " " not in lemma else 30) or not re.fullmatch(r"[a-z][a-z' -]+", lemma):
            continue
        order = sorted(parts, key=lambda part: -tags[lemma, part])
        name, gloss = parts[order[0]]
        if not 8 <= len(gloss) <= LONGEST_ANSWER:
            continue
        article = "an" if order[0][0] == "a" else "a"
        answer = f"{name[0].upper()}{name[1:]} is {article} {order[0]}: {gloss}."
        if len(order) > 1 and tags[lemma, order[1]] * 4 >= tags[lemma, order[0]]:
            second = parts[order[1]][1]
            if 8 <= len(second) <= 140:
                article = "an" if order[1][0] == "a" else "a"
                answer += f" It is also {article} {order[1]}: {second}."
        times = 1 + (seen >= 60) + 2 * (seen >= 600) + 2 * (seen >= 4000) if " " not in lemma else 1
        forms = [t for t in q.WORD if t != "{x}"] if lemma in greetings else q.WORD
        yield "dictionary", order[0], name, forms, answer, times


def terms(path, counts):
    """FOLDOC and the Jargon File: the first sentence of an entry."""
    del counts
    for head, body in readers.dict_entries(path):
        if head.startswith("00-database") or len(head) > 40:
            continue
        text = readers.clean_dict_text(readers.unwrap(body))
        subject = re.match(r"\s*<([a-z ,/-]+)>", text)
        text = re.sub(r"\A\s*<[^>]*>\s*|\A\s*(n|v|adj|vt|vi|quant|excl|interj|prov)\.\s*", "", text)
        text = re.sub(r"\A\s*(\[[^]]*\]|\d\.|/[^/]*/,?)\s*", "", text)
        answer = first_sentence(text)
        if answer and not re.match(r"(See|see|1\.|==)", answer):
            where = f" ({subject.group(1)})" if subject else ""
            yield "computing", "term", head.strip(), q.TERM, f"{head.strip()}{where}: {answer}.", 2


_NAME_HEADS = {"manual": "NAME", "german": "BEZEICHNUNG|NAME", "french": "NOM|NAME",
               "spanish": "NOMBRE|NAME"}


def manuals(work, topic, packages, mandoc, language):
    heads = _NAME_HEADS[topic]
    kinds = q.KINDS[topic]
    for package in packages:
        folder = work / f"unpacked/{package}/usr/share/man" / language
        for path in sorted(folder.glob("man*/*.gz")):
            if path.is_symlink():
                continue
            text = readers.manual_text(path, mandoc)
            match = re.search(rf"^(?:{heads})\n((?:  +\S.*\n?)+)", text, re.M)
            if not match:
                continue
            line = re.sub(r"\s+", " ", match.group(1)).strip()
            parts = re.split(r" [-–—‒]+ ", line, maxsplit=1)
            if len(parts) < 2 or not 6 <= len(parts[1]) <= 200:
                continue
            section = path.parent.name[3:4]
            described = parts[1].rstrip(".")
            form = q.COMMAND if section in "18" else q.FUNCTION if section in "23" else q.PAGE
            for name in [n.strip() for n in parts[0].split(",")][:3]:
                if not re.fullmatch(r"[\w.:+@/-]{2,40}( [\w-]+)?", name):
                    continue
                answer = q.IS[topic].format(x=name, kind=kinds.get(section, kinds[""]), text=described)
                yield topic, "command" if section in "18" else "page", name, form[topic], answer, \
                    4 if section in "18" else 2


def python(work):
    folder = work / "unpacked/python3.11-doc/usr/share/doc/python3.11/html/_sources"
    sentence_of = re.compile(r"^\.\. (function|class|method|exception|data|decorator|attribute):: ([^\n(]+)[^\n]*\n"
                             r"(?: +(?!:)[^\n]*\n)*?\n+((?:   [^\n]+\n)+)", re.M)
    for path in sorted(folder.glob("library/*.txt")):
        text = re.sub(r":[a-z:+-]+:`[~!]?([^`<]*)(<[^`]*>)?`", r"\1", readers.read_text(path))
        module = re.search(r"\.\. (?:module|currentmodule):: (\S+)", text)
        about = re.search(r"\.\. module:: (\S+)\n(?:   [^\n]*\n)*?   :synopsis: ([^\n]+)", text)
        if about:
            yield "python", "module", about.group(1), [t.replace("{kind}", "module") for t in q.PYTHON], \
                f"{about.group(1)} is a Python module: {about.group(2).rstrip('.')}.", 3
        for kind, name, body in sentence_of.findall(text):
            name = re.sub(r"^async ", "", name.strip())
            answer = first_sentence(re.sub(r"[*`]", "", body))
            if not answer or answer.startswith("..") or not re.fullmatch(r"[\w.]+", name):
                continue
            if module and "." not in name and module.group(1) not in ("builtins", "__main__"):
                name = f"{module.group(1)}.{name}"
            article = "an" if kind[0] in "ae" else "a"
            yield "python", kind, name, [t.replace("{kind}", kind) for t in q.PYTHON], \
                f"{name} is {article} {kind} of Python: {answer}.".replace("a data of", "a value of"), 2


def sql(work):
    folder = work / "unpacked/postgresql-doc-15/usr/share/doc/postgresql-doc-15/html"
    for path in sorted(folder.glob("sql-*.html")) + sorted(folder.glob("app-*.html")):
        line = re.search(r"^ *([\w -]+) — ([^\n]+)", readers.html_text(readers.read_text(path)), re.M)
        if line:
            name, text = line.group(1).strip(), re.sub(r"\s+", " ", line.group(2)).strip().rstrip(".")
            kind = "an SQL command" if path.name.startswith("sql-") else "a program of PostgreSQL"
            yield "sql", "command", name, q.SQL, f"{name} is {kind}: {text}.", 8


def cmake(work):
    folder = work / "unpacked/cmake-doc/usr/share/doc/cmake-data/html/_sources"
    for part, kind in (("command", "command"), ("variable", "variable"), ("prop_tgt", "target property"),
                       ("module", "module"), ("prop_sf", "source property"), ("prop_gbl", "global property")):
        for path in sorted((folder / part).glob("*.txt")):
            text = re.sub(r":[a-z:+-]+:`[~!]?([^`<]*?) ?(<[^`]*>)?`", r"\1", readers.read_text(path))
            text = re.sub(r"^\.\. [^\n]*\n(\s+[^\n]*\n)*", "", text, flags=re.M)
            match = re.match(r"\s*(\S+)\n[-=]+\n\s*((?:[A-Z][^\n]*\n)(?:\S[^\n]*\n)*)", text)
            answer = match and first_sentence(match.group(2).replace("``", ""))
            if answer:
                name = match.group(1)
                yield "code", kind, name, [t.replace("{kind}", kind) for t in q.CMAKE], \
                    f"{name} is a {kind} of CMake: {answer}.", 2


def translations(work, topic, package, counts):
    path = next((work / f"unpacked/{package}/usr/share/dictd").glob("*.dict.dz"))
    entry = re.compile(r"^(\S[^/\n]*?) /[^\n]*/[^\n]*\n((?:(?!\S[^\n]* /)[^\n]*\n)+)", re.M)
    for name, body in entry.findall(readers.read_text(path)):
        seen = counts[name.lower()]
        if " " in name or len(name) < 3 or (topic == "german" and seen < 4):
            continue
        glosses = []
        for line in body.split("\n"):
            line = re.sub(r"<[^>]*>|\[[^]]*\]|\{[^}]*\}|/[^/]*/|^\s*\d+\.", "", line).strip(" ,;")
            if line and not re.match(r"(Synonym|see|Note|Antonym|\W|\")", line) and ":" not in line:
                glosses.append(_tidy_commas(line))
        text = "; ".join(glosses[:3])
        if 2 <= len(text) <= 120:
            yield topic, "translation", name, q.TRANSLATION[topic], \
                q.TRANSLATED[topic].format(x=name, text=text), 1 + (seen >= 20) + 2 * (seen >= 200)


def _tidy_commas(text):
    return re.sub(r"\s+", " ", re.sub(r"\s+([,;.])", r"\1", text))


def all_pairs(work):
    counts = word_counts(work)
    mandoc = str(work / "unpacked/mandoc/usr/bin/mandoc")
    dictd = "usr/share/dictd"
    yield from wordnet(work, counts)
    yield from terms(work / f"unpacked/dict-foldoc/{dictd}/foldoc.dict.dz", counts)
    yield from terms(work / f"unpacked/dict-jargon/{dictd}/jargon.dict.dz", counts)
    english = [s.package for s in SOURCES if s.topic == "manual"]
    yield from manuals(work, "manual", english, mandoc, "")
    for topic, code, package in (("german", "de", "deu"), ("french", "fr", "fra"), ("spanish", "es", "spa")):
        yield from manuals(work, topic, [f"manpages-{code}", f"manpages-{code}-dev"], mandoc, code)
        yield from translations(work, topic, f"dict-freedict-{package}-eng", counts)
    yield from python(work)
    yield from sql(work)
    yield from cmake(work)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path)
    work = parser.parse_args().work
    train, held, made, seen = [], [], collections.Counter(), set()
    for topic, kind, name, templates, answer, times in all_pairs(work):
        if (topic, name) in seen and topic != "manual":
            continue
        seen.add((topic, name))
        answer = re.sub(r"\s+", " ", answer)
        made[topic, kind] += 1
        chosen = [templates[0]] + rng.sample(templates[1:], min(times, len(templates)) - 1)
        if times == 1:
            chosen = [rng.choice(templates)]
        if held_out(name):
            held.append({"topic": topic, "name": name, "kind": kind, "question": templates[0].format(x=name),
                         "answer": answer})
            continue
        train += [{"topic": topic, "name": name, "kind": kind, "question": t.format(x=name), "answer": answer}
                  for t in chosen]
    for asked, answer in q.TALK:
        train += [{"topic": "talk", "name": "talk", "kind": "talk", "question": question, "answer": answer}
                  for question in asked for _ in range(30)]
    rng.shuffle(train)
    for name, pairs in (("train", train), ("heldout", held)):
        with open(work / f"pairs.{name}.jsonl", "w", encoding="utf-8") as out:
            out.writelines(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
    for (topic, kind), count in sorted(made.items()):
        print(f"{topic:11} {kind:18} {count:7}")
    print(f"{len(train)} pairs to train on, {len(held)} held out")


if __name__ == "__main__":
    main()
