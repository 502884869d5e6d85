#!/bin/sh
# Before a removal, and in an upgrade, which changes nothing here.
set -e

case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now signalbox.service
	fi
	;;
esac
