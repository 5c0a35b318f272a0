#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Install the Debian packages of the named groups (build, test, vm, lint,
# nano). The list, with the reason for each, is the table in HACKING.md.
set -euo pipefail
cd "$(dirname "$0")/.."

packages_of() {
	awk -F '|' -v group="$1" '
		/^<!-- packages:begin -->/ { on = 1 }
		/^<!-- packages:end -->/ { on = 0 }
		on && NF >= 4 {
			gsub(/[ `]/, "", $2); gsub(/ /, "", $3)
			if ($3 == group) print $2
		}' HACKING.md
}

missing=()
for group in "$@"; do
	mapfile -t packages < <(packages_of "$group")
	if [ "${#packages[@]}" -eq 0 ]; then
		echo "install-deps: HACKING.md lists no package of group '$group'" >&2
		exit 1
	fi
	for package in "${packages[@]}"; do
		dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
			missing+=("$package")
	done
done
[ "${#missing[@]}" -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null || {
		echo "install-deps: run as root, or install sudo; missing: ${missing[*]}" >&2
		exit 1
	}
	as_root=(sudo)
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
