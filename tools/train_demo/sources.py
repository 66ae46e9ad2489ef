"""The Debian packages that the demo model learns from: freely licensed text, by topic.

`READERS` of text_readers.py turn a package's files into documents. Licences are those that the packages'
copyright files state for the text that is read.
"""
import dataclasses

TOPICS = ("dictionary", "computing", "manual", "python", "sql", "code", "german", "french", "spanish")


@dataclasses.dataclass(frozen=True)
class Source:
    package: str
    topic: str  # of TOPICS
    reader: str  # a key of text_readers.READERS
    licence: str
    files: str = "**/*"  # glob below the unpacked package
    limit_mb: float = 8.0  # at most so much text of it is kept


def _manuals(topic, licence_of):
    return [Source(package, topic, "man", licence, "usr/share/man/man*/*.gz", 7.0) for package, licence in licence_of]


GPL2, GPL3, LGPL = "GPL-2+", "GPL-3+", "LGPL-2.1+"
_LINUX_MAN = "man-pages licences (verbatim, GPL-2+, BSD)"

SOURCES = [
    Source("wordnet-base", "dictionary", "wordnet", "WordNet 3.0 licence (MIT-like)", "usr/share/wordnet/data.*", 20),
    Source("dict-gcide", "dictionary", "dict", GPL2, "usr/share/dictd/gcide.dict.dz", 30),
    Source("dict-devil", "dictionary", "dict", "public domain", "usr/share/dictd/*.dict.dz"),
    Source("dict-foldoc", "computing", "dict", "GFDL-1.1+ without invariant sections",
           "usr/share/dictd/foldoc.dict.dz"),
    Source("dict-jargon", "computing", "dict", "public domain", "usr/share/dictd/jargon.dict.dz"),
    Source("debian-history", "computing", "html", GPL2, "usr/share/doc/debian-history/docs/*.en.html"),
    Source("debian-faq", "computing", "html", GPL2, "usr/share/doc/debian/FAQ/*.en.html"),
    Source("debian-reference-en", "computing", "html", GPL2, "usr/share/debian-reference/*.en.html"),
    Source("debian-handbook", "computing", "html", "GPL-2+ or CC-BY-SA-3.0", "usr/share/doc/**/en-US/*.html"),
    Source("developers-reference", "computing", "html", "GPL-2", "usr/share/developers-reference/*.html"),
    Source("aptitude-doc-en", "computing", "html", GPL2, "usr/share/doc/aptitude/html/en/*.html"),
    Source("bind9-doc", "computing", "html", "MPL-2.0", "usr/share/doc/**/*.html", 3),
    *_manuals("manual", [
        ("manpages", _LINUX_MAN), ("manpages-dev", _LINUX_MAN), ("git-man", "GPL-2"), ("coreutils", GPL3),
        ("util-linux", GPL2), ("systemd", LGPL), ("procps", "GPL-2+, LGPL-2+"), ("iproute2", "GPL-2"),
        ("openssh-client", "BSD"), ("curl", "curl (MIT-like)"), ("gpg", GPL3), ("apt", GPL2), ("dpkg", GPL2),
        ("dpkg-dev", GPL2), ("findutils", GPL3), ("bash", GPL3), ("tar", GPL3), ("lvm2", "GPL-2"),
        ("btrfs-progs", "GPL-2"), ("e2fsprogs", "GPL-2"), ("rsync", GPL3), ("openssl", "Apache-2.0"),
        ("tcl8.6-doc", "Tcl/Tk (BSD-like)"), ("grep", GPL3), ("sed", GPL3), ("gawk", GPL3), ("diffutils", GPL3),
        ("less", "less licence (BSD-like) or GPL-3+"), ("wget", GPL3), ("gzip", GPL3),
        ("xz-utils", "public domain, GPL-2+"),
        ("passwd", "BSD-3-Clause"), ("mount", GPL2), ("tmux", "ISC"), ("screen", GPL3),
        ("binutils-common", "GFDL-1.3+ without invariant sections, GPL-3+"),
        ("strace", LGPL), ("gdb", GPL3), ("make", GPL3), ("cron", "Paul Vixie's licence"), ("psmisc", GPL2),
        ("net-tools", GPL2), ("iputils-ping", "BSD-3-Clause, GPL-2+"), ("bind9-dnsutils", "MPL-2.0"),
        ("zip", "Info-ZIP (BSD-like)"), ("unzip", "Info-ZIP (BSD-like)"),
        ("nano", "GPL-3+ or GFDL-1.2+ without invariant sections"),
        ("vim-common", "Vim licence"), ("bc", GPL2), ("file", "BSD-2-Clause")]),
    Source("perl-doc", "manual", "man", "GPL-1+ or Artistic", "usr/share/man/man1/*.gz", 5),
    Source("libssl-doc", "manual", "man", "Apache-2.0", "usr/share/man/man3/*.gz", 3),
    Source("cmake-data", "code", "code", "BSD-3-Clause", "usr/share/cmake-*/**/*.cmake", 3),
    Source("python3.11-doc", "python", "rst", "PSF-2.0", "usr/share/doc/python3.11/html/_sources/**/*.txt", 15),
    Source("libpython3.11-stdlib", "python", "code", "PSF-2.0", "usr/lib/python3.11/**/*.py", 8),
    Source("python3-django", "python", "code", "BSD-3-Clause", "usr/lib/python3/**/*.py", 4),
    Source("python-django-doc", "python", "html", "BSD-3-Clause", "usr/share/doc/**/*.html", 6),
    Source("python-sqlalchemy-doc", "sql", "html", "MIT", "usr/share/doc/**/*.html", 5),
    Source("postgresql-doc-15", "sql", "html", "PostgreSQL", "usr/share/doc/**/*.html", 12),
    Source("postgresql-15", "sql", "code", "PostgreSQL", "usr/share/postgresql/15/**/*.sql", 4),
    Source("sqlite3-doc", "sql", "html", "public domain", "usr/share/doc/**/*.html", 9),
    Source("golang-1.19-src", "code", "code", "BSD-3-Clause", "usr/share/go-1.19/src/**/*.go", 12),
    Source("libboost1.74-dev", "code", "code", "BSL-1.0", "usr/include/boost/**/*.hpp", 5),
    Source("libstdc++-12-dev", "code", "code", "GPL-3+ with GCC exception", "usr/include/c++/12/**/*", 5),
    Source("linux-libc-dev", "code", "code", "GPL-2 with syscall exception", "usr/include/linux/**/*.h", 3),
    Source("nlohmann-json3-dev", "code", "code", "MIT", "usr/include/**/*.hpp", 1),
    Source("cmake-doc", "code", "rst", "BSD-3-Clause", "usr/share/doc/**/*.rst.txt", 4),
    Source("dict-freedict-deu-eng", "german", "dict", "GPL-3+", "usr/share/dictd/*.dict.dz", 6),
    Source("dict-freedict-fra-eng", "french", "dict", "GPL-2+", "usr/share/dictd/*.dict.dz", 4),
    Source("dict-freedict-spa-eng", "spanish", "dict", "GPL-2+", "usr/share/dictd/*.dict.dz", 4),
]

for _language, _code, _rest in (
        ("german", "de", [("debian-faq", "usr/share/doc/**/*.de.html"),
                          ("developers-reference", "usr/share/developers-reference/de/*.html")]),
        ("french", "fr", [("debian-faq", "usr/share/doc/**/*.fr.html"),
                          ("developers-reference", "usr/share/developers-reference/fr/*.html"),
                          ("aptitude-doc", "usr/share/doc/**/*.html")]),
        ("spanish", "es", [("aptitude-doc", "usr/share/doc/**/*.html")])):
    SOURCES += [Source(f"manpages-{_code}{_suffix}", _language, "man", "GPL-3+ and the originals' licences",
                       f"usr/share/man/{_code}/man*/*.gz", 10) for _suffix in ("", "-dev")]
    SOURCES += [
        Source(f"libreoffice-help-{_code}", _language, "html", "MPL-2.0",
               "usr/share/libreoffice/help/*/text/**/*.html", 10),
        Source(f"debian-reference-{_code}", _language, "html", GPL2, f"usr/share/debian-reference/*.{_code}.html"),
        Source(f"debian-edu-doc-{_code}", _language, "html", GPL2, "usr/share/doc/**/*.html"),
        Source("debian-handbook", _language, "html", "GPL-2+ or CC-BY-SA-3.0", f"usr/share/doc/**/{_code}-*/*.html"),
        Source("installation-guide-amd64", _language, "html", "GPL-2", f"usr/share/doc/**/{_code}/*.html"),
        *[Source(f"{_package}-{_code}", _language, "html", "GPL-2 (developers-reference), GPL-2+",
                 _files) for _package, _files in _rest]]
