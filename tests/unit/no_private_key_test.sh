#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The tree holds no private key: keys are made on the spot (make kmod-dev).
set -euo pipefail
cd "$(dirname "$0")/../.."
git rev-parse --is-inside-work-tree >/dev/null 2>&1 || {
	echo "not a git tree"
	exit 77
}
# Tracked files, and those that a careless `git add` would take.
found=$(git ls-files -z --cached --others --exclude-standard |
	xargs -0 grep -l -s -a -E -e '-----BEGIN [A-Z ]*PRIVATE KEY-----' || true)
[ -z "$found" ] || {
	echo "private keys: $found"
	exit 1
}
named=$(git ls-files -- '*.key' '*.p12' '*.pfx')
[ -z "$named" ] || {
	echo "named like private keys: $named"
	exit 1
}
