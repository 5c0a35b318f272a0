#!/bin/bash
# SPDX-License-Identifier: MIT
# First process of a small guest: what systemd would mount, udev, the tests.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs tmp /tmp
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
[ ! -d /sys/kernel/debug ] || mount -t debugfs debug /sys/kernel/debug
[ ! -d /sys/kernel/security ] || mount -t securityfs security /sys/kernel/security
[ ! -d /sys/kernel/tracing ] || mount -t tracefs tracing /sys/kernel/tracing
/lib/systemd/systemd-udevd --daemon
# Of what was there before udev, only the port to the host matters.
udevadm trigger --action=add --subsystem-match=virtio-ports
mount -o ro /dev/vdb /m4 && /m4/guest/main.sh
sync
echo o >/proc/sysrq-trigger
while :; do sleep 60; done
