#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs every case file of the guest and sends the reports to the host, whose
# run.sh waits for the last line, "done".
cd /m4/guest || exit 1
# What this kind of guest is and has, for the cases too: KIND, ARCH, HAS_...
set -a
# shellcheck disable=SC1091
. /m4/kind.env
set +a
# shellcheck source=tests/vm/guest/lib.sh
. ./lib.sh

modprobe virtio_console
wait_for 60 test -c /dev/virtio-ports/m4.results || exit 1
exec 3>/dev/virtio-ports/m4.results

# Reports go to the host; whatever else a case says is a remark.
forward() { sed -uE 's/^(ok |not ok |skip |# )/\1/; t; s/^/# /' >&3; }

for file in [0-9]*.sh; do
	start=$SECONDS
	bash "./$file" 2>&1 < /dev/null | forward
	status=${PIPESTATUS[0]}
	[ "$status" -eq 0 ] || echo "not ok $file: exited with $status" >&3
	echo "# $file took $((SECONDS - start)) s" >&3
done

# What the module allocated and forgot. kmemleak tells after the second scan, of
# what is some seconds old; of an unloaded module it has but addresses.
if [ "$IS_DEBUG" = 1 ]; then
	start=$SECONDS
	[ ! -d /sys/module/m4 ] || rmmod m4
	echo scan >/sys/kernel/debug/kmemleak
	sleep 6
	echo scan >/sys/kernel/debug/kmemleak
	cat /sys/kernel/debug/kmemleak >/run/leaks
	if grep -E '\[m4\]|\] 0xffffffff[0-9a-f]{8}$' /run/leaks >/run/ours; then
		sed 's/^/# /' /run/leaks >&3
		echo "not ok kmemleak: $(head -n 1 /run/ours)" >&3
	else
		echo "ok kmemleak: nothing of a module's is lost" >&3
	fi
	echo "# kmemleak took $((SECONDS - start)) s" >&3
fi

# Any complaint of the kernel fails the run, whoever caused it.
if dmesg | grep -E "$COMPLAINTS" >/run/complaints; then
	sed 's/^/# /' /run/complaints >&3
	echo "not ok kernel log: $(head -n 1 /run/complaints)" >&3
else
	echo "ok kernel log: no warning" >&3
fi
echo 'done' >&3
sync
