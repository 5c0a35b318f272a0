#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tests/vm/stage-system.sh BUILD STAGE: lay what BUILD installs, and an image
# for it, under STAGE/system. Leaves STAGE/system/absent with the reason where
# the build holds no daemon.
set -euo pipefail
build=$1
stage=$2
mkdir -p "$stage/system"
for program in m4d m4ctl m4fw; do
	if [ ! -x "$build/bin/$program" ]; then
		echo "$program is not built" >"$stage/system/absent"
		exit 0
	fi
done
echo "not staged yet" >"$stage/system/absent"
