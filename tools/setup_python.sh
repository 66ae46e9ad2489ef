#!/bin/sh
# Makes the Python virtual environment that the program embeds, or leaves it alone when it is up to
# date: setup_python.sh FOLDER [REQUIREMENTS...]
# Without REQUIREMENTS the project's requirements.txt is installed. Every package must be listed
# with its version: dependencies are not followed. Needs Debian's python3-venv, and no root.
set -eu

if [ $# -lt 1 ]; then
  echo "usage: $0 FOLDER [REQUIREMENTS...]" >&2
  exit 2
fi
folder=$1
shift
root=$(cd "$(dirname "$0")/.." && pwd)
[ $# -gt 0 ] || set -- "$root/requirements.txt"
python=/usr/bin/python3

# What the environment was made from; written last, so that a broken-off run is done again.
wanted=$({ "$python" --version; cat -- "$@"; } | sha256sum | cut -d ' ' -f 1)
stamp=$folder/.made-from
if [ -x "$folder/bin/python3" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
  exit 0
fi

if [ -e "$folder" ] && [ ! -f "$folder/pyvenv.cfg" ] && [ -n "$(ls -A -- "$folder")" ]; then
  echo "$0: not a virtual environment, left alone: $folder" >&2
  exit 1
fi
rm -f -- "$stamp"
"$python" -m venv --clear -- "$folder"
for requirements in "$@"; do
  # Through the interpreter: pip's own script cannot start from a path with a space in it.
  "$folder/bin/python3" -m pip install --quiet --disable-pip-version-check --no-deps \
    --requirement "$requirements"
done
printf '%s\n' "$wanted" >"$stamp"
