#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: MIT
# First process of the guest's initrd: the disk's modules, then systemd.
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sysfs /sys
$busybox mount -t devtmpfs dev /dev
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
	$busybox insmod "/lib/$module.ko"
done
tries=0
while [ ! -b /dev/vda ]; do
	tries=$((tries + 1))
	if [ "$tries" -gt 300 ]; then
		echo "initrd: the root disk did not appear"
		$busybox poweroff -f
	fi
	$busybox usleep 100000
done
$busybox mount -t ext4 /dev/vda /root || $busybox poweroff -f
$busybox mount --move /dev /root/dev
$busybox umount /sys
$busybox umount /proc
exec $busybox switch_root /root /sbin/init
