#!/bin/sh
# After an installation or an upgrade. dpkg says "configure" and the version that was
# there before; rpm says how many versions there are now.
set -e

getent group signalbox >/dev/null || groupadd --system signalbox
getent passwd signalbox >/dev/null ||
	useradd --system --gid signalbox --no-create-home --home-dir /var/lib/signalbox --shell /usr/sbin/nologin signalbox

case "$1" in
configure) upgraded=${2:-} ;;
1) upgraded= ;;
*) upgraded=yes ;;
esac

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	# Its listeners stay with systemd meanwhile, so no caller is refused.
	[ -z "$upgraded" ] || systemctl try-restart signalbox.service
fi
if [ -z "$upgraded" ] && [ ! -e /etc/signalbox/signalbox.yaml ]; then
	echo "signalbox is installed and not started. Next, with your own URL:"
	echo "  signalbox init --dir /etc/signalbox --data /var/lib/signalbox --issuer https://sts.example.com"
fi
