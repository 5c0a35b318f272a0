#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: MIT
# First process of the guest's initrd: the modules of the root disk, then the
# root, the kernel's modules in it, and its own first process.
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sysfs /sys
$busybox mount -t devtmpfs dev /dev
while read -r module; do
	$busybox insmod "/lib/$module"
done </lib/order
tries=0
while [ ! -b /dev/vdc ]; do
	tries=$((tries + 1))
	if [ "$tries" -gt 600 ]; then
		echo "initrd: the disks did not appear"
		$busybox poweroff -f
	fi
	$busybox usleep 100000
done
$busybox mount -t ext4 /dev/vda /root || $busybox poweroff -f
$busybox mount -t ext4 /dev/vdc /root/lib/modules || $busybox poweroff -f
$busybox mount --move /dev /root/dev
$busybox umount /sys
$busybox umount /proc
exec $busybox switch_root /root /sbin/init
