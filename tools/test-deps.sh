#!/bin/sh
# Installs the real peers that the tests talk to. Debian or Ubuntu, as root or
# with sudo; elsewhere it says what is missing and stops.
set -eu
missing=""
need() { # program package
	PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need postfix postfix
need smtp-source postfix
need swaks swaks
need dnsmasq dnsmasq-base
need opendkim-testmsg opendkim-tools
need python3 python3
need openssl openssl
need unshare util-linux
need ip iproute2
need chromium chromium # looks at the pages of bench/report
need strace strace # sees whether a mail server syncs before its 250
perl -MNet::SSLeay -e1 2>/dev/null || missing="$missing libnet-ssleay-perl" # swaks speaks TLS through it
/usr/bin/python3 -c 'import dkim, nacl' 2>/dev/null || missing="$missing python3-dkim python3-nacl"
missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
[ -z "${missing# }" ] && exit 0
echo "test peers to install: $missing"
if ! command -v apt-get >/dev/null 2>&1; then
	echo "this is not Debian: install these by hand: Postfix (with smtp-source and smtp-sink), swaks with Perl's Net::SSLeay, dnsmasq, opendkim-testmsg, python3 with dkimpy and PyNaCl, openssl, unshare, ip, strace, Chromium as chromium" >&2
	exit 1
fi
SUDO=""
if [ "$(id -u)" != 0 ]; then
	SUDO=$(command -v sudo) || { echo "not root and no sudo: run as root: apt-get install $missing" >&2; exit 1; }
fi
# No daemon is started: policy-rc.d answers "no" for the time of the install.
if [ ! -e /usr/sbin/policy-rc.d ]; then
	printf '#!/bin/sh\nexit 101\n' | $SUDO tee /usr/sbin/policy-rc.d >/dev/null
	$SUDO chmod +x /usr/sbin/policy-rc.d
	trap '$SUDO rm -f /usr/sbin/policy-rc.d' EXIT
fi
$SUDO apt-get update -qq
DEBIAN_FRONTEND=noninteractive $SUDO apt-get install -y -qq --no-install-recommends $missing >/dev/null
