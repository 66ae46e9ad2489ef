"""Turns the files of Debian packages into plain-text documents, without markup and navigation.

Each reader takes the paths of a package's files and yields (name, text). READERS names them.
"""
import functools
import gzip
import html.parser
import re
import subprocess

_SPACES = re.compile(r"[ \t\u00a0]+")
_BLANKS = re.compile(r"\n{3,}")


def tidy(text):
    """Trailing space and runs of blank lines removed."""
    text = "\n".join(line.rstrip() for line in text.replace("\r", "").split("\n"))
    return _BLANKS.sub("\n\n", text).strip()


def read_text(path):
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    return data.decode("utf-8", errors="replace").replace("\ufffd", "")


def unwrap(lines):
    """Joins the lines of each paragraph; a line that starts an item or is indented further starts a new one."""
    out = []
    for line in lines:
        bare = line.strip()
        starts = re.match(r"(\d+\.|\([a-z]\)|[*•-]) ", bare)
        if out and bare and out[-1] and not starts and not out[-1].endswith(":"):
            out[-1] += " " + bare
        else:
            out.append(bare)
    return "\n".join(out)


# ---- dictionaries -------------------------------------------------------------------------------------

def dict_entries(path):
    """(headword line, body lines) of a dictd database; lines that start at the margin start entries."""
    head, body = None, []
    for line in read_text(path).split("\n"):
        if line and not line[0].isspace() and not re.match(r"(\d+\.|\(|\[|Syn:|--)", line):
            if head is not None and not body:  # a second headword, or a gloss at the margin (FreeDict)
                body = [line]
                continue
            if head is not None and "/" in head and body and body[-1].strip():  # FreeDict: glosses at the margin
                if not re.match(r"\S.* /[^/]+/|^\S+( \S+)* /", line):
                    body.append(line)
                    continue
            if head is not None:
                yield head, body
            head, body = line, []
        else:
            body.append(line)
    if head is not None:
        yield head, body


def clean_dict_text(text):
    text = re.sub(r"\[(1913 Webster|PJC|WordNet[^\]]*|Webster 1913[^\]]*|RP|AS|RH|GG|RDH|Century[^\]]*)( \+PJC)?\]", "",
                  text)
    text = re.sub(r"\((19|20)\d\d-\d\d-\d\d\)", "", text)
    text = re.sub(r"\{\(?((?:https?|ftp)://[^}\s]*)\)?\}", "", text)
    text = re.sub(r"[{}]", "", text)
    text = re.sub(r"\\([^\\\n]*)\\", "", text, count=1)  # the headword's pronunciation
    text = re.sub(r" /[^/\n]+/", "", text, count=1)
    return tidy(_SPACES.sub(" ", text).replace(" ,", ","))


def read_dict(paths):
    """Entries in runs of about 4 kB, so that a document is a page of the dictionary."""
    page, size = [], 0
    for path in paths:
        for number, (head, body) in enumerate(dict_entries(path)):
            if head.startswith("00-database"):
                continue
            text = clean_dict_text(head + "\n" + unwrap(body))
            if len(text) < 20:
                continue
            page.append(text)
            size += len(text)
            if size > 4000:
                yield f"{path.name}:{number}", "\n\n".join(page)
                page, size = [], 0
    if page:
        yield "last", "\n\n".join(page)


PARTS = {"n": "noun", "v": "verb", "a": "adjective", "s": "adjective", "r": "adverb"}


def wordnet_synsets(path):
    """(lemmas, part of speech, gloss, examples) of each synset in a WordNet data file."""
    for line in path.read_text(encoding="utf-8").split("\n"):
        if not line or line.startswith("  ") or "|" not in line:
            continue
        fields, gloss = line.split(" | ", 1)
        fields = fields.split(" ")
        count = int(fields[3], 16)
        lemmas = [re.sub(r"\((a|p|ip)\)$", "", w).replace("_", " ") for w in fields[4:4 + 2 * count:2]]
        examples = re.findall(r'"([^"]+)"', gloss)
        meaning = gloss.split('; "')[0].strip().strip(";")
        yield lemmas, PARTS[fields[2]], meaning, examples


def read_wordnet(paths):
    page, size = [], 0
    for path in paths:
        for number, (lemmas, part, meaning, examples) in enumerate(wordnet_synsets(path)):
            text = f"{', '.join(lemmas)} ({part}): {meaning}."
            if examples:
                text += " Example: " + "; ".join(examples) + "."
            page.append(text)
            size += len(text)
            if size > 4000:
                yield f"{path.name}:{number}", "\n".join(page)
                page, size = [], 0
    yield "last", "\n".join(page)


# ---- manual pages -------------------------------------------------------------------------------------

def manual_text(path, mandoc):
    """A manual page as text: sections at the margin, indents of 2, no head and foot lines."""
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    if len(data) < 300 or data.startswith(b".so "):
        return ""
    ran = subprocess.run([mandoc, "-K", "utf-8", "-T", "utf8", "-O", "indent=2,width=96"], input=data,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20)
    text = re.sub(r".\x08", "", ran.stdout.decode("utf-8", errors="replace"))
    lines = text.split("\n")[1:]
    while lines and not lines[-1].strip():
        lines.pop()
    return tidy("\n".join(lines[:-1]))


def read_man(paths, mandoc):
    for path in paths:
        if path.is_symlink():
            continue
        try:
            text = manual_text(path, mandoc)
        except (subprocess.TimeoutExpired, OSError):
            continue
        if len(text) > 200:
            yield path.name, text


# ---- HTML ---------------------------------------------------------------------------------------------

_BLOCKS = {"p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "dt", "dd", "table", "ul", "ol", "dl",
           "section", "blockquote", "title", "article"}
_SKIPPED = {"script", "style", "nav", "head", "button", "aside", "header", "footer", "svg", "form"}
_SKIPPED_CLASSES = re.compile(r"\b(nav\w*|toc|sphinxsidebar\w*|related|footer|header|headerlink|howtoget|sidebar\w*|"
                              r"copyright|legalnotice|menu|searchmenu|nosearch|bottomnav|topnav|indextable|genindex|"
                              r"docs-navigation-links|docs-sidebar\w*|hide|fancy_toc|fancy)\b")
_VOID = {"br", "img", "hr", "meta", "link", "input", "col", "wbr", "area", "base", "param", "source"}


class _Extractor(html.parser.HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.out, self.open, self.skipping, self.pre = [], [], 0, 0

    def handle_starttag(self, tag, attributes):
        if tag in _VOID:
            if tag == "br":
                self.out.append("\n")
            return
        attributes = dict(attributes)
        names = f"{attributes.get('class') or ''} {attributes.get('id') or ''}"
        skipped = tag in _SKIPPED or (tag != "body" and bool(_SKIPPED_CLASSES.search(names)))
        self.open.append((tag, skipped))
        self.skipping += skipped
        self.pre += tag == "pre"
        if tag in _BLOCKS or tag == "pre":
            self.out.append("\n\n" if tag in {"p", "pre", "h1", "h2", "h3", "h4", "table", "dl"} else "\n")
        if tag == "li":
            self.out.append("- ")
        if tag == "td" or tag == "th":
            self.out.append("  ")

    def handle_endtag(self, tag):
        while any(name == tag for name, _ in self.open):
            name, skipped = self.open.pop()
            self.skipping -= skipped
            self.pre -= name == "pre"
            if name in _BLOCKS or name == "pre":
                self.out.append("\n")
            if name == tag:
                break

    def handle_data(self, data):
        if not self.skipping:
            self.out.append(data if self.pre else re.sub(r"\s+", " ", data))


def html_text(text):
    extractor = _Extractor()
    extractor.feed(text)
    lines = "".join(extractor.out).replace("¶", "").replace("\u00a0", " ").split("\n")
    return tidy(re.sub(r"\n- *\n+", "\n- ", "\n".join(lines)))


def read_html(paths):
    for path in paths:
        if path.is_symlink() or re.search(r"genindex|search|bookindex|biblio|modindex|changelog", path.name):
            continue
        text = html_text(read_text(path))
        if len(text) > 300:
            yield path.name, text


# ---- sources and reStructuredText ---------------------------------------------------------------------

def read_rst(paths):
    for path in paths:
        text = read_text(path)
        text = re.sub(r"^\.\. (_[^\n]*:|index::|versionchanged::|sectionauthor::|moduleauthor::|highlight|only::)"
                      r"[^\n]*\n(   +[^\n]*\n)*", "", text, flags=re.M)
        text = re.sub(r":[a-z:+-]+:`[~!]?([^`<]*)(<[^`]*>)?`", r"\1", text)
        text = tidy(re.sub(r"``([^`]*)``", r"\1", text))
        if len(text) > 200:
            yield path.name, text


_LICENCE_HEAD = re.compile(r"\A\s*(/\*.*?\*/|(//[^\n]*\n)+|(#[^\n]*\n)+)\s*", re.S)


def read_code(paths):
    for path in paths:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > 400_000:
            continue
        if "test" in path.parts or path.name.endswith("_test.go") or "zsyscall" in path.name:
            continue
        text = read_text(path)
        if re.search(r"copyright|licen[cs]e", text[:3000], re.I):
            text = _LICENCE_HEAD.sub("", text, count=1)
        if len(text) < 200 or max(map(len, text.split("\n"))) > 1000:
            continue
        if len(re.findall(r"0x[0-9a-fA-F]{2,}|\b\d{3,}\b", text)) * 12 > len(text) / 4:  # tables of numbers
            continue
        yield path.name, tidy(text)


def readers(mandoc):
    return {"dict": read_dict, "wordnet": read_wordnet, "html": read_html, "rst": read_rst, "code": read_code,
            "man": functools.partial(read_man, mandoc=mandoc)}
