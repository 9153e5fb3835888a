#!/bin/sh
# Puts the mail servers that "hikyaku bench peers" compares with, and that
# conflict with Postfix as packages, into a directory: Exim and OpenSMTPD
# unpacked from Debian's packages, without installing them, and Haraka from npm.
# Nothing outside the directory changes.
#
#	sh tools/bench-peers.sh DIR && HIKYAKU_PEERS_DIR=DIR hikyaku bench peers
set -eu
[ $# -eq 1 ] || { echo "usage: sh tools/bench-peers.sh DIR" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
if command -v apt-get >/dev/null 2>&1 && command -v dpkg >/dev/null 2>&1; then
	mkdir -p "$dir/packages"
	# With the libraries that a machine without them lacks.
	(cd "$dir/packages" && apt-get download exim4-base exim4-daemon-light opensmtpd libdb5.3 libevent-2.1-7 libgnutls-dane0 libidn12 libnsl2 libunbound8)
	for p in "$dir"/packages/*.deb; do dpkg -x "$p" "$dir"; done
	rm -r "$dir/packages"
else
	echo "this is not Debian: install Exim and OpenSMTPD by hand, or go without" >&2
fi
if command -v npm >/dev/null 2>&1; then
	npm install --silent --no-audit --no-fund --prefix "$dir" Haraka@3.3.4
else
	echo "npm is not installed: going without Haraka" >&2
fi
