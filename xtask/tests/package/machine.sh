#!/bin/sh
# A machine for the package's test: this one's root over an overlay in memory, with a real systemd
# as process 1 of namespaces of its own. Only the network namespace is the caller's.
#
#   machine.sh outer MOUNT-POINT PACKAGES   boots; whoever ends the process ends the machine
#   machine.sh sweep MOUNT-POINT            removes the control groups of machines that have ended
#
# In a mount namespace of its own, where the mount point is free to use.
set -eu
stage=$1
root=$2
mount --make-rprivate /

# The group's name has the process that must live for the machine to live.
sweep() {
	for group in "$root"/labgate-machine-*; do
		[ -d "$group" ] && [ ! -d "/proc/${group##*-}" ] || continue
		find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
	done
}

case $stage in
outer | sweep)
	mount -t cgroup2 labgate-machine "$root"
	sweep
	[ "$stage" = outer ] || exit 0
	mkdir "$root/labgate-machine-$$"
	echo $$ >"$root/labgate-machine-$$/cgroup.procs"
	umount "$root"
	exec unshare --cgroup --ipc --pid --uts --fork --kill-child "$0" inner "$root" "$3"
	;;
esac

packages=$3
mount -t tmpfs labgate-machine "$root"
mkdir "$root/upper" "$root/work" "$root/root"
mount -t overlay -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" overlay "$root/root"
cd "$root/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf bpf sys/fs/bpf
mount -t tmpfs tmpfs dev
mkdir dev/pts dev/shm
for device in null zero full random urandom tty; do
	touch dev/$device
	mount --bind /dev/$device dev/$device
done
ln -s /proc/self/fd dev/fd
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs run
mount --bind "$packages" mnt
# What shows that one is there.
touch labgate-machine

# Of the services of this machine only the log's starts, and no policy forbids to start ours.
rm -rf etc/systemd/system/*.wants lib/systemd/system/*.wants usr/sbin/policy-rc.d
mkdir etc/systemd/system/sockets.target.wants
ln -s /lib/systemd/system/systemd-journald.socket etc/systemd/system/sockets.target.wants/
hostname gateway

mkdir .old
pivot_root . .old
cd /
umount -l .old
rmdir .old
# No clock, module or reboot of this machine is in its reach.
exec env -i container=labgate PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	setpriv --bounding-set=-sys_time,-sys_module,-sys_boot,-syslog \
	/lib/systemd/systemd --unit=basic.target --log-target=console --show-status=no
