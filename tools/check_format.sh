#!/usr/bin/env bash
# Fails when a source file is not as clang-format writes it.
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files '*.h' '*.cc' | xargs -d '\n' clang-format --dry-run --Werror
echo "check_format: ok"
