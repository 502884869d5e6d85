#!/bin/sh
# After a removal. The data stays, and with it the user that it belongs to: another user
# of that number could read the master key.
set -e

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
if [ "$1" = purge ] && [ ! -e /var/lib/signalbox ] && [ ! -e /etc/signalbox ] && getent passwd signalbox >/dev/null; then
	userdel signalbox
fi
