#!/bin/sh
# Unpacks promtool from Debian's package `prometheus` without installing it (that would start a
# service): fetch_promtool.sh FOLDER. Does nothing when FOLDER/promtool is there. Needs root or sudo
# only when the package lists must be read anew.
set -eu

if [ $# -ne 1 ]; then
  echo "usage: $0 FOLDER" >&2
  exit 2
fi
folder=$1
[ ! -x "$folder/promtool" ] || exit 0
mkdir -p -- "$folder"
folder=$(cd -- "$folder" && pwd)

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
cd -- "$work"

download() { apt-get download -qq -o APT::Sandbox::User="$(id -un)" prometheus; }

if ! download 2>"$work/failure"; then
  # No package lists, or lists that name a version that is gone.
  if [ "$(id -u)" -eq 0 ]; then
    apt-get update -qq
  elif command -v sudo >/dev/null; then
    sudo apt-get update -qq
  else
    cat -- "$work/failure" >&2
    echo "run 'apt-get update' as root, or install sudo, and run this again" >&2
    exit 1
  fi
  download
fi
dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x -f - ./usr/bin/promtool
# Last and at once, so that a broken-off run is done again.
cp usr/bin/promtool "$folder/promtool.part"
mv -- "$folder/promtool.part" "$folder/promtool"
