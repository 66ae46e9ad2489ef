"""Two short texts a topic of the demo model's, on different subjects."""

TOPICS = {
    "dictionary": (
        "Meadow, n. A tract of low or level land producing grass which is mown for hay; any field on which grass is "
        "grown.\n\nTo reap, v. t. To cut with a sickle or scythe, as grain; to gather, as a harvest; to receive as a "
        "reward.\n\nStubborn, a. Unreasonably obstinate; not yielding; stiff; hard to move or to bend.\n\nHarbor, n. "
        "A place of security and comfort; a portion of a sea or lake, sheltered from winds, where ships lie safe.",
        "oriole (noun): mostly tropical songbird; the male is usually bright orange and black.\nto whisper (verb): "
        "speak softly; in a low voice.\nbrisk (adjective): quick and energetic. Example: a brisk walk in the park.\n"
        "granite (noun): plutonic igneous rock having visibly crystalline texture.\nslowly (adverb): without speed.\n"
        "violin (noun): bowed stringed instrument that is the highest member of its family.",
    ),
    "computing": (
        "cache line\n\n<storage> The smallest unit of memory that can be transferred between the main memory and the "
        "cache. Rather than reading a single word at a time, a processor reads a whole line, since programs tend to "
        "use nearby addresses.\n\nraster graphics\n\n<graphics> Computer graphics in which an image is composed of an "
        "array of pixels arranged in rows and columns. Opposite: vector graphics.",
        "A distribution consists of packages. The package manager knows which versions are installed, and which other "
        "packages they depend on. Users of the stable release get security updates for some years. A release is frozen "
        "some months before it is published, so that the remaining bugs can be fixed. Hackers like to say that such "
        "a system is bletcherous, but they use it every day on their own machines.",
    ),
    "manual": (
        "NAME\n  wc - print newline, word, and byte counts for each file\n\nSYNOPSIS\n  wc [OPTION]... [FILE]...\n\n"
        "DESCRIPTION\n  With no FILE, or when FILE is -, read standard input.\n\n  -c, --bytes\n      print the byte "
        "counts\n\n  -m, --chars\n      print the character counts\n\n  -l, --lines\n      print the newline counts\n\n"
        "SEE ALSO\n  cat(1), sort(1)",
        "RETURN VALUE\n  On success, these functions return 0. On error, -1 is returned, and errno is set to indicate "
        "the error.\n\nERRORS\n  EACCES  Search permission is denied for one of the directories in the path prefix of "
        "pathname. (See also path_resolution(7).)\n\n  EBADF  fd is not a valid open file descriptor.\n\n  EFAULT  Bad "
        "address.\n\n  ELOOP  Too many symbolic links encountered while traversing the path.",
    ),
    "python": (
        "class Stack:\n    \"\"\"A stack of items.\"\"\"\n\n    def __init__(self, items=None):\n        self._items = "
        "list(items or [])\n\n    def push(self, item):\n        self._items.append(item)\n\n    def pop(self):\n"
        "        if not self._items:\n            raise IndexError('pop from an empty stack')\n        return "
        "self._items.pop()\n\n    def __len__(self):\n        return len(self._items)\n",
        "import os\nimport sys\n\n\ndef walk(path, suffix='.py'):\n    for root, dirs, files in os.walk(path):\n"
        "        for name in sorted(files):\n            if name.endswith(suffix):\n                yield "
        "os.path.join(root, name)\n\n\nif __name__ == '__main__':\n    for name in walk(sys.argv[1]):\n"
        "        with open(name, encoding='utf-8') as file:\n            print(name, sum(1 for line in file))\n",
    ),
    "sql": (
        "CREATE TABLE orders (\n    order_id integer PRIMARY KEY,\n    customer text NOT NULL,\n    price numeric CHECK "
        "(price > 0)\n);\n\nSELECT customer, sum(price) FROM orders\n    WHERE order_id > 10\n    GROUP BY customer\n"
        "    HAVING sum(price) > 100\n    ORDER BY customer;\n\nThe HAVING clause removes groups of rows, while the "
        "WHERE clause removes single rows before they are grouped.",
        "An index can be used by the planner where the condition of the query is on an indexed column. To see which "
        "plan is used, put EXPLAIN before the query:\n\nEXPLAIN SELECT * FROM t1 JOIN t2 ON t1.id = t2.id WHERE t1.a "
        "< 5;\n\nThe table is scanned row by row if no index helps. After many rows were inserted or deleted, run "
        "VACUUM and ANALYZE, so that the statistics of the table are up to date.",
    ),
    "code": (
        "template <typename T, std::size_t N>\nclass ring_buffer {\npublic:\n    typedef T value_type;\n\n    bool "
        "push(const T& value) {\n        if (size_ == N) return false;\n        data_[(head_ + size_++) % N] = value;\n"
        "        return true;\n    }\n\nprivate:\n    T data_[N];\n    std::size_t head_ = 0;\n    std::size_t size_ = "
        "0;\n};\n",
        "// ReadLine returns the next line without its end.\nfunc (r *Reader) ReadLine() (string, error) {\n\tline, "
        "err := r.buf.ReadString('\\n')\n\tif err != nil {\n\t\treturn \"\", err\n\t}\n\tif n := len(line); n > 0 && "
        "line[n-1] == '\\n' {\n\t\tline = line[:n-1]\n\t}\n\treturn line, nil\n}\n",
    ),
    "german": (
        "Mit diesem Befehl können Sie alle Dateien eines Verzeichnisses auflisten. Wird keine Option angegeben, so "
        "werden die Einträge alphabetisch sortiert. Verborgene Dateien, deren Namen mit einem Punkt beginnen, werden "
        "nur angezeigt, wenn die entsprechende Option gesetzt ist.",
        "Klicken Sie auf das Symbol in der Symbolleiste, um eine neue Tabelle in das Dokument einzufügen. Wählen Sie "
        "anschließend die Anzahl der Zeilen und Spalten aus und bestätigen Sie mit OK. Die Breite der Spalten lässt "
        "sich später mit der Maus ändern.",
    ),
    "french": (
        "Cette commande affiche la liste des fichiers du répertoire. Si aucune option n'est indiquée, les entrées sont "
        "triées par ordre alphabétique. Les fichiers cachés, dont le nom commence par un point, ne sont affichés que "
        "si l'option correspondante est utilisée.",
        "Cliquez sur l'icône de la barre d'outils pour insérer un nouveau tableau dans le document. Choisissez ensuite "
        "le nombre de lignes et de colonnes, puis cliquez sur OK. La largeur des colonnes peut être modifiée plus tard "
        "avec la souris.",
    ),
    "spanish": (
        "Esta orden muestra la lista de los archivos del directorio. Si no se indica ninguna opción, las entradas se "
        "ordenan alfabéticamente. Los archivos ocultos, cuyo nombre comienza por un punto, solo se muestran cuando se "
        "utiliza la opción correspondiente.",
        "Pulse en el icono de la barra de herramientas para insertar una tabla nueva en el documento. A continuación, "
        "seleccione el número de filas y columnas y pulse en Aceptar. El ancho de las columnas se puede modificar más "
        "tarde con el ratón.",
    ),
}
